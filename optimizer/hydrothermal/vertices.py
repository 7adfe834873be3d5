r"""A growing cache of dual vertices: what a stage costs and what its water is worth, as one matrix product and a max.

With the volume at the end of a stage held at a target v̂, the stage sees the target only through the net release
r = v⁻ + K w − v̂, the right-hand side of its water rows. Its cost is Q(r) = min {c · x : A x = h + B r, bounds}, and the
duals that are feasible for it depend on A and c alone. So each of them bounds Q from below *for every* r,

    L(r) = α + μ · r ≤ Q(r),   μ its part on the water rows,   α its part on every other row and bound,

and Q is the largest of them. The whole dual is kept, not (μ, α) alone: another load, rating or availability changes α
by a product of vectors, and leaves it valid. A change of costs, of K, of production or of the grid voids the cache.

The cache errs on one side: it never says more than the stage costs (to the solver's tolerance, and each dual is checked
when it comes in). Where it says what a feasible dispatch costs, it is exact and its gradient a subgradient: `certify`
proves that point by point, by the bases that were found on the way and without a solver (`bases.py`). What is not
proven may be a miss: `audit` solves such points by HiGHS, counts the misses, adds their vertices, and keeps the bases.
Training goes by the cache; judging goes by HiGHS (`operate.py`).
"""

# M point, V vertex, R reservoir, m row, n column, P period

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optimizer.hydrothermal.affine import DUAL_FEASIBLE, Statuses, UnableToUseBasis
from optimizer.hydrothermal.bases import OptimalBases
from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.model import least_volume
from optimizer.hydrothermal.stage import StageArrays
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import Integers, LinearProgram
from optimizer.solvers.signs import dual_objective, reduced_costs
from policies.errors import Unable

MISS: Final = 1e-6
"""A cached value is a miss where HiGHS says more by this share: ten times the solver's own tolerance of 1e-7."""

FEW_BASES: Final = 500
"""So many bases are kept whatever they certify, and more while they certify most of the points of an audit.

To check a basis costs as much as two or three solves. It pays where the basis certifies many points later; where flows
may go round in many equally good ways, as in Brazil's exchange between regions, it certifies few.
"""

_SAME_DIGITS: Final = 4  # of slopes and intercepts: below what float32 can tell


class UnableToCache(Unable):
    """A dual of the solver is not feasible, so that it bounds nothing."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Count points looked at, certified and solved, misses among them, and bases that did not pass their checks."""

    points: int = 0
    certified: int = 0
    solved: int = 0
    misses: int = 0
    refused: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Add counts one by one."""
        return Counts(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Say what an audit found: its counts, vertices added, largest relative shortfall of a point that was solved."""

    counts: Counts
    added: int
    largest_gap: float

    @property
    def misses(self) -> int:
        """Return how many points were priced too low."""
        return self.counts.misses

    @property
    def missing_share(self) -> float:
        """Return the share of all points that are priced too low, if those not solved are like those solved."""
        counts = self.counts
        return counts.misses / max(counts.solved, 1) * (counts.points - counts.certified) / max(counts.points, 1)


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
        self.counts = Counts()
        self._programs = [release_program(arrays, period=period) for period in range(self.periods)]
        self.bases = OptimalBases(self._programs, moved_rows=arrays.water_rows, device=self.device)
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

    def certify(self, release: Tensor, *, period: int) -> Tensor:
        """Say at which releases [M, R] the bound is proven to be the cost, and its gradient a subgradient; bool [M].

        What is proven is what `evaluate` says in float64; in float32 it is rounded on top.
        """
        release = release.double()
        if not self.size:
            return torch.zeros(len(release), dtype=torch.bool, device=release.device)
        return self.bases.prove(release, price=self.evaluate(release, period=period)[0], period=period)

    def audit(
        self,
        release_MR: Floats,
        *,
        periods: Integers,
        solve_at_most: int | None = None,
        where: Callable[[int], str] = "point {}".format,
    ) -> Audit:
        """Certify points, solve those by HiGHS that are not, add the vertices that were missing, and keep the bases.

        Each period's first solve of an audit is a cold one: what is found depends on the points and on the cache.

        Args:
            release_MR: float64 [M, R], net releases in the case's volume.
            periods: int32 [M], the period of each.
            solve_at_most: of the points that are not certified, the first ones; all where not given.
            where: names a point in an error.

        Raises:
            UnableToSolve: a point has no optimum.
            UnableToCache: a dual is not feasible.
        """
        before, gaps, refused = self.size, [], 0
        certified = self._certified(release_MR, periods)
        is_keeping = self.bases.size < FEW_BASES or 2 * int(certified.sum()) > len(certified)
        places = np.flatnonzero(~certified)[:solve_at_most]
        for period in np.unique(periods[places]).tolist():
            here = places[periods[places] == period]
            bounds = self._bounds(release_MR[here], period)
            solver = self._solver(period)
            solver.clear()
            for place, bound in zip(here.tolist(), bounds.tolist(), strict=True):
                cost = solver.solve(release_MR[place], where=lambda place=place: where(place))  # type: ignore[misc]
                gaps.append((cost - bound) / max(abs(cost), 1.0))
                dual = solver.row_duals()
                if gaps[-1] > MISS:
                    self._add(dual, where(place))
                refused += is_keeping and not self._keep(solver.statuses(), dual, where(place))
        counts = Counts(
            points=len(release_MR),
            certified=int(certified.sum()),
            solved=len(gaps),
            misses=sum(gap > MISS for gap in gaps),
            refused=refused,
        )
        self.counts += counts
        largest = max((gap for gap in gaps if gap > MISS), default=0.0)
        return Audit(counts=counts, added=self.size - before, largest_gap=largest)

    def restore(self, duals: Floats, *, statuses: Statuses | None = None, counts: Counts | None = None) -> None:
        """Take the vertices of another cache of the same case, float64 [V, m], and its bases, int8 [B, n + m].

        Raises:
            UnableToCache: they are of another program.
            UnableToUseBasis: a basis proves nothing in this one.
        """
        if duals.shape[1:] != self.duals.shape[1:]:
            raise UnableToCache(f"expected duals of {self.duals.shape[1]} rows, found {duals.shape[1:]}")
        self.duals, self.intercepts, self._known = self.duals[:0], self.intercepts[:0], set()
        self.counts = counts or Counts()
        for dual in duals:
            self._add(dual, "a restored vertex")
        self.bases.clear()
        for number, basis in enumerate(() if statuses is None else statuses):
            self.bases.add(basis, where=f"restored basis {number}")

    def _keep(self, statuses: Statuses, dual: Floats, where: str) -> bool:
        """Keep a basis for later proofs; say whether it passed its checks."""
        try:
            self.bases.add(statuses, row_duals=dual, where=where)
        except UnableToUseBasis:
            return False
        return True

    def _certified(self, release_MR: Floats, periods: Integers) -> NDArray[np.bool_]:
        certified = np.zeros(len(release_MR), dtype=np.bool_)
        for period in np.unique(periods).tolist():
            places = np.flatnonzero(periods == period)
            release = torch.tensor(release_MR[places], device=self.device)
            certified[places] = self.certify(release, period=period).cpu().numpy()
        return certified

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
        tolerance = DUAL_FEASIBLE * self._cost_scale
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
        if worst > DUAL_FEASIBLE * self._cost_scale:
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
