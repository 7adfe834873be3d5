from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.problem import draw_paths
from optimizer.hydrothermal.rollout import SAFE_HM3, observe, roll_out, served_margin
from optimizer.hydrothermal.spec import policy_spec
from policies.quantities import decimals
from policies.spec import PolicySpec
from tests.helpers.small_case import small_case, small_stage

STAGES = 5
SPEC = policy_spec(small_case(), stages=STAGES, history=3)


class _Keeping:
    """Propose to keep a third of what it is told is there, and remember what it was told."""

    spec: PolicySpec = SPEC
    identity = "keeping"

    def __init__(self) -> None:
        self.seen: list[Mapping[str, NDArray[Any]]] = []

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        self.seen.append(arrays)
        third: NDArray[np.floating] = arrays["request"][:, 1:5] / 3.0
        return third


def test_each_stage_sees_the_volumes_that_the_one_before_left() -> None:
    paths = draw_paths(small_case(), 2, stages=STAGES, generator=np.random.default_rng(1))
    policy = _Keeping()
    volumes = roll_out(policy, small_stage(), paths)
    assert volumes.shape == (2, STAGES + 1, 4)
    np.testing.assert_array_equal(volumes[:, 0], np.tile(small_case().volume_initial, (2, 1)))
    np.testing.assert_allclose(volumes[:, 1:], volumes[:, :-1] / 3.0, atol=1e-4)
    for stage, seen in enumerate(policy.seen):
        assert (seen["request"][:, 0] == stage + 1).all()
        np.testing.assert_array_equal(seen["request"][:, 1:], volumes[:, stage])


def test_what_is_proposed_is_rounded_as_serving_rounds_it() -> None:
    paths = draw_paths(small_case(), 1, stages=STAGES, generator=np.random.default_rng(2))
    volumes = roll_out(_Keeping(), small_stage(), paths)
    for place, digits in enumerate(decimals(SPEC)):
        np.testing.assert_array_equal(volumes[0, 1:, place], np.round(volumes[0, 1:, place], digits))


def test_no_stage_sees_an_inflow_that_has_not_come() -> None:
    paths = draw_paths(small_case(), 2, stages=STAGES, generator=np.random.default_rng(3))
    early = observe(small_case(), np.zeros((2, 4)), paths, stage=1, spec=SPEC)
    assert (early["length_inflow"] == 2.0).all()
    np.testing.assert_array_equal(early["sequence_inflow"][:, 1:], paths[:, :2])
    assert (early["sequence_inflow"][:, 0] == 0.0).all()
    late = observe(small_case(), np.zeros((2, 4)), paths, stage=4, spec=SPEC)
    np.testing.assert_array_equal(late["sequence_inflow"], paths[:, 2:5])


def test_the_margin_covers_the_rounding_of_a_plant_and_of_all_above_it() -> None:
    margin = served_margin(small_case(), spec=SPEC)
    half = 0.5 * 10.0 ** -np.array(decimals(SPEC)[:2], dtype=np.float64)
    np.testing.assert_allclose(margin[0], half[0] + SAFE_HM3)
    np.testing.assert_allclose(margin[1], half[0] + half[1] + SAFE_HM3)
