from dataclasses import replace
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.model import COLUMN_UNITS, ROW_UNITS, stage_model
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from tests.helpers.mof import MofModel
from tests.helpers.small_case import draw_states, small_case, small_stage

EXACT = 1e-9  # what the two paths of one model may differ by, relative


def _by_pyomo(case: Case, volume: Floats, inflow: Floats, *, period: int = 0, is_last: bool = False) -> float:
    model = stage_model(case, period=period, is_last=is_last, volume_before=volume, inflow=inflow)
    result = pyo.SolverFactory("appsi_highs").solve(model)
    assert pyo.check_optimal_termination(result)
    return float(pyo.value(model.cost))


@pytest.mark.parametrize("is_last", [False, True])
def test_the_arrays_cost_what_the_readable_model_costs(is_last: bool) -> None:
    case, solver = small_case(), small_stage().solver(is_last=is_last)
    volume, inflow = draw_states(case, count=8, seed=1)
    for before, arriving in zip(volume, inflow, strict=True):
        expected = _by_pyomo(case, before, arriving, is_last=is_last)
        assert solver.solve(small_stage().water(before, inflow_BR=arriving)) == pytest.approx(expected, rel=EXACT)


def test_the_last_stage_asks_for_the_final_volume_and_no_other_does() -> None:
    arrays, volume = small_stage(), np.array([45.0, 12.0, 12.0, 4.0])
    middle, last = arrays.solver(), arrays.solver(is_last=True)
    for solver in (middle, last):
        solver.solve(volume)
    lake = arrays.columns["volume_violation"]
    assert middle.columns()[lake][0] == pytest.approx(0.0, abs=1e-12)
    assert last.columns()[lake][0] == pytest.approx(1.0, abs=1e-9)


def test_every_block_has_a_unit_and_every_unit_a_block() -> None:
    arrays = small_stage()
    blocks = {name.partition("[")[0] for name in arrays.program.column_names}
    assert blocks <= set(COLUMN_UNITS)
    assert {name.partition("[")[0] for name in arrays.program.row_names} <= set(ROW_UNITS)
    assert (arrays.column_units("turbined"), arrays.row_units("water"), arrays.column_units("angle")) == (
        "m3/s",
        "hm3",
        "rad",
    )


def test_water_is_conserved_over_the_whole_cascade() -> None:
    """What enters is kept, or leaves: River's outflow, Upper's and River's spill, all of Lake's."""
    arrays, case = small_stage(), small_case()
    volume, inflow = draw_states(case, count=30, seed=2)
    water = arrays.water(volume, inflow_BR=inflow)
    columns = arrays.solver().solve_many(water).columns
    kept, spilled = columns[:, arrays.columns["volume"]], columns[:, arrays.columns["spilled"]]
    turbined = case.volume_per_flow * columns[:, arrays.columns["turbined"]]
    left = turbined[:, [2, 3]].sum(axis=1) + spilled[:, [0, 2, 3]].sum(axis=1)
    np.testing.assert_allclose(kept.sum(axis=1) + left, water.sum(axis=1), rtol=1e-9)


def test_an_hour_is_not_a_week() -> None:
    """A reader that leaves stage_hours at 1 finds another problem: there, 20 hm³ never run out."""
    week = small_stage()
    hour = compile_stage(replace(small_case(), stage_hours=1.0, volume_per_flow=0.0036))
    volume = small_case().volume_initial
    assert hour.solver().solve(volume) < 0.75 * week.solver().solve(volume)


@settings(max_examples=10)
@given(seed=st.integers(0, 100_000))
def test_duals_of_the_water_are_subgradients(seed: int) -> None:
    arrays = small_stage()
    volume, inflow = draw_states(small_case(), count=4, seed=seed)
    water = arrays.water(volume, inflow_BR=inflow)
    _check_subgradients(arrays, water)


def _check_subgradients(arrays: StageArrays, water: Floats) -> None:
    optima = arrays.solver().solve_many(water)
    duals = optima.row_duals[:, arrays.water_rows]
    tangents = optima.objective[:, None] + np.einsum("br,bcr->bc", duals, water[None, :, :] - water[:, None, :])
    slack = optima.objective[None, :] - tangents
    assert slack.min() >= -1e-8 * np.abs(optima.objective).max()


def _one_sided(arrays: StageArrays, water: Floats, direction: Floats, step: float) -> tuple[float, float]:
    solver = arrays.solver()
    below, here, above = (solver.solve(water + move * direction) for move in (-step, 0.0, step))
    return (here - below) / step, (above - here) / step


def _check_against_differences(arrays: StageArrays, water: Floats, step: float) -> int:
    """Compare duals with finite differences in each coordinate, and count the places that are no kinks."""
    smooth = 0
    for at, point in enumerate(water):
        solver = arrays.solver()
        cost = solver.solve(point)
        duals = solver.row_duals()[arrays.water_rows]
        for reservoir in range(arrays.reservoirs):
            left, right = _one_sided(arrays, point, np.eye(arrays.reservoirs)[reservoir], step)
            error = 1e-9 * abs(cost) / step
            assert left - error <= duals[reservoir] <= right + error, (at, reservoir)
            smooth += abs(left - right) <= error
    return smooth


def test_duals_lie_between_one_sided_differences_and_equal_them_away_from_kinks() -> None:
    volume, inflow = draw_states(small_case(), count=6, seed=6)
    water = small_stage().water(volume, inflow_BR=inflow) + 1e-3  # off the bound, where less water is no water
    assert _check_against_differences(small_stage(), water, 1e-4) >= 12


def test_bolivia_has_the_sizes_of_its_readers(bolivia: StageArrays) -> None:
    program = bolivia.program
    assert (program.cost.size, program.row_lower.size, program.matrix.data.size) == (154, 113, 340)
    assert {block: rows.size for block, rows in bolivia.rows.items() if rows.size} == {
        "balance": 28,
        "ohm": 31,
        "angle_difference": 31,
        "reference": 1,
        "water": 11,
        "turbine": 11,
    }


@pytest.mark.slow
def test_bolivia_costs_what_the_readable_model_costs_and_its_duals_hold(bolivia: StageArrays) -> None:
    volume, inflow = draw_states(bolivia.case, count=5, seed=7)
    water = bolivia.water(volume, inflow_BR=inflow)
    solver = bolivia.solver()
    for at in range(len(water)):
        expected = _by_pyomo(bolivia.case, volume[at], inflow[at])
        assert solver.solve(water[at]) == pytest.approx(expected, rel=EXACT)
    volume, inflow = draw_states(bolivia.case, count=60, seed=8)
    _check_subgradients(bolivia, bolivia.water(volume, inflow_BR=inflow))
    assert _check_against_differences(bolivia, water[:3] + 1e-3, 1e-4) >= 15


@pytest.mark.slow
def test_bolivia_agrees_with_the_peers_own_model(shared_data: Path) -> None:
    """The peer's model has K = 0.0036 and loads of 0.6; see tests/helpers/mof.py."""
    folder = shared_data / "hydrothermal" / "bolivia"
    case = replace(load_case(folder, stage_hours=168.0, load_scale=0.6), stage_hours=1.0, volume_per_flow=0.0036)
    oracle = MofModel(folder / "reference_k0.0036" / "DCPPowerModel.mof.json")
    _compare(case, oracle, count=40)


def test_case3_agrees_with_the_peers_own_model(shared_data: Path) -> None:
    """The peer's exported model prices deficit at 10,010 instead of the 1,000 · 100 of the files: that is set right."""
    folder = shared_data / "hydrothermal" / "hydropowermodels"
    oracle = MofModel(folder / "case3_mof_k0.0036" / "DCPPowerModel.mof.json")
    assert oracle.cost_of("deficit[1]") == 10_010.0
    case = load_case(folder / "case3", stage_hours=1.0)
    for bus in (1, 2, 3):
        oracle.set_cost(f"deficit[{bus}]", case.tiers[0].cost)
    _compare(case, oracle, count=40)


def _compare(case: Case, oracle: MofModel, *, count: int) -> None:
    arrays = compile_stage(case)
    solver = arrays.solver()
    generator = np.random.default_rng(11)
    for volume, inflow in zip(*draw_states(case, count=count, seed=11), strict=True):
        arriving = inflow * generator.choice([0.0, 0.5, 1.0, 2.0])
        fixed = {f"reservoir[{at + 1}]_in": float(value) for at, value in enumerate(volume)}
        fixed |= {f"inflow[{at + 1}]": float(value) for at, value in enumerate(arriving)}
        ours = solver.solve(arrays.water(volume, inflow_BR=arriving))
        assert ours == pytest.approx(oracle.solve(fixed), rel=1e-8)


def test_brazil_costs_what_the_readable_model_costs(shared_data: Path) -> None:
    case = load_case(shared_data / "hydrothermal" / "msppy_brazil", stage_hours=730.0)
    arrays = compile_stage(case)
    inflow = np.array([5e4, 7e3, 1e4, 1e4])
    for period in (0, 7):
        ours = arrays.solver(period).solve(arrays.water(case.volume_initial, inflow_BR=inflow))
        expected = _by_pyomo(case, case.volume_initial, inflow, period=period)
        assert ours == pytest.approx(expected, rel=EXACT)


def test_brazils_deficit_tiers_are_filled_in_the_order_of_their_price(shared_data: Path) -> None:
    case = load_case(shared_data / "hydrothermal" / "msppy_brazil", stage_hours=730.0)
    arrays = compile_stage(case)
    solver = arrays.solver()
    solver.solve(np.zeros(4))
    tiers = solver.columns()[arrays.columns["deficit"]].reshape(4, 4) / case.load[0, :4, None]
    depth = np.array([tier.depth for tier in case.tiers])
    for region in tiers:
        filled = np.clip(region.sum() - np.concatenate([[0.0], np.cumsum(depth)[:-1]]), 0.0, depth)
        np.testing.assert_allclose(region, filled, atol=1e-9)


@pytest.fixture(scope="module")
def bolivia(shared_data: Path) -> StageArrays:
    folder = shared_data / "hydrothermal" / "bolivia"
    return compile_stage(load_case(folder, stage_hours=168.0, load_scale=0.6))
