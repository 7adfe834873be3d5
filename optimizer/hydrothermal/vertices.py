r"""A growing cache of dual vertices: what a stage costs and what its water is worth, as one matrix product and a max.

With the volume at the end of a stage held at a target v̂, the stage sees the target only through the net release
r = v⁻ + K w − v̂, the right-hand side of its water rows. Its cost is Q(r) = min {c · x : A x = h + B r, bounds}, and the
duals that are feasible for it depend on A and c alone. So each of them bounds Q from below *for every* r,

    L(r) = α + μ · r ≤ Q(r),   μ its part on the water rows,   α its part on every other row and bound,

and Q is the largest of them. The whole dual is kept, not (μ, α) alone: another load, rating or availability changes α
by a product of vectors, and leaves it valid. A change of costs, of K, of production or of the grid voids the cache.

The cache errs on one side: it never says more than the stage costs (to the solver's tolerance, and each dual is checked
when it comes in). Where it says less, a vertex is missing. `audit` solves points by HiGHS, counts such misses and adds
their vertices. Training goes by the cache; judging goes by HiGHS (`operate.py`).
"""

# M point, V vertex, R reservoir, m row, n column, P period

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.model import least_volume
from optimizer.hydrothermal.stage import StageArrays
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import Integers, LinearProgram
from optimizer.solvers.signs import dual_objective, reduced_costs
from policies.errors import Unable

MISS: Final = 1e-6
"""A cached value is a miss where HiGHS says more by this share: ten times the solver's own tolerance of 1e-7."""

_INFEASIBLE: Final = 1e-6
"""How far a dual may be infeasible: HiGHS's tolerance 1e-7 on prices, relative to the largest cost, with room."""

_SAME_DIGITS: Final = 4  # of slopes and intercepts: below what float32 can tell


class UnableToCache(Unable):
    """A dual of the solver is not feasible, so that it bounds nothing."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Say what an audit found: points solved, misses among them, vertices added, largest relative shortfall."""

    points: int
    misses: int
    added: int
    largest_gap: float


def release_program(arrays: StageArrays, *, period: int = 0) -> LinearProgram:
    """Return the stage with all volumes at zero, so that the water rows' right-hand side is the net release.

    What a volume below its soft bound costs depends on the target alone; it is left out (`violation_cost`).
    """
    program = arrays.of_stage(period)
    lower, upper = program.column_lower.copy(), program.column_upper.copy()
    lower[arrays.volume_columns] = upper[arrays.volume_columns] = 0.0
    row_lower = program.row_lower.copy()
    row_lower[arrays.rows["volume_floor"]] = -np.inf
    return replace(program, column_lower=lower, column_upper=upper, row_lower=row_lower)


class DualVertices:
    """Hold the vertices found so far, and evaluate them on any device.

    Releases are always of one period of the load, from 0; the vertices serve all periods.
    """

    def __init__(self, arrays: StageArrays, *, device: torch.device | None = None) -> None:
        self.arrays = arrays
        self.device = device or torch.device("cpu")
        self.periods = int(arrays.case.load.shape[0])
        self.duals = np.zeros((0, arrays.program.row_lower.size))
        self.intercepts = np.zeros((0, self.periods))
        self.points = self.misses = 0
        self._programs = [release_program(arrays, period=period) for period in range(self.periods)]
        self._solvers: dict[int, WarmSolver] = {}
        self._known: set[bytes] = set()
        self._tensors: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}
        self._cost_scale = float(np.abs(self._programs[0].cost).max(initial=1.0))

    @property
    def size(self) -> int:
        """Return the number V of vertices."""
        return len(self.duals)

    def evaluate(self, release: Tensor, *, period: int) -> tuple[Tensor, Tensor]:
        """Return the bound on the cost, [M], and its gradient by the release, [M, R], of releases [M, R].

        Where two vertices give the same bound, the first one's gradient is taken.
        """
        slope, intercept = self._tables(period, release.dtype)
        bound, best = torch.addmm(intercept, release, slope.T).max(dim=1)
        return bound, slope[best]

    def audit(self, release_MR: Floats, *, periods: Integers, where: Callable[[int], str] = "point {}".format) -> Audit:
        """Solve points by HiGHS, compare, and add the vertices that were missing.

        Each period's first solve of an audit is a cold one: what is found depends on the points and on nothing before.

        Args:
            release_MR: float64 [M, R], net releases in the case's volume.
            periods: int32 [M], the period of each.
            where: names a point in an error.

        Raises:
            UnableToSolve: a point has no optimum.
            UnableToCache: a dual is not feasible.
        """
        before, misses, largest = self.size, 0, 0.0
        for period in np.unique(periods).tolist():
            places = np.flatnonzero(periods == period)
            bounds = self._bounds(release_MR[places], period)
            solver = self._solver(period)
            solver.clear()
            for place, bound in zip(places.tolist(), bounds.tolist(), strict=True):
                cost = solver.solve(release_MR[place], where=lambda place=place: where(place))  # type: ignore[misc]
                gap = (cost - bound) / max(abs(cost), 1.0)
                if gap > MISS:
                    misses += 1
                    largest = max(largest, gap)
                    self._add(solver.row_duals(), where(place))
        self.points += len(release_MR)
        self.misses += misses
        return Audit(points=len(release_MR), misses=misses, added=self.size - before, largest_gap=largest)

    def restore(self, duals: Floats, *, points: int = 0, misses: int = 0) -> None:
        """Take the vertices of another cache of the same case, float64 [V, m].

        Raises:
            UnableToCache: they are of another program.
        """
        if duals.shape[1:] != self.duals.shape[1:]:
            raise UnableToCache(f"expected duals of {self.duals.shape[1]} rows, found {duals.shape[1:]}")
        self.duals, self.intercepts, self._known = self.duals[:0], self.intercepts[:0], set()
        self.points, self.misses = points, misses
        for dual in duals:
            self._add(dual, "a restored vertex")

    def _solver(self, period: int) -> WarmSolver:
        if period not in self._solvers:
            self._solvers[period] = WarmSolver(self._programs[period], moved_rows=self.arrays.water_rows)
        return self._solvers[period]

    def _bounds(self, release_MR: Floats, period: int) -> Floats:
        if not self.size:
            return np.full(len(release_MR), -np.inf)
        slope, intercept = (table.cpu().numpy() for table in self._tables(period, torch.float64))
        bounds: Floats = (release_MR @ slope.T + intercept).max(axis=1)
        return bounds

    def _add(self, dual: Floats, where: str) -> None:
        intercepts = self._intercepts(dual)
        key = np.round(np.append(dual[self.arrays.water_rows], intercepts), _SAME_DIGITS).tobytes()
        if key in self._known:
            return
        self._check(dual, where)
        self._known.add(key)
        self.duals = np.vstack([self.duals, dual])
        self.intercepts = np.vstack([self.intercepts, intercepts])
        self._tensors = {}

    def _intercepts(self, dual: Floats) -> Floats:
        """Return α of a dual in each period, float64 [P]; the water rows stand at zero."""
        tolerance = _INFEASIBLE * self._cost_scale
        return np.array([dual_objective(program, dual, tolerance=tolerance) for program in self._programs])

    def _check(self, dual: Floats, where: str) -> None:
        """Refuse a dual whose sign asks for a bound that is infinite: it bounds nothing."""
        program = self._programs[0]
        columns = reduced_costs(program, dual)
        columns[self.arrays.volume_columns] = 0.0
        asked = [
            np.where(np.isinf(program.column_lower), columns, 0.0).max(initial=0.0),
            -np.where(np.isinf(program.column_upper), columns, 0.0).min(initial=0.0),
            np.where(np.isinf(program.row_lower), dual, 0.0).max(initial=0.0),
            -np.where(np.isinf(program.row_upper), dual, 0.0).min(initial=0.0),
        ]
        worst = max(asked)
        if worst > _INFEASIBLE * self._cost_scale:
            raise UnableToCache(f"expected a feasible dual at {where}, found one {worst:.3g} off")

    def _tables(self, period: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return slopes [V, R] and intercepts [V] of a period on the device."""
        key = (period, dtype)
        if key not in self._tensors:
            tables = self.duals[:, self.arrays.water_rows], self.intercepts[:, period]
            slope, intercept = (torch.tensor(table, dtype=dtype, device=self.device) for table in tables)
            self._tensors[key] = slope, intercept
        return self._tensors[key]


def violation_cost(arrays: StageArrays, volume: Tensor, *, is_last: bool) -> Tensor:
    """Return what volumes [..., R] below their soft bound cost in a stage, [...], differentiable."""
    hydros = arrays.case.hydros
    floor = [least_volume(hydro, is_last=is_last) for hydro in hydros]
    cost = [hydro.volume_violation_cost if bound > 0 else 0.0 for hydro, bound in zip(hydros, floor, strict=True)]
    lacking = torch.relu(torch.tensor(floor, dtype=volume.dtype, device=volume.device) - volume)
    return lacking @ torch.tensor(cost, dtype=volume.dtype, device=volume.device)
