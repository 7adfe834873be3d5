from dataclasses import replace

import numpy as np
import pytest

from optimizer.hydrothermal.judge.course import FEASIBLE, CourseInfeasible, Steps, make_course, shares_of_terms
from optimizer.hydrothermal.sddp.policy import CutPolicy
from tests.helpers.small_case import small_case, small_stage
from tests.helpers.small_judged import STAGES, judged_small, small_cuts

_JUDGED = judged_small(reported=STAGES, scenarios=3)


def _steps() -> Steps:
    found = CutPolicy(small_stage(), cuts=small_cuts()).simulate(_JUDGED.inflow)
    return Steps(columns=found.trajectories.columns, water_values=found.water_values)


def _course(steps: Steps):  # type: ignore[no-untyped-def]
    return make_course(
        "ours", steps, arrays=small_stage(), inflow_BTR=_JUDGED.inflow, horizon=STAGES, credit=np.zeros(3)
    )


def test_power_and_deficit_meet_the_load_of_each_stage() -> None:
    course, case = _course(_steps()), small_case()
    load = case.base_mva * case.load[0].sum()
    np.testing.assert_allclose(course.hydro + course.thermal + course.deficit, load, rtol=1e-7)


def test_costs_are_those_of_the_program_not_those_a_policy_tells() -> None:
    steps = _steps()
    expected = CutPolicy(small_stage(), cuts=small_cuts()).simulate(_JUDGED.inflow).costs
    np.testing.assert_allclose(_course(steps).stage_costs, expected, rtol=1e-9)


@pytest.mark.parametrize(("block", "row"), [("volume", "water"), ("power", "turbine|balance"), ("spilled", "water")])
def test_columns_that_break_an_equation_are_refused_by_name(block: str, row: str) -> None:
    steps = _steps()
    columns = steps.columns.copy()
    columns[1, 4, small_stage().columns[block][-1]] += 0.001
    with pytest.raises(CourseInfeasible, match=rf"ours: stage 5 of scenario 2: ({row})\["):
        _course(replace(steps, columns=columns))


def test_a_balance_of_nothing_inherits_the_rounding_of_flows_that_are_large_and_of_no_others() -> None:
    errors = np.array([[1.1e-5, 0.0]])
    assert shares_of_terms(errors, np.array([[1.1e-5, 200_000.0]])).max() < FEASIBLE
    assert shares_of_terms(errors, np.array([[1.1e-5, 200.0]])).max() > FEASIBLE


def test_the_last_stage_is_asked_for_the_final_volume() -> None:
    steps = _steps()
    violation = small_stage().columns["volume_violation"]
    columns = steps.columns.copy()
    columns[:, -1, violation] = 0.0
    lacks = (steps.columns[:, -1, violation] > 1e-3).any()
    assert lacks, "the case must make this test bite: someone has to miss the final volume"
    with pytest.raises(CourseInfeasible, match=r"stage 8 .*volume_floor\[Lake\]"):
        _course(replace(steps, columns=columns))


def test_missed_soft_bounds_carry_their_units() -> None:
    assert set(_course(_steps()).violations) == {"volume_hm3", "outflow_m3/s"}
