"""The program of one stage with its cost to go: one warm HiGHS model, to which cuts are added as rows.

The stage's columns are followed by θ in units of `scale`, and its rows by one row for each cut:

    θ − slope · v / scale ≥ (intercept + inflow slope · X) / scale

so that what a cut brings into the matrix has the size of the stage's own numbers. State, inflow and noise move
right-hand sides only. Rows of cuts that are no longer selected stay until there are many; then they are deleted
together.
"""

# S choice, R reservoir, D dimension of the state, C cut, m row of the stage

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.sddp.cuts import CostToGo
from optimizer.hydrothermal.stage import StageArrays
from optimizer.solvers.highs import UnableToSolve, WarmSolver
from optimizer.solvers.program import Integers, LinearProgram
from policies.recourse.program import Sparse

REBUILT: Final = "rebuilt"
"""The last rung: the model is made anew, and with it scaled anew, when no rung of the warm model helped."""


class StageProgram:
    """Solve a stage with its cuts for many states; not to be shared between threads.

    Attributes:
        arrays: of the case.
        stage: from 0.
        cost_columns: number of the stage's own columns; θ is the one behind them.
    """

    def __init__(self, arrays: StageArrays, *, stage: int, is_last: bool, cost_to_go: CostToGo) -> None:
        """Build the model of a stage (from 0), `is_last` as its soft bounds want it, with the cuts given."""
        self.arrays, self.stage = arrays, stage
        self.cost_columns = arrays.program.cost.size
        self._own = arrays.of_stage(stage, is_last=is_last)
        self.scale = _scale(self._own.cost)
        self._past: Counter[str] = Counter()
        self._past_solves = 0
        self._floor, self._reservoirs = cost_to_go.floor, cost_to_go.reservoirs
        self._intercept, self._slope = cost_to_go.intercept, cost_to_go.slope
        self._solver = self._build()

    @property
    def solves(self) -> int:
        """Return how many solves there were."""
        return self._past_solves + self._solver.solves

    @property
    def recoveries(self) -> Counter[str]:
        """Return how often each rung of the ladder helped, `rebuilt` included."""
        return self._past + self._solver.recoveries

    def solve(self, water_R: Floats, *, inflow_R: Floats, where: Callable[[], str]) -> float:
        """Return the least cost of the stage and all later ones, for right-hand sides v⁻ + K w [R].

        `inflow_R` is the stage's inflow w, which cuts with memory look at; `where` names the solve in an error.

        Raises:
            UnableToSolve: no rung of the ladder found an optimum, and no rebuilt model either.
        """
        self._move_cuts(inflow_R)
        try:
            return self._solver.solve(water_R, where=where)
        except UnableToSolve:
            self.rebuild()
            self._move_cuts(inflow_R)
            found = self._solver.solve(water_R, where=where)
            self._past[REBUILT] += 1
            return found

    def gradients(self) -> tuple[Floats, Floats | None]:
        """Return d cost / d v⁻, float64 [R], and d cost / d w, float64 [R], where inflows have memory."""
        duals = self._solver.row_duals()
        water = duals[self.arrays.water_rows]
        if not self._has_memory:
            return water, None
        cuts = duals[self._own.row_lower.size :] / self.scale
        by_cuts: Floats = cuts @ self._slope[:, self._reservoirs :]
        return water, self.arrays.case.volume_per_flow * water + by_cuts

    def columns(self) -> tuple[Floats, float]:
        """Return the stage's columns at the optimum, float64 [n], and the cost to go."""
        columns = self._solver.columns()
        return columns[:-1], float(columns[-1]) * self.scale

    def row_duals(self) -> Floats:
        """Return the duals of the stage's own rows, float64 [m]."""
        return self._solver.row_duals()[: self._own.row_lower.size]

    def add_cuts(self, added: CostToGo) -> None:
        """Add cuts behind those that are held; the basis stays."""
        rows = self._cut_rows(added)
        self._solver.add_rows(rows, lower=added.intercept / self.scale, upper=np.full(added.value.size, np.inf))
        self._intercept = np.append(self._intercept, added.intercept)
        self._slope = np.vstack([self._slope, added.slope])

    def drop_cuts(self, keep: NDArray[np.bool_]) -> None:
        """Delete the rows of the cuts that are not kept (bool [C]); the next solve starts cold."""
        first = self._own.row_lower.size
        self._solver.delete_rows((first + np.flatnonzero(~keep)).astype(np.int32))
        self._intercept, self._slope = self._intercept[keep], self._slope[keep]

    def rebuild(self, cost_to_go: CostToGo | None = None) -> None:
        """Make the model anew, with other cuts where they are given: what comes then depends on the cuts alone."""
        self._past, self._past_solves = self.recoveries, self.solves
        if cost_to_go is not None:
            self._floor = cost_to_go.floor
            self._intercept, self._slope = cost_to_go.intercept, cost_to_go.slope
        self._solver = self._build()

    @property
    def _has_memory(self) -> bool:
        return bool(self._slope.shape[1] > self._reservoirs)

    def _build(self) -> WarmSolver:
        return WarmSolver(self._program(), moved_rows=self.arrays.water_rows)

    def _program(self) -> LinearProgram:
        own, count = self._own, self._intercept.size
        rows = _cut_rows(self._slope, self.arrays.volume_columns, own.cost.size, self.scale)
        return replace(
            own,
            cost=np.append(own.cost, self.scale),
            column_lower=np.append(own.column_lower, self._floor / self.scale),
            column_upper=np.append(own.column_upper, np.inf),
            row_lower=np.append(own.row_lower, self._intercept / self.scale),
            row_upper=np.append(own.row_upper, np.full(count, np.inf)),
            matrix=_stacked(own.matrix, rows),
            column_names=(*own.column_names, "cost_to_go"),
            row_names=(*own.row_names, *(f"cut[{at}]" for at in range(count))),
        )

    def _cut_rows(self, added: CostToGo) -> Sparse:
        return _cut_rows(added.slope, self.arrays.volume_columns, self.cost_columns, self.scale)

    def _move_cuts(self, inflow_R: Floats) -> None:
        if not (self._has_memory and self._intercept.size):
            return
        first = self._own.row_lower.size
        lower = (self._intercept + self._slope[:, self._reservoirs :] @ inflow_R) / self.scale
        rows = np.arange(first, first + lower.size, dtype=np.int32)
        self._solver.set_row_bounds(rows, lower=lower, upper=np.full(lower.size, np.inf))


def _scale(cost: Floats) -> float:
    """Return the power of ten next below the largest cost of the stage: θ's own cost."""
    largest = float(np.abs(cost).max(initial=0.0))
    return float(10.0 ** np.floor(np.log10(largest))) if largest > 0 else 1.0


def _cut_rows(slope: Floats, volume_columns: Integers, theta: int, scale: float) -> Sparse:
    """Return θ − slope · v / scale by compressed rows, without zeros; θ comes after all volumes."""
    R = volume_columns.size
    dense = np.hstack([-slope[:, :R] / scale, np.ones((len(slope), 1))])
    rows, places = np.nonzero(dense)
    return Sparse(
        indptr=np.append(0, np.bincount(rows, minlength=len(slope)).cumsum()).astype(np.int32),
        indices=np.append(volume_columns, theta)[places].astype(np.int32),
        data=dense[rows, places],
    )


def _stacked(upper: Sparse, lower: Sparse) -> Sparse:
    return Sparse(
        indptr=np.append(upper.indptr, upper.indptr[-1] + lower.indptr[1:]).astype(np.int32),
        indices=np.append(upper.indices, lower.indices).astype(np.int32),
        data=np.append(upper.data, lower.data),
    )
