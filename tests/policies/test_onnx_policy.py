import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from policies.onnx_policy import (
    OnnxPolicy,
    RewardModelNotFound,
    UnableToLoadGraph,
    cpu_features,
    platform_digest,
    reward_model_from_onnx,
)
from policies.selftest import random_inputs
from policies.signature import SignatureMismatch
from tests.helpers.policy_specs import PLAIN, choice_graph, plain_inputs, scored_graph

_IMPORT_AND_RUN = """
import os
from pathlib import Path
from policies.onnx_policy import OnnxPolicy, UnableToLoadGraph
from policies.spec import ActionSet, PolicySpec
try:
    OnnxPolicy(b"", spec=PolicySpec(domain="d", actions=ActionSet(kind="choice", ids=("a",))), identity="")
except UnableToLoadGraph:
    pass
print(os.environ["ORT_DISABLE_TELEMETRY"], sorted(str(path) for path in Path.home().rglob("*")))
"""


def _reward_graph(name: str = "reward") -> bytes:
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, 3])
    return choice_graph([helper.make_node("Cast", ["mask"], [name], to=TensorProto.FLOAT)], output=output)


def test_a_graph_proposes_probabilities_in_float32() -> None:
    policy = OnnxPolicy(scored_graph(operator="Relu"), spec=PLAIN, identity="abc")
    ((arrays, mask),) = random_inputs(PLAIN, count=9, seed=0)

    found = policy.propose(arrays, mask)

    assert found.dtype == np.dtype("float32")
    assert found.shape == (9, 1, 3)
    assert policy.identity == "abc"
    assert found.sum(axis=2) == pytest.approx(np.ones((9, 1)), abs=1e-6)


def test_only_inputs_that_the_graph_has_are_fed() -> None:
    node = helper.make_node("Cast", ["mask"], ["probabilities"], to=TensorProto.FLOAT)
    policy = OnnxPolicy(choice_graph([node], inputs=plain_inputs()[1:]), spec=PLAIN, identity="")
    ((arrays, mask),) = random_inputs(PLAIN, count=2, seed=0)

    assert (policy.propose(arrays, mask) == mask).all()


def test_nothing_is_cast_on_the_way_in() -> None:
    policy = OnnxPolicy(scored_graph(operator="Relu"), spec=PLAIN, identity="")
    ((arrays, mask),) = random_inputs(PLAIN, count=2, seed=0)

    with pytest.raises(Exception, match="Unexpected input data type"):
        policy.propose({"request": arrays["request"].astype(np.float32)}, mask)


def test_an_empty_batch_proposes_nothing() -> None:
    policy = OnnxPolicy(scored_graph(operator="Relu"), spec=PLAIN, identity="")

    assert policy.propose({"request": np.zeros((0, 8))}, np.zeros((0, 1, 3), bool)).shape == (0, 1, 3)


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(UnableToLoadGraph, match="expected an ONNX model"):
        OnnxPolicy(b"not a graph", spec=PLAIN, identity="")


def test_a_graph_of_another_spec_is_refused() -> None:
    with pytest.raises(SignatureMismatch, match="probabilities"):
        OnnxPolicy(_reward_graph(), spec=PLAIN, identity="")


def test_a_reward_model_predicts_in_float64(tmp_path: Path) -> None:
    path = tmp_path / "reward.onnx"
    path.write_bytes(_reward_graph())
    model = reward_model_from_onnx(path, spec=PLAIN)
    ((arrays, mask),) = random_inputs(PLAIN, count=4, seed=0)

    found = model.predict(arrays, mask)

    assert found.dtype == np.float64
    assert (found == mask).all()
    assert model.predict(arrays, mask[:0]).shape == (0, 1, 3)


def test_a_policy_is_no_reward_model(tmp_path: Path) -> None:
    path = tmp_path / "reward.onnx"
    path.write_bytes(scored_graph(operator="Relu"))

    with pytest.raises(SignatureMismatch, match="expected one output 'reward'"):
        reward_model_from_onnx(path, spec=PLAIN)


def test_a_missing_reward_model_is_a_problem_of_usage(tmp_path: Path) -> None:
    with pytest.raises(RewardModelNotFound, match=r"none\.onnx") as caught:
        reward_model_from_onnx(tmp_path / "none.onnx", spec=PLAIN)

    assert caught.value.exit_code == 2


def test_the_platform_is_eight_hex_of_version_and_features() -> None:
    features = cpu_features(Path("/proc/cpuinfo"))

    assert platform_digest() == sha256(f"{onnxruntime.__version__}\n{features}".encode()).hexdigest()[:8]


@pytest.mark.parametrize("key", ["flags\t\t", "Features\t"])
def test_features_are_sorted_whatever_the_kernel_lists_first(tmp_path: Path, key: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\n{key}: sse avx fma\n")

    assert cpu_features(path) == "avx fma sse"


def test_without_a_list_of_features_the_machine_is_named(tmp_path: Path) -> None:
    import platform

    assert cpu_features(tmp_path / "none").startswith(platform.machine())


def test_importing_and_loading_leaves_no_device_identity_behind(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": ""}

    done = subprocess.run([sys.executable, "-c", _IMPORT_AND_RUN], env=environment, capture_output=True, text=True)

    assert (done.stdout.strip(), done.returncode) == ("1 []", 0), done.stderr
