from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

import optimizer.torch_graph
from optimizer.export import (
    ExportRefused,
    UnableToMakeConstant,
    check_parity,
    export_constant,
    export_policy,
    export_uniform,
    lint,
)
from optimizer.networks.default import default_network
from optimizer.plain_graph import constant_choice_graph, uniform_graph
from policies.artifact import ArtifactRefused, load_artifact
from policies.recourse.rounding import rounding_arrays
from policies.selftest import random_inputs
from policies.spec import PolicySpec, RecourseSpec
from tests.helpers.domains import WORKLOADS
from tests.helpers.policy_specs import ASSIGNMENT, BARE_QUANTITY, CHOICES, OWN_ACTIONS, PLAIN, QUANTITY, scored_graph

_PROVENANCE = {"recipe": "test", "seed": 1}


class Uniform(nn.Module):
    """The uniform policy of `PLAIN` in torch, for graphs that are compared to it."""

    def forward(self, mask: Tensor) -> Tensor:
        eligible = mask.float()
        return eligible / eligible.sum(dim=2, keepdim=True)


class _Shifted:
    """What torch gives, moved by a little."""

    def __init__(self, module: nn.Module, by: float) -> None:
        self._module, self._by = module, by

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        found: NDArray[np.floating] = self._module(mask=torch.from_numpy(mask)).numpy()
        return found.astype(np.float64) + self._by


def _network(spec: PolicySpec) -> nn.Module:
    torch.manual_seed(3)
    return default_network(spec, width=8, depth=1)


@pytest.mark.slow
@pytest.mark.parametrize("spec", [PLAIN, OWN_ACTIONS, ASSIGNMENT, QUANTITY], ids=lambda spec: spec.domain)
def test_a_network_becomes_an_artifact_that_equals_torch(spec: PolicySpec, tmp_path: Path) -> None:
    module = _network(spec)

    identity = export_policy(module, spec=spec, folder=tmp_path / "made", provenance=_PROVENANCE)

    artifact = load_artifact(tmp_path / "made")
    assert artifact.identity == identity
    assert artifact.manifest.training == _PROVENANCE
    for arrays, mask in random_inputs(spec, count=5, seed=8):
        with torch.no_grad():
            expected = module(**{name: torch.from_numpy(a) for name, a in {**arrays, "mask": mask}.items()}).numpy()
        found = artifact.policy.propose(arrays, mask)
        scale = 1e4 if spec.is_quantity else 1
        assert np.abs(found - expected).max() <= 1e-6 * scale


@pytest.mark.slow
def test_the_same_module_gives_the_same_bytes_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        export_policy(_network(PLAIN), spec=PLAIN, folder=Path("made"), provenance=_PROVENANCE)

    first, second = (tmp_path / name / "made" for name in ("first", "second"))
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in second.iterdir())
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert str(tmp_path).encode() not in (first / "policy.onnx").read_bytes()
    assert b"site-packages" not in (first / "policy.onnx").read_bytes()


@pytest.mark.parametrize("by", [2e-6, -2e-6, float("nan")])
def test_parity_refuses_what_differs_from_torch(by: float) -> None:
    groups = random_inputs(PLAIN, count=4, seed=0)

    with pytest.raises(ExportRefused, match="expected ONNX to equal torch to 1e-06"):
        check_parity(Uniform(), _Shifted(Uniform(), by), groups, spec=PLAIN)


def test_parity_passes_what_differs_by_rounding() -> None:
    check_parity(Uniform(), _Shifted(Uniform(), 5e-7), random_inputs(PLAIN, count=4, seed=0), spec=PLAIN)


def test_a_graph_that_differs_from_its_module_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = constant_choice_graph(PLAIN, np.array([0.5, 0.25, 0.25]))
    monkeypatch.setattr(optimizer.torch_graph, "graph_of", lambda module, *, spec: planted)

    with pytest.raises(ExportRefused, match="expected ONNX to equal torch"):
        export_policy(Uniform(), spec=PLAIN, folder=tmp_path / "made", provenance=_PROVENANCE)

    assert not (tmp_path / "made").exists()


def test_a_graph_that_equals_its_module_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer.torch_graph, "graph_of", lambda module, *, spec: uniform_graph(spec))

    identity = export_policy(Uniform(), spec=PLAIN, folder=tmp_path / "made", provenance=_PROVENANCE)

    assert load_artifact(tmp_path / "made").identity == identity


def test_an_artifact_that_a_gate_refuses_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ones(nn.Module):
        def forward(self, mask: Tensor) -> Tensor:
            return mask.float()

    node = helper.make_node("Cast", ["mask"], ["probabilities"], to=TensorProto.FLOAT)
    planted = uniform_graph(PLAIN)
    del planted.graph.node[:]
    planted.graph.node.append(node)
    monkeypatch.setattr(optimizer.torch_graph, "graph_of", lambda module, *, spec: planted)

    with pytest.raises(ArtifactRefused, match="output"):
        export_policy(Ones(), spec=PLAIN, folder=tmp_path / "made", provenance=_PROVENANCE)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("operator", ["Softplus", "Log", "Mish", "Sin", "RandomUniformLike"])
def test_operators_that_vary_or_draw_are_refused_by_name(operator: str) -> None:
    with pytest.raises(ExportRefused, match=f"found {operator}"):
        lint(onnx.load_from_string(scored_graph(operator=operator)))


@pytest.mark.parametrize("operator", ["Relu", "Tanh", "Exp"])
def test_operators_that_hold_pass(operator: str) -> None:
    lint(onnx.load_from_string(scored_graph(operator=operator)))


def test_functions_of_float64_are_refused() -> None:
    model = onnx.load_from_string(scored_graph(operator="Tanh"))
    model.graph.node.append(helper.make_node("Tanh", ["request"], ["double"]))

    with pytest.raises(ExportRefused, match="found Tanh"):
        lint(model)


@pytest.mark.parametrize("spec", CHOICES, ids=lambda spec: spec.domain)
def test_uniform_artifacts_give_each_eligible_action_the_same(spec: PolicySpec, tmp_path: Path) -> None:
    identity = export_uniform(spec, folder=tmp_path / "made")

    artifact = load_artifact(tmp_path / "made")
    assert artifact.identity == identity
    for arrays, mask in random_inputs(spec, count=5, seed=1):
        count = np.maximum(mask.sum(axis=2, keepdims=True), 1)
        assert artifact.policy.propose(arrays, mask) == pytest.approx(mask / count, abs=1e-7)


def test_constant_probabilities_share_the_mass_of_ineligible_actions(tmp_path: Path) -> None:
    export_constant(PLAIN, folder=tmp_path / "made", probabilities=(0.5, 0.3, 0.2))
    policy = load_artifact(tmp_path / "made").policy
    mask = np.array([[[True, True, True]], [[True, False, True]], [[False, False, True]]])

    found = policy.propose({}, mask)[:, 0]

    assert found[0] == pytest.approx(0.9 * np.array([0.5, 0.3, 0.2]) + 0.1 / 3, abs=1e-6)
    assert found[1] == pytest.approx([0.9 * 5 / 7 + 0.05, 0, 0.9 * 2 / 7 + 0.05], abs=1e-6)
    assert found[2] == pytest.approx([0, 0, 1], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_constants_of_any_shares_pass_the_gates(seed: int, tmp_path: Path) -> None:
    spec = WORKLOADS["ad_load"]().spec
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(spec.actions.ids or ())))
    export_constant(spec, folder=tmp_path / "made", probabilities=tuple(shares))


def test_constants_without_mass_on_eligible_actions_are_uniform_there(tmp_path: Path) -> None:
    export_constant(PLAIN, folder=tmp_path / "made", probabilities=(1, 0, 0))

    found = load_artifact(tmp_path / "made").policy.propose({}, np.array([[[False, True, True]]]))

    assert found.tolist() == [[[0.0, 0.5, 0.5]]]


@pytest.mark.parametrize("spec", [QUANTITY, BARE_QUANTITY], ids=lambda spec: spec.domain)
def test_constant_quantities_are_exact(spec: PolicySpec, tmp_path: Path) -> None:
    export_constant(spec, folder=tmp_path / "made", quantities=(0.1, 1, 12.3))
    ((arrays, mask),) = random_inputs(spec, count=4, seed=0)

    assert load_artifact(tmp_path / "made").policy.propose(arrays, mask).tolist() == [[0.1, 1, 12.3]] * 4


@pytest.mark.parametrize(
    ("spec", "constants", "message"),
    [
        (QUANTITY, {"quantities": (0.1, 1)}, "needs 3 quantities: up, fixed, down"),
        (QUANTITY, {"quantities": (0.1, 1, 1e5)}, "within the spec's bounds"),
        (QUANTITY, {"probabilities": (0.1, 0.4, 0.5)}, "needs 3 quantities"),
        (PLAIN, {"quantities": (0.1, 0.4, 0.5)}, "needs 3 probabilities"),
        (PLAIN, {"probabilities": (0.1, 0.9)}, "needs 3 probabilities"),
        (PLAIN, {"probabilities": (0.1, 0.9, 0.1)}, "sum to 1"),
        (PLAIN, {"probabilities": (-0.1, 1, 0.1)}, "not be negative"),
        (OWN_ACTIONS, {"probabilities": (1,)}, "only fixed ids"),
    ],
)
def test_constants_that_do_not_fit_are_a_problem_of_usage(
    spec: PolicySpec, constants: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnableToMakeConstant, match=message) as caught:
        export_constant(spec, folder=tmp_path / "made", **constants)

    assert caught.value.exit_code == 2


def _with_rounding() -> PolicySpec:
    return msgspec.structs.replace(QUANTITY, recourse=RecourseSpec(kind="rounding"))


def test_recourse_travels_with_the_policy(tmp_path: Path) -> None:
    spec = _with_rounding()
    arrays = rounding_arrays(multiple=np.array([1.0, 1, 5]), lower=np.array([0.0, 1, 5]), upper=np.array([1.0, 1, 1e4]))

    export_constant(spec, folder=tmp_path / "made", quantities=(0.4, 1, 12.3), recourse=arrays)

    artifact = load_artifact(tmp_path / "made")
    ((inputs, mask),) = random_inputs(spec, count=1, seed=0)
    assert artifact.recourse is not None
    proposed = artifact.policy.propose(inputs, mask).astype(np.float64)
    applied = artifact.recourse.apply(proposed, parameters=inputs)
    assert applied.values.tolist() == [[0, 1, 10]]


@pytest.mark.parametrize(
    ("recourse", "gate"), [(None, "files"), ({"kind": np.array("rounding")}, "recourse"), ({}, "recourse")]
)
def test_a_recourse_that_is_missing_or_incomplete_is_refused(
    recourse: dict[str, NDArray[Any]] | None, gate: str, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactRefused) as caught:
        export_constant(_with_rounding(), folder=tmp_path / "made", quantities=(0.4, 1, 12.3), recourse=recourse)

    assert caught.value.gate == gate
    assert list(tmp_path.iterdir()) == []


def test_quantities_have_no_uniform_policy(tmp_path: Path) -> None:
    with pytest.raises(UnableToMakeConstant, match="only choices"):
        export_uniform(QUANTITY, folder=tmp_path / "made")
