import ast
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import highspy
import numpy as np
import pytest

import policies
from policies.recourse import linear
from policies.recourse.contract import RecourseRefused
from policies.recourse.linear import LinearRecourse, with_stored_basis
from policies.recourse.program import ParametricProgram, Sparse
from policies.spec import PolicySpec
from tests.contracts.recourse_suite import Arrays, Batch, RecourseSuite, bits
from tests.helpers.hydrothermal_stage import (
    BUSES,
    PLANTS,
    Stage,
    draw_observations,
    draw_stage,
    reference_parameters,
    stage_program,
    stage_spec,
)
from tests.helpers.small_program import KEPT, SECOND, small_program, small_spec

STEPS = 3


@cache
def stage() -> Stage:
    return draw_stage(20)


@cache
def program() -> ParametricProgram:
    return stage_program(stage())


def stage_recourse(changed: ParametricProgram | None = None) -> LinearRecourse:
    return LinearRecourse(changed or program(), spec=stage_spec(stage(), steps=STEPS))


def stage_batch(count: int, *, seed: int) -> Batch:
    return draw_observations(stage(), count=count, steps=STEPS, seed=seed)


def small_batch(*rows: tuple[float, float, float, float]) -> Batch:
    """Rows of volume, load, fuel, proposal; the request's columns are fuel, load, volume."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return table[:, 3:].copy(), {"request": table[:, [2, 1, 0]]}


class TestStageWithSoftTargets(RecourseSuite):
    kind = "linear"

    def arrays(self) -> Arrays:
        return program().to_arrays()

    def spec(self) -> PolicySpec:
        return stage_spec(stage(), steps=STEPS)

    def draw(self, count: int, *, seed: int) -> Batch:
        return stage_batch(count, seed=seed)

    def spoil(self, batch: Batch, row: int) -> None:
        batch[1]["request"][row] = -1_000.0

    def needed(self, arrays: Arrays) -> list[str]:  # type: ignore[override]
        return [name for name in sorted(arrays) if not name.startswith("row_map")]


class TestSmallProgramWithHardTarget(RecourseSuite):
    kind = "linear"

    def arrays(self) -> Arrays:
        return small_program().to_arrays()

    def spec(self) -> PolicySpec:
        return small_spec()

    def draw(self, count: int, *, seed: int) -> Batch:
        rng = np.random.default_rng(seed)
        kept, released = rng.uniform(0.0, 50.0, count), rng.uniform(0.1, 4.9, count)
        load = released + rng.uniform(0.0, 13.0, count)
        return small_batch(*zip(kept + released, load, rng.uniform(0.0, 60.0, count), kept, strict=True))

    def spoil(self, batch: Batch, row: int) -> None:
        batch[0][row] = batch[1]["request"][row, 2] + 1.0

    def needed(self, arrays: Arrays) -> list[str]:  # type: ignore[override]
        return [name for name in sorted(arrays) if "_map_" not in name]


def test_the_stage_has_the_size_of_the_bolivian_case_and_soft_targets() -> None:
    assert program().cost.size == 154 + 2 * PLANTS
    assert program().row_lower.size == 113 + PLANTS
    assert program().matrix.data.size == 340 + 3 * PLANTS


def test_the_small_program_is_solved_as_by_hand() -> None:
    proposed, parameters = small_batch((10.0, 8.0, 2.0, 7.0), (10.0, 8.0, 40.0, 7.0))
    applied = LinearRecourse(small_program(), spec=small_spec()).apply(proposed, parameters=parameters)
    assert applied.outputs["power"] == pytest.approx(np.array([[400.0, 100.0], [0.0, 500.0]]))
    assert applied.outputs["cost"] == pytest.approx(np.array([4.0 * 3.0 + 30.0, 5.0 * 30.0]))
    assert applied.outputs["price"] == pytest.approx(np.array([30.0, 30.0]))
    assert applied.outputs["target_value"] == pytest.approx(np.array([30.0, 30.0]))
    assert np.array_equal(applied.values, proposed)


def test_power_balances_load_and_prices_differ_where_branches_are_full() -> None:
    proposed, parameters = stage_batch(50, seed=1)
    outputs = stage_recourse().apply(proposed, parameters=parameters).outputs
    supplied = outputs["dispatch"].sum(axis=1) + outputs["deficit"].sum(axis=1)
    assert supplied == pytest.approx(np.full(50, stage().load_mw.sum()))
    assert (np.ptp(outputs["price"], axis=1) > 1.0).any()


def test_storage_stays_within_the_reservoirs_and_meets_reachable_targets() -> None:
    _, parameters = stage_batch(50, seed=2)
    applied = stage_recourse().apply(parameters["request"].copy(), parameters=parameters)
    top = stage().storage_max_hm3
    assert (applied.values >= -1e-9).all()
    assert (applied.values <= top + 1e-9).all()
    assert applied.values == pytest.approx(parameters["request"], abs=1e-6)  # keeping what is there is reachable


def slopes(column: int, *, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Left and right difference quotients of the cost by one plant's volume, and minus its water value."""
    proposed, parameters = stage_batch(30, seed=3)
    costs = []
    for shift in (-width, 0.0, width):
        moved = parameters["request"].copy()
        moved[:, column] += shift
        applied = stage_recourse().apply(proposed, parameters={**parameters, "request": moved})
        assert not applied.faults
        costs.append(applied.outputs["penalized_cost"])
        values = applied.outputs["water_value"] if shift == 0.0 else None
        dual = -values[:, column] if values is not None else dual  # type: ignore[has-type]  # noqa: F821
    return (costs[1] - costs[0]) / width, (costs[2] - costs[1]) / width, dual


@pytest.mark.parametrize("plant", range(0, PLANTS, 2))
def test_a_water_value_is_the_saving_by_one_more_cubic_hectometer(plant: int) -> None:
    width = 1e-4
    left, right, dual = slopes(plant, width=width)
    noise = 1e-7 / width * 1e2  # HiGHS solves to 1e-7; costs reach 1e5
    assert (left <= dual + noise).all()  # the least cost is convex in the right-hand side
    assert (dual <= right + noise).all()
    is_smooth = np.abs(right - left) < 1e-3
    assert is_smooth.mean() > 0.5
