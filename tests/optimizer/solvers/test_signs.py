from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.hydrothermal.model import stage_model
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import Floats, LinearProgram
from optimizer.solvers.signs import dual_objective, reduced_costs
from policies.recourse.program import Sparse
from tests.helpers.small_case import draw_states, small_case, small_stage

BUY, SELL = 0, 1
AT_LEAST, AT_MOST, EQUAL = 0, 1, 2


def _program() -> LinearProgram:
    """Buy at 5 at least 3 [row 0], sell for 2 what is bought at most [row 1], keep = 1 at a price of 4 [row 2]."""
    return LinearProgram(
        cost=np.array([5.0, -2.0, 4.0]),
        offset=0.0,
        column_lower=np.zeros(3),
        column_upper=np.array([np.inf, np.inf, 9.0]),
        row_lower=np.array([3.0, -np.inf, 1.0]),
        row_upper=np.array([np.inf, 0.0, 1.0]),
        matrix=Sparse.from_entries(3, [(0, 0, 1.0), (1, 0, -1.0), (1, 1, 1.0), (2, 2, 1.0)]),
        column_names=("buy", "sell", "keep"),
        row_names=("least", "most", "equal"),
    )


def _negated(program: LinearProgram, row: int) -> LinearProgram:
    """Return the same program with one row multiplied by −1."""
    lower, upper = program.row_lower.copy(), program.row_upper.copy()
    lower[row], upper[row] = -program.row_upper[row], -program.row_lower[row]
    data = program.matrix.data.copy()
    data[program.matrix.indptr[row] : program.matrix.indptr[row + 1]] *= -1.0
    return replace(program, row_lower=lower, row_upper=upper, matrix=replace(program.matrix, data=data))


def _solved(program: LinearProgram) -> tuple[float, Floats, Floats]:
    solver = WarmSolver(program)
    return solver.solve(), solver.row_duals(), solver.column_duals()


def _with_rhs(program: LinearProgram, row: int, step: float) -> LinearProgram:
    lower, upper = program.row_lower.copy(), program.row_upper.copy()
    lower[row] += step
    upper[row] += step
    return program.with_rows(lower, upper)


def test_a_least_amount_has_a_positive_dual_a_most_a_negative_one() -> None:
    _, duals, _ = _solved(_program())
    assert duals.tolist() == [3.0, -2.0, 4.0]


@pytest.mark.parametrize("row", [AT_LEAST, AT_MOST, EQUAL])
def test_a_dual_is_the_derivative_by_the_right_hand_side(row: int) -> None:
    cost, duals, _ = _solved(_program())
    moved, _, _ = _solved(_with_rhs(_program(), row, 0.25))
    assert (moved - cost) / 0.25 == pytest.approx(duals[row], abs=1e-12)


@pytest.mark.parametrize("row", [AT_LEAST, AT_MOST, EQUAL])
def test_a_row_multiplied_by_minus_one_has_minus_its_dual_and_nothing_else_changes(row: int) -> None:
    cost, duals, column_duals = _solved(_program())
    negated_cost, negated_duals, negated_column_duals = _solved(_negated(_program(), row))
    expected = duals.copy()
    expected[row] *= -1.0
    assert (negated_cost, negated_duals.tolist()) == (cost, expected.tolist())
    assert negated_column_duals.tolist() == column_duals.tolist()


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 9.0), (0.0, 0.5), (0.75, 0.75)])
def test_a_column_dual_is_the_derivative_by_the_bound_that_holds_it(lower: float, upper: float) -> None:
    def bounded(step: float) -> LinearProgram:
        program = replace(_program(), cost=np.array([5.0, -2.0, 4.0 if lower else -4.0]))
        bounds = program.column_lower.copy(), program.column_upper.copy()
        bounds[0][2], bounds[1][2] = lower + step * (lower > 0), upper + step * (upper < 9)
        free = program.with_rows(np.array([3.0, -np.inf, -np.inf]), np.array([np.inf, 0.0, np.inf]))
        return replace(free, column_lower=bounds[0], column_upper=bounds[1])

    cost, _, column_duals = _solved(bounded(0.0))
    assert (_solved(bounded(0.125))[0] - cost) / 0.125 == pytest.approx(column_duals[2], abs=1e-12)


def test_pyomo_says_the_duals_of_its_rows_with_the_same_sign() -> None:
    model = stage_model(small_case(), volume_before=np.array([9.0, 2.0, 0.0, 4.0]), inflow=np.ones(4))
    model.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    pyo.SolverFactory("appsi_highs").solve(model)
    price, step = model.dual[model.balance["bus 3"]], 1e-4
    cost = pyo.value(model.cost)
    model.demand["bus 3"] = pyo.value(model.demand["bus 3"]) + step
    pyo.SolverFactory("appsi_highs").solve(model)
    assert price > 0
    assert (pyo.value(model.cost) - cost) / step == pytest.approx(price, rel=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_any_dual_of_the_small_case_satisfies_strong_duality(seed: int) -> None:
    arrays = small_stage()
    volume, inflow = draw_states(small_case(), count=1, seed=seed)
    water = arrays.water(volume, inflow_BR=inflow)[0]
    solver = arrays.solver()
    cost = solver.solve(water)
    program = arrays.program
    lower, upper = program.row_lower.copy(), program.row_upper.copy()
    lower[arrays.water_rows] = upper[arrays.water_rows] = water
    duals = solver.row_duals()
    np.testing.assert_allclose(reduced_costs(program, duals), solver.column_duals(), atol=1e-7)
    assert dual_objective(program.with_rows(lower, upper), duals) == pytest.approx(cost, rel=1e-9, abs=1e-6)


def test_duals_of_the_wrong_sign_prove_nothing() -> None:
    _, duals, _ = _solved(_program())
    assert dual_objective(_program(), -duals) == -np.inf
    assert dual_objective(_program(), duals) == pytest.approx(3 * 5 - 3 * 2 + 4, abs=1e-12)
