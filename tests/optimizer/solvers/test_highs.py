from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import highspy
import numpy as np
import pytest

from optimizer.solvers.highs import REFRESHED, RUNGS, UnableToSolve, WarmSolver
from optimizer.solvers.program import LinearProgram
from policies.recourse.program import Sparse
from tests.helpers.small_case import draw_states, small_case, small_stage

MOVED = np.array([0], dtype=np.int32)


def _program() -> LinearProgram:
    """Meet a load [row 0] by a plant at 1 up to 4, another at 30 up to 9; the first is at most half of all [row 1]."""
    return LinearProgram(
        cost=np.array([1.0, 30.0]),
        offset=0.5,
        column_lower=np.zeros(2),
        column_upper=np.array([4.0, 9.0]),
        row_lower=np.array([0.0, -np.inf]),
        row_upper=np.array([0.0, 0.0]),
        matrix=Sparse.from_entries(2, [(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0), (1, 1, -1.0)]),
        column_names=("first", "second"),
        row_names=("load", "half"),
    )


class _Lying:
    """Stands in for HiGHS's model: the first answers are of another status than the true one."""

    def __init__(self, model: highspy.Highs, statuses: Sequence[highspy.HighsModelStatus]) -> None:
        self._model, self._statuses = model, iter(statuses)
        self.options: list[tuple[str, Any]] = []

    def getModelStatus(self) -> highspy.HighsModelStatus:
        return next(self._statuses, None) or self._model.getModelStatus()

    def setOptionValue(self, name: str, value: Any) -> Any:
        self.options.append((name, value))
        return self._model.setOptionValue(name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _lying_solver(times: int) -> tuple[WarmSolver, _Lying]:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    lying = _Lying(solver._model, [highspy.HighsModelStatus.kUnknown] * times)
    solver._model = lying
    return solver, lying


def test_only_right_hand_sides_move_and_the_offset_counts() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    assert solver.solve(np.array([6.0])) == pytest.approx(0.5 + 3.0 + 90.0, abs=1e-12)
    assert solver.columns().tolist() == [3.0, 3.0]
    assert solver.solve(np.array([10.0])) == pytest.approx(0.5 + 4.0 + 180.0, abs=1e-12)
    assert solver.solves == 2


def test_a_batch_gives_what_single_solves_give() -> None:
    arrays = small_stage()
    volume, inflow = draw_states(small_case(), count=40, seed=3)
    water = arrays.water(volume, inflow_BR=inflow)
    optima = arrays.solver().solve_many(water)
    solver = arrays.solver()
    for at in range(len(water)):
        assert solver.solve(water[at]) == optima.objective[at]
        assert (solver.columns() == optima.columns[at]).all()
        assert (solver.row_duals() == optima.row_duals[at]).all()
        assert (solver.column_duals() == optima.column_duals[at]).all()


def test_the_objective_does_not_depend_on_where_a_solve_starts() -> None:
    arrays = small_stage()
    volume, inflow = draw_states(small_case(), count=60, seed=4)
    water = arrays.water(volume, inflow_BR=inflow)
    warm = arrays.solver().solve_many(water).objective
    cold = np.array([arrays.solver().solve(one) for one in water])
    np.testing.assert_allclose(warm, cold, rtol=1e-9)


def test_a_program_without_an_optimum_is_named_with_what_each_rung_said() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    with pytest.raises(UnableToSolve, match=r"of stage 3, noise 2, HiGHS says warm: Infeasible; cleared: Infeasible"):
        solver.solve(np.array([99.0]), where=lambda: "stage 3, noise 2")


def test_a_failure_leaves_nothing_behind() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    before = solver.solve(np.array([6.0]))
    with pytest.raises(UnableToSolve):
        solver.solve(np.array([99.0]))
    with pytest.raises(ValueError, match="nothing may be read"):
        solver.columns()
    assert solver.solve(np.array([6.0])) == before


@pytest.mark.parametrize("failures", range(1, len(RUNGS) + 1))
def test_each_rung_recovers_the_same_optimum_and_is_counted(failures: int) -> None:
    solver, lying = _lying_solver(failures)
    assert solver.solve(np.array([6.0])) == pytest.approx(93.5, rel=1e-9)
    assert solver.recoveries == {RUNGS[failures - 1][0]: 1}
    assert dict(lying.options) == {"presolve": "off", "solver": "simplex"}


def test_a_status_that_no_rung_mends_is_an_error_and_never_a_number() -> None:
    solver, _ = _lying_solver(len(RUNGS) + 1)
    with pytest.raises(UnableToSolve, match="interior_point: Unknown"):
        solver.solve(np.array([6.0]))
    assert solver.recoveries == {}


def test_nothing_is_read_after_a_change_and_before_the_next_solve() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    for change in _changes(solver):
        solver.solve(np.array([6.0]))
        change()
        with pytest.raises(ValueError, match="nothing may be read"):
            solver.row_duals()


def _changes(solver: WarmSolver) -> Iterator[Any]:
    one, zero = np.array([1], dtype=np.int32), np.zeros(1)
    yield lambda: solver.set_costs(one, costs=zero + 29.0)
    yield lambda: solver.set_column_bounds(one, lower=zero, upper=zero + 8.0)
    yield lambda: solver.set_row_bounds(one, lower=zero - 9.0, upper=zero)
    yield lambda: solver.add_rows(Sparse.from_entries(1, [(0, 1, 1.0)]), lower=zero, upper=zero + 9.0)
    yield lambda: solver.delete_rows(np.array([2], dtype=np.int32))
    yield solver.clear


def test_cuts_are_added_and_deleted_and_change_the_optimum() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    free = solver.solve(np.array([6.0]))
    rows = solver.add_rows(
        Sparse.from_entries(2, [(0, 0, 1.0), (1, 1, 1.0)]), lower=np.array([-np.inf, 0.0]), upper=np.array([2.0, 9.0])
    )
    assert rows.tolist() == [2, 3]
    assert solver.solve() == pytest.approx(0.5 + 2.0 + 120.0, abs=1e-12)
    assert solver.row_duals().size == 4
    solver.delete_rows(rows)
    assert solver.solve() == free


def test_a_basis_can_be_taken_and_set_again() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    solver.solve(np.array([6.0]))
    basis = solver.basis
    solver.solve(np.array([10.0]))
    solver.basis = basis
    solver.solve(np.array([6.0]))
    assert solver.iterations == 0


def test_only_the_first_solve_is_presolved() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED, presolve_first=True)
    lying = _Lying(solver._model, [])
    solver._model = lying
    assert [solver.solve(np.array([load])) for load in (6.0, 10.0)] == pytest.approx([93.5, 184.5], rel=1e-12)
    assert [value for name, value in lying.options if name == "presolve"] == ["on", "off"]


def test_an_option_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="does not take the option simplex = 3"):
        WarmSolver(_program(), options={"simplex": 3})


class _Drifting:
    """Stands in for HiGHS's model: until it is cleared, its columns do not add up to its rows."""

    def __init__(self, model: highspy.Highs) -> None:
        self._model, self.is_fresh = model, False

    def clearSolver(self) -> Any:
        self.is_fresh = True
        return self._model.clearSolver()

    def getSolution(self) -> Any:
        solution = self._model.getSolution()
        if self.is_fresh:
            return solution
        values = np.array(solution.col_value)
        values[1] += 4e-4
        return SimpleNamespace(col_value=values, row_value=solution.row_value, row_dual=solution.row_dual)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _drifting_solver() -> WarmSolver:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    solver._model = _Drifting(solver._model)
    return solver


def test_columns_that_do_not_add_up_are_solved_for_anew_and_counted() -> None:
    solver = _drifting_solver()
    solver.solve(np.array([6.0]))
    assert solver.columns().tolist() == [3.0, 3.0]
    assert dict(solver.recoveries) == {REFRESHED: 1}
    assert solver.columns().tolist() == [3.0, 3.0]
    assert dict(solver.recoveries) == {REFRESHED: 1}


def test_many_solves_hand_over_no_columns_that_do_not_add_up() -> None:
    solver = _drifting_solver()
    found = solver.solve_many(np.array([[6.0], [10.0]]))
    np.testing.assert_allclose(found.columns, [[3.0, 3.0], [4.0, 6.0]])
    np.testing.assert_allclose(found.objective, [93.5, 184.5])
    assert solver.recoveries[REFRESHED] == 1


def test_rows_behind_a_deleted_one_are_not_multiplied_out() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    solver.delete_rows(np.array([1], dtype=np.int32))
    solver.solve(np.array([6.0]))
    assert solver.columns().tolist() == [4.0, 2.0]
    assert not solver.recoveries


def test_columns_of_the_small_case_add_up_without_being_solved_anew() -> None:
    solver, states = small_stage().solver(), draw_states(small_case(), count=50, seed=4)
    for volume, inflow in zip(*states, strict=True):
        solver.solve(small_stage().water(volume, inflow_BR=inflow))
        solver.columns()
    assert not solver.recoveries


def test_statuses_are_those_of_the_basis_columns_before_rows() -> None:
    solver = WarmSolver(_program(), moved_rows=MOVED)
    solver.solve(np.array([10.0]))
    assert solver.columns().tolist() == [4.0, 6.0]
    first, second, load, half = solver.statuses().tolist()
    assert (first, second, half) == (2, 1, 1)
    assert load in (0, 2)
