import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from policies.artifact import (
    ArtifactNotFound,
    ArtifactRefused,
    canonical_bytes,
    load_artifact,
    save_artifact,
)
from policies.npz import save_npz
from policies.selftest import random_inputs
from policies.spec import PolicySpec
from tests.helpers.policy_specs import PLAIN, choice_graph, plain_inputs, save_graph, scored_graph, spliced

FILES = ("manifest.json", "manifest.sha256", "policy.onnx", "selftest.npz")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "sound"
    save_graph(folder, scored_graph(operator="Relu"))
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in saved.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _rewrite(folder: Path, **changes: Any) -> None:
    """Change a manifest by hand, as whoever edits an artifact would."""
    document = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(canonical_bytes({**document, **changes}))
    (folder / "manifest.sha256").unlink(missing_ok=True)


def _replace(folder: Path, name: str, data: bytes) -> None:
    """Put another file in place, with its digest."""
    (folder / name).write_bytes(data)
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    _rewrite(folder, files={**files, name: sha256(data).hexdigest()})


def _refusal(folder: Path) -> ArtifactRefused:
    with pytest.raises(ArtifactRefused) as caught:
        load_artifact(folder)
    assert caught.value.exit_code == 4
    assert str(folder) in str(caught.value)
    assert f"({caught.value.gate})" in str(caught.value)
    return caught.value


def test_a_saved_artifact_loads_with_its_identity(saved: Path) -> None:
    artifact = load_artifact(saved)
    ((arrays, mask),) = random_inputs(PLAIN, count=3, seed=0)

    assert artifact.spec == PLAIN
    assert artifact.identity == artifact.policy.identity == sha256((saved / "manifest.json").read_bytes()).hexdigest()
    assert artifact.recourse is None
    assert artifact.policy.propose(arrays, mask).shape == (3, 1, 3)


def test_the_manifest_says_what_the_format_says(saved: Path) -> None:
    document = json.loads((saved / "manifest.json").read_bytes())

    assert sorted(path.name for path in saved.iterdir()) == sorted(FILES)
    assert sorted(document) == ["files", "opset", "schema", "spec", "training"]
    assert document["schema"] == "penstock-artifact/1"
    assert document["files"]["policy.onnx"] == sha256((saved / "policy.onnx").read_bytes()).hexdigest()
    assert sorted(document["files"]) == ["policy.onnx", "selftest.npz"]
    assert (document["opset"], document["training"]) == (20, {"recipe": "planted"})
    assert msgspec.convert(document["spec"], PolicySpec) == PLAIN


def test_the_manifest_is_written_in_its_canonical_form(saved: Path) -> None:
    data = (saved / "manifest.json").read_bytes()

    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()


def test_the_seal_is_what_sha256sum_checks(saved: Path) -> None:
    digest = sha256((saved / "manifest.json").read_bytes()).hexdigest()

    assert (saved / "manifest.sha256").read_text() == f"{digest}  manifest.json\n"


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_graph(tmp_path / "again", scored_graph(operator="Relu"))

    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_saving_over_an_artifact_replaces_it_and_leaves_other_files(copy: Path) -> None:
    (copy / "evaluation.json").write_text("{}")
    before = load_artifact(copy).identity

    after = save_graph(copy, scored_graph(operator="Tanh"))

    assert load_artifact(copy).identity == after != before
    assert (copy / "evaluation.json").exists()
    assert not list(copy.parent.glob(".*"))


def test_a_failed_save_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither times nor paths, found '/home/me/log'"):
        save_artifact(
            tmp_path / "new",
            spec=PLAIN,
            graph=scored_graph(operator="Relu"),
            selftest={},
            provenance={"logs": [{"name": "/home/me/log"}]},
        )

    assert not (tmp_path / "new").exists()


def test_a_folder_named_by_the_identity_loads(saved: Path, tmp_path: Path) -> None:
    identity = load_artifact(saved).identity
    save_graph(tmp_path / identity, scored_graph(operator="Relu"))

    assert load_artifact(tmp_path / identity).identity == identity


def test_a_folder_named_by_another_identity_is_refused(copy: Path) -> None:
    folder = copy.rename(copy.parent / ("0" * 64))

    assert _refusal(folder).gate == "identity"


def test_a_folder_that_does_not_exist_is_a_problem_of_usage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFound, match="expected an artifact's folder") as caught:
        load_artifact(tmp_path / "none")

    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["manifest.json", "policy.onnx", "selftest.npz"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()

    refusal = _refusal(copy)

    assert (refusal.gate, name in refusal.detail) == ("missing_file", True)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    (copy / name).mkdir()

    assert _refusal(copy).gate == "missing_file"


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damaged_byte_of_any_file_is_refused(saved: Path, copy: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FILES))
    original = (saved / name).read_bytes()
    damaged = bytearray(original)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    (copy / name).write_bytes(damaged)

    refusal = _refusal(copy)

    (copy / name).write_bytes(original)
    assert name.startswith("manifest") or refusal.gate == "digest"


def test_a_cut_file_is_refused(copy: Path) -> None:
    path = copy / "policy.onnx"
    path.write_bytes(path.read_bytes()[:-1])

    assert _refusal(copy).gate == "digest"


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"schema": "penstock-artifact/2"}, "schema"),
        ({"spec": {"domain": "plain"}}, "spec"),
        ({"spec": None}, "spec"),
        ({"opset": "20"}, "manifest"),
        ({"opset": 19}, "operators"),
        ({"author": "me"}, "manifest"),
        ({"files": {}}, "files"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(copy: Path, changes: dict[str, Any], gate: str) -> None:
    _rewrite(copy, **changes)

    assert _refusal(copy).gate == gate


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_object_is_refused(copy: Path, data: bytes) -> None:
    (copy / "manifest.json").write_bytes(data)

    assert _refusal(copy).gate == "manifest"


@pytest.mark.parametrize(("name", "digest"), [("../secret", "0" * 64), ("policy.onnx", "0" * 63)])
def test_unknown_files_and_broken_digests_are_refused(copy: Path, name: str, digest: str) -> None:
    files = json.loads((copy / "manifest.json").read_bytes())["files"]
    _rewrite(copy, files={**files, name: digest})

    assert _refusal(copy).gate == "files"


def test_a_recourse_that_the_spec_does_not_have_is_refused(copy: Path) -> None:
    _replace(copy, "recourse.npz", save_npz({"kind": np.array("rounding")}))

    assert _refusal(copy).gate == "files"


def test_a_manifest_changed_by_hand_loads_only_without_its_seal(copy: Path) -> None:
    seal = (copy / "manifest.sha256").read_bytes()
    _rewrite(copy, training={"recipe": "another"})

    assert load_artifact(copy).manifest.training == {"recipe": "another"}
    (copy / "manifest.sha256").write_bytes(seal)
    assert _refusal(copy).gate == "identity"


@pytest.mark.parametrize("operator", ["Softplus", "Log"])
def test_a_batch_variant_graph_is_refused_at_load(tmp_path: Path, operator: str) -> None:
    save_graph(tmp_path / "variant", scored_graph(operator=operator))

    assert _refusal(tmp_path / "variant").gate == "batch_invariance"


def test_a_graph_that_varies_only_in_large_batches_is_refused_by_its_output(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["mask"], ["batch"], start=0, end=1),
        helper.make_node("Greater", ["batch", "thirty"], ["is_large"]),
        helper.make_node("Where", ["is_large", "near_one", "unit"], ["factor"]),
        helper.make_node("Mul", ["scores", "factor"], ["spliced"]),
    ]
    constants = {"thirty": np.array([30]), "near_one": np.float32(1.01), "unit": np.float32(1)}
    graph = spliced(scored_graph(operator="Relu"), "scores", nodes, constants=constants)
    save_graph(tmp_path / "variant", graph)

    refusal = _refusal(tmp_path / "variant")

    assert (refusal.gate, "in batches of" in refusal.detail) == ("batch_invariance", True)


def test_a_graph_whose_variance_is_rounded_away_is_refused_by_its_inner_values(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Softplus", ["active"], ["softplus"]),
        helper.make_node("Mul", ["softplus", "tiny"], ["rounded_away"]),
        helper.make_node("Add", ["active", "rounded_away"], ["spliced"]),
    ]
    constants = {"tiny": np.float32(1e-20)}
    graph = spliced(scored_graph(operator="Relu"), "active", nodes, constants=constants)
    save_graph(tmp_path / "variant", graph)

    refusal = _refusal(tmp_path / "variant")

    assert (refusal.gate, "made by Softplus" in refusal.detail) == ("batch_invariance", True)


def test_a_batch_variant_graph_put_in_place_is_refused_for_that_reason(copy: Path) -> None:
    save_graph(copy.parent / "variant", scored_graph(operator="Log"))
    for name in ("policy.onnx", "selftest.npz"):
        _replace(copy, name, (copy.parent / "variant" / name).read_bytes())

    assert _refusal(copy).gate == "batch_invariance"


def test_another_graph_in_place_fails_the_selftest(copy: Path) -> None:
    _replace(copy, "policy.onnx", scored_graph(operator="Tanh"))

    assert _refusal(copy).gate == "selftest"


@pytest.mark.parametrize("data", [b"no npz", save_npz({}), save_npz({"0/mask": np.ones((1, 1, 3), bool)})])
def test_selftest_vectors_that_cannot_be_read_are_refused(copy: Path, data: bytes) -> None:
    _replace(copy, "selftest.npz", data)

    assert _refusal(copy).gate == "selftest"


def test_a_graph_that_gives_no_distribution_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["mask"], ["probabilities"], to=TensorProto.FLOAT)
    save_graph(tmp_path / "ones", choice_graph([node], inputs=plain_inputs()))

    assert _refusal(tmp_path / "ones").gate == "output"


def test_bytes_that_are_no_graph_are_refused(copy: Path) -> None:
    _replace(copy, "policy.onnx", b"not a graph")

    assert _refusal(copy).gate == "graph"


def test_a_graph_with_foreign_operators_is_refused(copy: Path) -> None:
    node = helper.make_node("Cast", ["mask"], ["probabilities"], to=TensorProto.FLOAT)
    node.domain = "com.acme"
    _replace(copy, "policy.onnx", choice_graph([node], domains=("com.acme",)))

    assert _refusal(copy).gate == "operators"


def test_a_graph_with_a_frozen_batch_is_refused(copy: Path) -> None:
    frozen = helper.make_tensor_value_info("mask", TensorProto.BOOL, [1, 1, 3])
    node = helper.make_node("Cast", ["mask"], ["probabilities"], to=TensorProto.FLOAT)
    _replace(copy, "policy.onnx", choice_graph([node], inputs=[plain_inputs()[0], frozen]))

    assert _refusal(copy).gate == "signature"


def test_a_graph_that_fails_at_run_time_is_refused(copy: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["mask"], ["eligible"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["eligible", "row"], ["one"], axis=0),
        helper.make_node("Add", ["eligible", "one"], ["probabilities"]),
    ]
    _replace(copy, "policy.onnx", choice_graph(nodes, constants={"row": np.array([1000])}))

    assert _refusal(copy).gate == "selftest"
