from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.gates import (
    BATCH_SIZES,
    ArtifactRefused,
    check_batch_invariance,
    check_inner_invariance,
    check_operators,
    check_output,
    check_selftest,
    gate_inputs,
    raised_floor,
)
from policies.graph import GraphContents
from policies.onnx_policy import OnnxPolicy, OnnxProbe
from policies.policy import UniformPolicy
from policies.selftest import random_inputs
from policies.spec import PolicySpec
from tests.helpers.policy_specs import ASSIGNMENT, CHOICES, OWN_ACTIONS, PLAIN, QUANTITY, scored_graph

Floats = NDArray[np.floating]


class _Changed:
    """A uniform policy whose result something changes."""

    def __init__(self, change: Callable[[Floats, NDArray[np.bool_]], Floats], spec: PolicySpec = PLAIN) -> None:
        self._uniform = UniformPolicy(spec)
        self._change = change

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> Floats:
        return self._change(self._uniform.propose(arrays, mask).astype(np.float32), mask)


class _Proposes:
    def __init__(self, row: list[float]) -> None:
        self._row = np.array(row)

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> Floats:
        return np.broadcast_to(self._row, (len(mask), len(self._row))).copy()


def _move_mass(share: float) -> Callable[[Floats, NDArray[np.bool_]], Floats]:
    """Take a share of each first eligible action's probability and give it to the last one."""

    def change(found: Floats, mask: NDArray[np.bool_]) -> Floats:
        first, last = mask.argmax(axis=2), mask.shape[2] - 1 - mask[:, :, ::-1].argmax(axis=2)
        changed = found.copy()
        moved = share * np.take_along_axis(found, first[:, :, None], axis=2)
        np.put_along_axis(changed, first[:, :, None], np.take_along_axis(changed, first[:, :, None], 2) - moved, axis=2)
        np.put_along_axis(changed, last[:, :, None], np.take_along_axis(changed, last[:, :, None], 2) + moved, axis=2)
        return changed

    return change


@pytest.mark.parametrize("spec", CHOICES, ids=lambda spec: spec.domain)
def test_a_sound_policy_passes_output_and_invariance(spec: PolicySpec) -> None:
    groups = gate_inputs(spec, [])
    policy = _Changed(lambda found, mask: found, spec)

    check_output(policy, groups, spec=spec)
    check_batch_invariance(policy, groups)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found, mask: found * np.nan, "NaN"),
        (lambda found, mask: -found, "at least 0"),
        (lambda found, mask: found + 1e-9 * ~mask, "0 for ineligible"),
        (lambda found, mask: found * 1.0001, "sum to 1"),
        (lambda found, mask: found[:, :, :2], "expected shape"),
        (_move_mass(0.95), "at least 0.1 / "),
    ],
    ids=["not_finite", "negative", "ineligible", "sum", "shape", "floor"],
)
def test_an_unsound_distribution_is_refused(
    change: Callable[[Floats, NDArray[np.bool_]], Floats], message: str
) -> None:
    with pytest.raises(ArtifactRefused, match=message) as caught:
        check_output(_Changed(change), gate_inputs(PLAIN, []), spec=PLAIN)

    assert caught.value.gate == "output"


def test_mass_may_move_down_to_the_floor() -> None:
    check_output(_Changed(_move_mass(0.89)), gate_inputs(PLAIN, []), spec=PLAIN)


def test_quantities_within_their_bounds_pass() -> None:
    check_output(_Proposes([0.5, 1, 1e4]), gate_inputs(QUANTITY, []), spec=QUANTITY)


@pytest.mark.parametrize(
    ("row", "message"),
    [([0.5, 1, 1.001e4], r"'down' in \[5, 10000\], found 10010"), ([0.5, np.inf, 5], "infinity"), ([0.5, 1], "shape")],
)
def test_unsound_quantities_are_refused(row: list[float], message: str) -> None:
    with pytest.raises(ArtifactRefused, match=message):
        check_output(_Proposes(row), gate_inputs(QUANTITY, []), spec=QUANTITY)


@pytest.mark.parametrize("size", BATCH_SIZES)
def test_a_row_that_differs_in_one_batch_size_is_refused(size: int) -> None:
    def change(found: Floats, mask: NDArray[np.bool_]) -> Floats:
        return np.nextafter(found, np.float32(2)) * mask if len(mask) == size else found

    with pytest.raises(ArtifactRefused, match=f"in batches of {size} as") as caught:
        check_batch_invariance(_Changed(change), gate_inputs(PLAIN, []))

    assert caught.value.gate == "batch_invariance"


def test_a_row_that_depends_on_its_place_is_refused() -> None:
    def change(found: Floats, mask: NDArray[np.bool_]) -> Floats:
        return np.where(np.arange(len(mask))[:, None, None] == 70, np.nextafter(found, np.float32(2)), found)

    policy = _Changed(change)
    ((arrays, mask),) = gate_inputs(PLAIN, random_inputs(PLAIN, count=8, seed=0))

    with pytest.raises(ArtifactRefused, match="batch_invariance"):
        check_batch_invariance(policy, [(arrays, mask)])


@pytest.mark.parametrize("operator", ["Softplus", "Log", "Mish", "Sin", "Cos"])
def test_planted_batch_variant_graphs_are_refused(operator: str) -> None:
    probe = OnnxProbe(scored_graph(operator=operator))

    with pytest.raises(
        ArtifactRefused, match=r"in batches of \d+ as in one of 23, found others in .* made by"
    ) as caught:
        check_inner_invariance(probe, gate_inputs(PLAIN, []))

    assert caught.value.gate == "batch_invariance"


def test_a_planted_graph_shows_in_its_output_too() -> None:
    policy = OnnxPolicy(scored_graph(operator="Log"), spec=PLAIN, identity="")

    with pytest.raises(ArtifactRefused, match="batch_invariance"):
        check_batch_invariance(policy, gate_inputs(PLAIN, random_inputs(PLAIN, count=600, seed=0)))


@pytest.mark.parametrize("operator", ["Relu", "Tanh", "Sigmoid", "Erf", "Gelu", "Elu", "Exp", "Sqrt"])
def test_batch_invariant_graphs_pass(operator: str) -> None:
    graph = scored_graph(operator=operator)
    policy = OnnxPolicy(graph, spec=PLAIN, identity="")
    groups = gate_inputs(PLAIN, [])

    check_output(policy, groups, spec=PLAIN)
    check_batch_invariance(policy, groups)
    check_inner_invariance(OnnxProbe(graph), groups)


def test_gates_run_on_at_least_64_rows_and_all_of_the_selftest() -> None:
    ((arrays, mask),) = random_inputs(PLAIN, count=4, seed=9)

    ((found, found_mask),) = gate_inputs(PLAIN, [(arrays, mask)])

    assert len(found_mask) >= 64 + 4
    assert (found["request"][:4] == arrays["request"]).all()


@pytest.mark.parametrize("spec", [OWN_ACTIONS, ASSIGNMENT], ids=lambda spec: spec.domain)
def test_gates_run_on_every_padded_size_with_more_rows_than_any_batch(spec: PolicySpec) -> None:
    counts = {mask.shape[1:]: len(mask) for _, mask in gate_inputs(spec, [])}

    assert len(counts) >= 4
    assert min(counts.values()) > max(BATCH_SIZES)
    assert max(counts.values()) >= 64


def test_a_selftest_that_is_off_is_refused_and_says_by_how_much() -> None:
    uniform = UniformPolicy(PLAIN)
    groups = [(a, m, uniform.propose(a, m)) for a, m in random_inputs(PLAIN, count=3, seed=0)]

    check_selftest(_Changed(lambda found, mask: found + np.float32(9e-6)), groups, spec=PLAIN)
    with pytest.raises(ArtifactRefused, match=r"1\.2e-05 off"):
        check_selftest(_Changed(lambda found, mask: found + np.float32(1.2e-5)), groups, spec=PLAIN)
    with pytest.raises(ArtifactRefused, match="nan off"):
        check_selftest(_Changed(lambda found, mask: found * np.float32(np.nan)), groups, spec=PLAIN)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (GraphContents(opset=20, operators={("com.microsoft", "Gelu")}), r"com\.microsoft\.Gelu"),
        (GraphContents(opset=20, external=["weights"]), "other files: weights"),
        (GraphContents(opset=19), "expected opset 20 as the manifest says, found 19"),
    ],
)
def test_graphs_that_need_something_beside_them_are_refused(contents: GraphContents, message: str) -> None:
    with pytest.raises(ArtifactRefused, match=message):
        check_operators(contents, opset=20)


@pytest.mark.parametrize("floor", [0.0, 1e-3, 0.05, 0.3, 1.0])
def test_a_raised_floor_survives_float32(floor: float) -> None:
    counts = np.arange(1, 200)
    exact = floor / counts

    rounded = (np.float32(raised_floor(floor)) / counts.astype(np.float32)).astype(np.float64)

    assert (rounded >= exact * (1 if floor < 1 else 1 - 1e-7)).all()
    assert raised_floor(floor) <= 1.0
