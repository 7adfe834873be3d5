"""What a simplex basis says of a stage for every release: a dispatch, its cost, and where both hold.

The stage's rows are read as equations over its columns x and the rows' activities s, A x − s = 0, each of them within
bounds. A basis puts all but m of them at a bound; the others follow from the equations. The release r is a bound of
the water rows and of nothing else, so all of them are affine in it,

    z(r) = z₀ + Z r,   cost(r) = α + μ · r,

and as long as they lie within their bounds z(r) is a dispatch, so that Q(r) ≤ α + μ · r. That is half of a proof; the
other half, Q(r) ≥ L(r), is any dual vertex (`vertices.py`). Where the two meet, the price is exact.

Where the bounds hold is a polyhedron in r. Many columns move along with the same reservoir, so rows that point the same
way are merged into one with the tightest bounds: Bolivia's 113 basic columns and rows become about 22 directions.

Nothing about a basis is believed: the equations are multiplied out, and its duals are recomputed and must be feasible.
"""

# R reservoir, P period, m row, n column, z column or row (n + m), D direction

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optimizer.solvers.program import Floats, Integers, LinearProgram
from policies.errors import Unable

Statuses = NDArray[np.int8]

LOWER, BASIC, UPPER, ZERO = range(4)
"""Where a column or row stands. Source: HiGHS, `HighsBasisStatus`."""

FEASIBLE: Final = 1e-9
"""How far a dispatch may miss a bound, as a share of it where it is above one: a hundredth of HiGHS's tolerance."""

DUAL_FEASIBLE: Final = 1e-6
"""How far a dual may be infeasible: HiGHS's tolerance 1e-7 on prices, relative to the largest cost, with room."""

_RESIDUAL: Final = 1e-10  # of the equations, where they are multiplied out
_SAME_DIRECTION: Final = 12  # digits of a unit vector
_STILL: Final = 1e-12  # a column that moves by less per unit of release does not move


class UnableToUseBasis(Unable):
    """A basis is singular, misses the stage's equations, or is not optimal for any release."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StageSystem:
    """Hold a stage as equations, one set of bounds for each period of the load.

    Attributes:
        matrix: float64 [m, z], A beside −1.
        cost: float64 [z], zero for rows.
        offset: of the cost.
        lower, upper: float64 [P, z]; zero for the moved rows, whose bounds are the release.
        moved: int64 [R], the places of the moved rows in z.
        dual_tolerance: how far a dual may be infeasible, in cost per unit.
    """

    matrix: Floats
    cost: Floats
    offset: float
    lower: Floats
    upper: Floats
    moved: NDArray[np.int64]
    dual_tolerance: float

    @cached_property
    def has_one_value(self) -> NDArray[np.bool_]:
        """Say which columns and rows have one value alone in every period, bool [z]."""
        return np.asarray((self.lower == self.upper).all(axis=0))


@dataclass(frozen=True, kw_only=True, eq=False)
class AffineOptimum:
    """Hold what a basis says: at releases r with low ≤ normal r ≤ high, the stage costs intercept + slope · r.

    Attributes:
        normal: float64 [D, R], unit vectors, and zero for what does not depend on the release.
        low, high: float64 [D, P].
        slope: float64 [R].
        intercept: float64 [P]; not a number where a period has no bound for the basis to stand at.
    """

    normal: Floats
    low: Floats
    high: Floats
    slope: Floats
    intercept: Floats


def stage_system(programs: Sequence[LinearProgram], *, moved_rows: Integers) -> StageSystem:
    """Return the equations of a stage whose programs, one for each period, differ in bounds alone."""
    first = programs[0]
    rows, columns = first.row_lower.size, first.cost.size
    return StageSystem(
        matrix=np.hstack([first.dense(), -np.eye(rows)]),
        cost=np.append(first.cost, np.zeros(rows)),
        offset=first.offset,
        lower=np.array([np.append(program.column_lower, program.row_lower) for program in programs]),
        upper=np.array([np.append(program.column_upper, program.row_upper) for program in programs]),
        moved=columns + moved_rows.astype(np.int64),
        dual_tolerance=DUAL_FEASIBLE * float(np.abs(first.cost).max(initial=1.0)),
    )


def settled(statuses: Statuses, *, system: StageSystem) -> Statuses:
    """Return statuses in which a column or row with one value alone stands at its lower bound, whoever says which."""
    found: Statuses = np.where(system.has_one_value & (statuses == UPPER), np.int8(LOWER), statuses)
    return found


def affine_optimum(statuses: Statuses, *, system: StageSystem, row_duals: Floats | None, where: str) -> AffineOptimum:
    """Return what a basis says, after checking it.

    Args:
        statuses: int8 [z], of columns and then rows, as `settled` returns them.
        system: the stage's.
        row_duals: float64 [m], the solver's at the optimum that the basis is of, with which its own are compared.
        where: names the basis in an error.

    Raises:
        UnableToUseBasis: it is singular, misses an equation, has no feasible duals or others than the solver's.
    """
    basic = np.flatnonzero(statuses == BASIC)
    if basic.size != len(system.matrix) or statuses.min() < LOWER or statuses.max() > ZERO:
        raise UnableToUseBasis(f"expected {len(system.matrix)} basic columns and rows at {where}, found {basic.size}")
    standing = _standing(statuses, system)
    matrix = torch.from_numpy(system.matrix[:, basic])
    factors, pivots, failed = torch.linalg.lu_factor_ex(matrix)
    if int(failed):
        raise UnableToUseBasis(f"expected a basis that determines the dispatch at {where}, found a singular one")
    standing[basic] = torch.linalg.lu_solve(factors, pivots, -_product(system.matrix, standing)).numpy()
    costs = torch.from_numpy(system.cost[basic, None])
    duals = torch.linalg.lu_solve(factors, pivots, costs, adjoint=True).numpy()[:, 0]
    _check(standing, duals, statuses=statuses, system=system, row_duals=row_duals, where=where)
    count = system.moved.size
    cost = system.cost @ standing
    return _within_bounds(standing, basic, system, slope=cost[:count], intercept=cost[count:] + system.offset)


def _standing(statuses: Statuses, system: StageSystem) -> Floats:
    """Return z by the release and by period, float64 [z, R + P], with the basic ones still at zero."""
    count = system.moved.size
    at = np.where(statuses == LOWER, system.lower, np.where(statuses == UPPER, system.upper, 0.0))
    standing = np.hstack([np.zeros((at.shape[1], count)), np.where(np.isfinite(at), at, np.nan).T])
    standing[system.moved, np.arange(count)] = statuses[system.moved] != BASIC
    return standing


def _product(one: Floats, other: Floats) -> Tensor:
    """Multiply by torch, which keeps to the threads that it is told; numpy's would wait for each other."""
    return torch.from_numpy(one) @ torch.from_numpy(other)


def _check(
    standing: Floats,
    duals: Floats,
    *,
    statuses: Statuses,
    system: StageSystem,
    row_duals: Floats | None,
    where: str,
) -> None:
    """Refuse a basis that misses an equation, or whose duals are not feasible or not the solver's."""
    count = system.moved.size
    missed = ~(
        np.abs(_product(system.matrix, standing).numpy()) <= _RESIDUAL * (1.0 + np.abs(standing).max(axis=0))
    ).all(axis=0)
    has_no_bound = np.isnan(standing[:, count:]).any(axis=0)
    if missed[:count].any() or (missed[count:] & ~has_no_bound).any() or has_no_bound.all():
        raise UnableToUseBasis(f"expected the dispatch of the basis at {where} to meet the stage's equations")
    reduced = system.cost - duals @ system.matrix
    is_free = (statuses == BASIC) | system.has_one_value
    wrong = np.where(statuses == LOWER, -reduced, np.where(statuses == UPPER, reduced, np.abs(reduced)))
    worst = float(wrong[~is_free].max(initial=0.0))
    if worst > system.dual_tolerance:
        raise UnableToUseBasis(f"expected feasible duals of the basis at {where}, found one {worst:.3g} off")
    if row_duals is not None and np.abs(duals - row_duals).max() > system.dual_tolerance:
        raise UnableToUseBasis(f"expected the solver's duals of the basis at {where}, found others")


def _within_bounds(
    standing: Floats, basic: NDArray[np.intp], system: StageSystem, *, slope: Floats, intercept: Floats
) -> AffineOptimum:
    """Return where the basic columns and rows lie within their bounds; parallel conditions become one."""
    count = system.moved.size
    moves, still = standing[basic, :count], standing[basic, count:]
    moves = moves - (basic[:, None] == system.moved)  # the bounds of a water row are the release itself
    lower, upper = system.lower[:, basic].T, system.upper[:, basic].T
    low, high = lower - _room(lower) - still, upper + _room(upper) - still
    has_bound = (~np.isinf(low) | ~np.isinf(high)).any(axis=1)
    normal, low, high = _merged(moves[has_bound], low=low[has_bound], high=high[has_bound])
    return AffineOptimum(normal=normal, low=low, high=high, slope=slope, intercept=intercept)


def _room(bound: Floats) -> Floats:
    """Return by how much a bound may be missed."""
    return FEASIBLE * np.maximum(1.0, np.abs(np.where(np.isfinite(bound), bound, 0.0)))


def _merged(moves: Floats, *, low: Floats, high: Floats) -> tuple[Floats, Floats, Floats]:
    """Return conditions low ≤ moves r ≤ high, float64 [m, R] and [m, P], by unit vectors that all differ."""
    length = np.linalg.norm(moves, axis=1, keepdims=True)
    has_moved = length > _STILL
    sign = np.sign(np.take_along_axis(moves, np.abs(moves).argmax(axis=1)[:, None], axis=1))
    scale = np.where(has_moved, sign / np.where(has_moved, length, 1.0), 1.0)
    unit = np.where(has_moved, moves * scale, 0.0)
    low, high = np.where(scale > 0, low, high) * scale, np.where(scale > 0, high, low) * scale
    places: dict[bytes, int] = {}
    rounded = np.round(unit, _SAME_DIRECTION) + 0.0  # minus zero is zero
    group = np.array([places.setdefault(direction.tobytes(), len(places)) for direction in rounded], np.intp)
    first = np.zeros(len(places), np.intp)
    first[group[::-1]] = np.arange(len(group))[::-1]
    tightest_low = np.full((first.size, low.shape[1]), -np.inf)
    tightest_high = np.full_like(tightest_low, np.inf)
    np.maximum.at(tightest_low, group, low)
    np.minimum.at(tightest_high, group, high)
    return unit[first], tightest_low, tightest_high
