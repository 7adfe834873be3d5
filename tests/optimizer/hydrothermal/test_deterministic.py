from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.inflow import InflowAutoregression
from optimizer.hydrothermal.model import stage_model
from optimizer.hydrothermal.stage import compile_stage
from optimizer.hydrothermal.value import ValueCuts
from tests.helpers.small_case import small_case, small_stage, table_of


def _paths(case: Case, *, count: int, stages: int, seed: int) -> Floats:
    table = table_of(case)
    return table.paths(table.draw(count, stages=stages, generator=np.random.default_rng(seed)))


def _by_pyomo(case: Case, inflow_TR: Floats) -> float:
    """Chain the readable model of each stage by hand and solve the whole by Pyomo."""
    whole = pyo.ConcreteModel()
    stages = len(inflow_TR)
    before: Any = None
    for stage, inflow in enumerate(inflow_TR):
        period = stage % case.load.shape[0]
        start = case.volume_initial if stage == 0 else None
        one = stage_model(case, period=period, is_last=stage == stages - 1, volume_before=start, inflow=inflow)
        one.cost.deactivate()
        whole.add_component(f"stage_{stage}", one)
        if before is not None:
            one.water.deactivate()
            carried = {i: one.water[i].body == one.water[i].upper + before.volume[i] for i in case.hydro_names}
            one.chained = pyo.Constraint(list(case.hydro_names), rule=lambda _, i, carried=carried: carried[i])
        before = one
    whole.total = pyo.Objective(
        expr=sum(one.cost.expr for one in whole.component_objects(pyo.Block, descend_into=False))
    )
    assert pyo.check_optimal_termination(pyo.SolverFactory("appsi_highs").solve(whole))
    return float(pyo.value(whole.total))


def test_it_costs_what_the_chained_readable_models_cost() -> None:
    inflow = _paths(small_case(), count=1, stages=5, seed=1)
    ours = DeterministicEquivalent(small_stage(), stages=5).solve(inflow)
    assert ours.objective[0] == pytest.approx(_by_pyomo(small_case(), inflow[0]), rel=1e-9)


def test_one_stage_is_the_last_stage() -> None:
    arrays, case = small_stage(), small_case()
    inflow = _paths(case, count=3, stages=1, seed=2)
    ours = DeterministicEquivalent(arrays, stages=1).solve(inflow)
    solver = arrays.solver(is_last=True)
    alone = [solver.solve(arrays.water(case.volume_initial, inflow_BR=one[0])) for one in inflow]
    np.testing.assert_allclose(ours.objective, alone, rtol=1e-9)


def test_the_parts_sum_to_the_whole_and_each_stage_is_feasible_by_itself() -> None:
    arrays, case = small_stage(), small_case()
    inflow = _paths(case, count=2, stages=8, seed=3)
    ours = DeterministicEquivalent(arrays, stages=8).solve(inflow)
    np.testing.assert_allclose(ours.stage_costs.sum(axis=1), ours.objective, rtol=1e-9)
    volume = ours.columns[:, :, arrays.volume_columns]
    solver = arrays.solver()
    for path, stage in np.ndindex(2, 7):
        before = volume[path, stage - 1] if stage else case.volume_initial
        target = volume[path, stage].clip(0.0, case.volume_max)
        solver.set_column_bounds(arrays.volume_columns, lower=target, upper=target)
        alone = solver.solve(arrays.water(before, inflow_BR=inflow[path, stage]))
        assert alone == pytest.approx(ours.stage_costs[path, stage], rel=1e-7)


def test_other_heights_of_the_cuts_are_those_of_a_program_built_with_them() -> None:
    slope = np.array([[-900.0] * 4, [-100.0] * 4])
    low, high = (ValueCuts(intercept=np.array([40_000.0, 9_000.0]) * factor, slope=slope) for factor in (1.0, 1.2))
    inflow = _paths(small_case(), count=3, stages=6, seed=6)
    moved = DeterministicEquivalent(small_stage(), stages=6, value=low)
    before = moved.solve(inflow).objective
    moved.move_value(high)
    expected = DeterministicEquivalent(small_stage(), stages=6, value=high).solve(inflow).objective
    np.testing.assert_allclose(moved.solve(inflow).objective, expected, rtol=1e-9)
    assert (expected > before).all()
    with pytest.raises(ValueError, match="as many cuts"):
        moved.move_value(ValueCuts(intercept=np.zeros(1), slope=slope[:1]))
    with pytest.raises(ValueError, match="as many cuts"):
        DeterministicEquivalent(small_stage(), stages=6).move_value(high)


def test_nobody_without_foresight_is_cheaper() -> None:
    arrays, case = small_stage(), small_case()
    inflow = _paths(case, count=6, stages=24, seed=4)
    bound = DeterministicEquivalent(arrays, stages=24).solve(inflow).objective
    middle, last = arrays.solver(), arrays.solver(is_last=True)
    for path in range(6):
        volume, cost = case.volume_initial, 0.0
        for stage in range(24):
            solver = last if stage == 23 else middle
            cost += solver.solve(arrays.water(volume, inflow_BR=inflow[path, stage]))
            volume = solver.columns()[arrays.volume_columns].clip(0.0, case.volume_max)
        assert bound[path] < cost


def test_a_path_costs_the_same_whatever_was_solved_before_it() -> None:
    inflow = _paths(small_case(), count=4, stages=12, seed=5)
    together = DeterministicEquivalent(small_stage(), stages=12).solve(inflow).objective
    alone = [DeterministicEquivalent(small_stage(), stages=12).solve(one[None]).objective[0] for one in inflow]
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_water_left_is_worth_what_the_cuts_say() -> None:
    arrays, case = small_stage(), small_case()
    value = ValueCuts(intercept=np.array([40_000.0, 9_000.0]), slope=np.array([[-900.0] * 4, [-100.0] * 4]))
    inflow = _paths(case, count=3, stages=6, seed=6)
    plain = DeterministicEquivalent(arrays, stages=6).solve(inflow)
    valued = DeterministicEquivalent(arrays, stages=6, value=value).solve(inflow)
    left = valued.columns[:, -1, arrays.volume_columns]
    np.testing.assert_allclose(valued.terminal, value.evaluate(left), rtol=1e-9)
    np.testing.assert_allclose(valued.stage_costs.sum(axis=1) + valued.terminal, valued.objective, rtol=1e-9)
    assert (left.sum(axis=1) > plain.columns[:, -1, arrays.volume_columns].sum(axis=1)).all()
    other = plain.objective + value.evaluate(plain.columns[:, -1, arrays.volume_columns])
    assert (valued.objective <= other * (1 + 1e-9)).all()


def test_stages_that_do_not_end_the_horizon_ask_for_no_final_volume() -> None:
    inflow = _paths(small_case(), count=3, stages=6, seed=6)
    ending, going_on = (
        DeterministicEquivalent(small_stage(), stages=6, is_end=end).solve(inflow) for end in (True, False)
    )
    assert (going_on.objective < ending.objective - 1.0).any()
    assert (going_on.objective <= ending.objective * (1 + 1e-9)).all()


def test_duals_of_the_water_are_what_a_little_more_of_it_costs() -> None:
    inflow = _paths(small_case(), count=1, stages=6, seed=7)
    model = DeterministicEquivalent(small_stage(), stages=6)
    ours, step = model.solve(inflow), 1e-3
    for stage, reservoir in ((0, 0), (2, 1), (4, 3)):
        sides = []
        for sign in (-1.0, 1.0):
            moved = inflow.copy()
            moved[0, stage, reservoir] += sign * step / small_case().volume_per_flow
            sides.append(sign * (model.solve(moved).objective[0] - ours.objective[0]) / step)
        assert sides[0] - 1e-3 <= ours.water_duals[0, stage, reservoir] <= sides[1] + 1e-3


def test_less_water_to_start_with_costs_more() -> None:
    inflow = _paths(small_case(), count=2, stages=6, seed=8)
    model = DeterministicEquivalent(small_stage(), stages=6)
    assert (model.solve(inflow, volume_initial=np.zeros(4)).objective > model.solve(inflow).objective).all()


def test_names_say_the_stage_from_one_on() -> None:
    program = DeterministicEquivalent(small_stage(), stages=2).program
    assert program.row_names[0] == "stage 1: water[Upper]"
    assert program.column_names[-1].startswith("stage 2: ")


def test_shapes_that_do_not_fit_are_errors_of_the_program() -> None:
    with pytest.raises(ValueError, match="at least one stage"):
        DeterministicEquivalent(small_stage(), stages=0)
    with pytest.raises(ValueError, match=r"expected paths of \(3, 4\), found \(2, 4\)"):
        DeterministicEquivalent(small_stage(), stages=3).solve(np.zeros((1, 2, 4)))


@pytest.mark.slow
def test_bolivias_horizon_has_the_size_and_cost_of_its_stages(shared_data: Path) -> None:
    case = load_case(shared_data / "hydrothermal" / "bolivia", stage_hours=168.0, load_scale=0.6)
    arrays = compile_stage(case)
    model = DeterministicEquivalent(arrays, stages=126)
    assert (model.program.cost.size, model.program.row_lower.size) == (19_404, 14_238)
    ours = model.solve(_paths(case, count=2, stages=126, seed=9))
    np.testing.assert_allclose(ours.stage_costs.sum(axis=1), ours.objective, rtol=1e-9)


@pytest.mark.slow
def test_brazils_months_have_their_own_loads(shared_data: Path) -> None:
    case = load_case(shared_data / "hydrothermal" / "msppy_brazil", stage_hours=730.0)
    assert isinstance(case.inflow, InflowAutoregression)
    inflow = case.inflow.draw(1, stages=14, generator=np.random.default_rng(10))
    ours = DeterministicEquivalent(compile_stage(case), stages=14).solve(inflow)
    assert ours.objective[0] == pytest.approx(_by_pyomo(case, inflow[0]), rel=1e-9)
