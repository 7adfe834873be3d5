import re
from dataclasses import replace

import numpy as np
import pytest

from optimizer.hydrothermal.affine import (
    BASIC,
    LOWER,
    UPPER,
    ZERO,
    AffineOptimum,
    StageSystem,
    Statuses,
    UnableToUseBasis,
    affine_optimum,
    settled,
    stage_system,
)
from optimizer.hydrothermal.vertices import release_program
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import Floats, LinearProgram
from policies.recourse.program import Sparse
from tests.helpers.small_case import small_stage

MOVED = np.array([0], dtype=np.int32)
SHARED = (BASIC, BASIC, LOWER, UPPER)
FIRST_IS_FULL = (UPPER, BASIC, LOWER, BASIC)


def _program(*, second_in_half: float = -1.0, first_upper: float = 4.0) -> LinearProgram:
    """Meet a load [row 0] by a plant at 1 up to 4, another at 30 up to 9; the first is at most half of all [row 1]."""
    return LinearProgram(
        cost=np.array([1.0, 30.0]),
        offset=0.5,
        column_lower=np.zeros(2),
        column_upper=np.array([first_upper, 9.0]),
        row_lower=np.array([0.0, -np.inf]),
        row_upper=np.array([0.0, 0.0]),
        matrix=Sparse.from_entries(2, [(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0), (1, 1, second_in_half)]),
        column_names=("first", "second"),
        row_names=("load", "half"),
    )


def _system(*programs: LinearProgram) -> StageSystem:
    return stage_system(programs or (_program(),), moved_rows=MOVED)


def _said(*statuses: int, system: StageSystem | None = None, row_duals: Floats | None = None) -> AffineOptimum:
    basis = np.array(statuses, dtype=np.int8)
    return affine_optimum(basis, system=system or _system(), row_duals=row_duals, where="a test")


@pytest.mark.parametrize(
    ("statuses", "slope", "intercept", "low", "high"),
    [(SHARED, 15.5, 0.5, 0.0, 8.0), (FIRST_IS_FULL, 30.0, 0.5 + 4.0 - 120.0, 8.0, 13.0)],
)
def test_a_basis_says_what_loads_it_serves_and_at_what_cost(
    statuses: tuple[int, ...], slope: float, intercept: float, low: float, high: float
) -> None:
    said = _said(*statuses)
    assert said.normal.tolist() == [[1.0]]
    assert said.slope == pytest.approx([slope], abs=1e-12)
    assert said.intercept == pytest.approx([intercept], abs=1e-12)
    assert float(said.low.item()) == pytest.approx(low, abs=1e-8)
    assert float(said.high.item()) == pytest.approx(high, abs=1e-8)


def test_each_period_has_its_own_bounds_and_cost() -> None:
    said = _said(*FIRST_IS_FULL, system=_system(_program(), _program(first_upper=3.0)))
    assert said.intercept == pytest.approx([0.5 + 4.0 - 120.0, 0.5 + 3.0 - 90.0], abs=1e-12)
    np.testing.assert_allclose(said.low, [[8.0, 6.0]], atol=1e-8)
    np.testing.assert_allclose(said.high, [[13.0, 12.0]], atol=1e-8)


def test_a_period_without_the_bound_that_a_basis_stands_at_is_served_by_it_nowhere() -> None:
    said = _said(*FIRST_IS_FULL, system=_system(_program(), _program(first_upper=np.inf)))
    assert np.isfinite(said.intercept).tolist() == [True, False]
    serves_nine = np.logical_and(said.low <= 9.0, said.high >= 9.0)
    assert np.all(serves_nine, axis=0).tolist() == [True, False]


def test_a_load_that_is_basic_serves_its_own_load_alone() -> None:
    said = _said(LOWER, LOWER, BASIC, BASIC)
    assert float(said.low.max()) == pytest.approx(0.0, abs=1e-8)
    assert float(said.high.min()) == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ((BASIC, LOWER, LOWER, UPPER), "expected 2 basic columns and rows at a test, found 1"),
        ((7, BASIC, BASIC, LOWER), "expected 2 basic columns"),
        ((LOWER, BASIC, LOWER, BASIC), "expected feasible duals of the basis at a test, found one 29 off"),
        ((ZERO, BASIC, LOWER, BASIC), "expected feasible duals"),
        ((BASIC, BASIC, LOWER, LOWER), "to meet the stage's equations"),
    ],
)
def test_a_planted_wrong_basis_is_refused(statuses: tuple[int, ...], message: str) -> None:
    with pytest.raises(UnableToUseBasis, match=message):
        _said(*statuses)


def test_a_singular_basis_is_refused() -> None:
    with pytest.raises(UnableToUseBasis, match="found a singular one"):
        _said(*SHARED, system=_system(_program(second_in_half=1.0)))


def test_a_basis_with_other_duals_than_the_solver_says_is_refused() -> None:
    assert _said(*FIRST_IS_FULL, row_duals=np.array([30.0, 0.0])).slope.tolist() == [30.0]
    with pytest.raises(UnableToUseBasis, match=re.escape("expected the solver's duals of the basis at a test")):
        _said(*FIRST_IS_FULL, row_duals=np.array([15.5, 0.0]))


def test_a_column_with_one_value_has_one_status() -> None:
    system = _system(replace(_program(), column_lower=np.array([4.0, 0.0])))
    both = [np.array([status, BASIC, LOWER, BASIC], dtype=np.int8) for status in (LOWER, UPPER)]
    one, other = (settled(statuses, system=system) for statuses in both)
    assert one.tolist() == other.tolist()


def _solved(*, count: int) -> list[tuple[Floats, float, Floats, Statuses, Floats]]:
    """Return releases of the small case with what HiGHS says: cost, row duals, statuses, columns and rows."""
    arrays, generator = small_stage(), np.random.default_rng(4)
    program = release_program(arrays)
    solver, found = WarmSolver(program, moved_rows=arrays.water_rows), []
    for release in generator.uniform(0.0, 3.0, (count, arrays.reservoirs)):
        cost = solver.solve(release)
        columns = solver.columns()
        values = np.append(columns, program.dense() @ columns)
        found.append((release, cost, solver.row_duals(), solver.statuses(), values))
    return found


def test_where_a_basis_was_found_it_holds_and_costs_what_the_solver_says() -> None:
    arrays = small_stage()
    system = stage_system([release_program(arrays)], moved_rows=arrays.water_rows)
    for release, cost, duals, statuses, values in _solved(count=40):
        basis = settled(statuses, system=system)
        said = affine_optimum(basis, system=system, row_duals=duals, where="a test")
        at = said.normal @ release
        assert ((at >= said.low[:, 0]) & (at <= said.high[:, 0])).all()
        assert said.intercept[0] + said.slope @ release == pytest.approx(cost, rel=1e-12)
        bounds = np.where(basis == UPPER, system.upper[0], system.lower[0])
        stands = ((basis == LOWER) | (basis == UPPER)) & ~np.isin(np.arange(basis.size), system.moved)
        np.testing.assert_allclose(values[stands], bounds[stands], atol=1e-9)


def test_conditions_that_point_the_same_way_are_merged() -> None:
    arrays = small_stage()
    system = stage_system([release_program(arrays)], moved_rows=arrays.water_rows)
    for _, _, duals, statuses, _ in _solved(count=5):
        said = affine_optimum(settled(statuses, system=system), system=system, row_duals=duals, where="a test")
        lengths = np.linalg.norm(said.normal, axis=1)
        assert ((np.abs(lengths - 1.0) < 1e-12) | (lengths == 0.0)).all()
        assert len(said.normal) < len(system.matrix) / 2
