"""All stages of one inflow path as a single program: the cost with perfect foresight.

The stage's block is repeated; −v_{t−1} enters the water rows of stage t. A path moves right-hand sides only, so one
model serves many paths, each solved from the basis of the one before. For a case with one scenario the least cost is
*the* cost; for the mean over paths it is a bound that no policy can beat, over the same horizon and with the same value
of the water that is left.
"""

# B path, T stage, R reservoir, n column, m row (of a stage)

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.stage import StageArrays
from optimizer.hydrothermal.value import ValueCuts
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import Integers, LinearProgram, rows_of_entries
from policies.recourse.program import Sparse


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectories:
    """Hold the optimal operation of B paths over T stages.

    Attributes:
        objective: float64 [B], cost of all stages and of the water left.
        terminal: float64 [B], the part of it that is the value of the water left; 0 without cuts.
        stage_costs: float64 [B, T].
        columns: float64 [B, T, n], the columns of each stage.
        water_duals: float64 [B, T, R], cost per unit of water more in a stage: minus the water value.
    """

    objective: Floats
    terminal: Floats
    stage_costs: Floats
    columns: Floats
    water_duals: Floats


class DeterministicEquivalent:
    """Solve T stages at once, path by path, on one warm model."""

    def __init__(
        self, arrays: StageArrays, *, stages: int, value: ValueCuts | None = None, is_end: bool = True
    ) -> None:
        """Build the program of stages 0 to T − 1, of which the last asks for the final volumes where it `is_end`.

        `value` is what the water left after stage T − 1 costs; nothing where it is not given.

        Raises:
            ValueError: there is not at least one stage.
        """
        if stages < 1:
            raise ValueError(f"expected at least one stage, found {stages}")
        self.arrays, self.stages, self.value, self.is_end = arrays, stages, value, is_end
        self._solver = WarmSolver(self.program, moved_rows=self._water_rows.ravel(), presolve_first=True)

    @cached_property
    def program(self) -> LinearProgram:
        """Return the program, its water rows at zero: T blocks of the stage, then the cost to go."""
        repeated = _repeat(self.arrays, self.stages, is_end=self.is_end)
        return repeated if self.value is None else _with_value(repeated, self.arrays, self.value)

    @property
    def recoveries(self) -> dict[str, int]:
        """Return how often each rung of the ladder helped."""
        return dict(self._solver.recoveries)

    def move_value(self, value: ValueCuts) -> None:
        """Let the next paths end with other heights of the same cuts: a cost to go that inflows move.

        Raises:
            ValueError: the cuts are not of the same number, or there were none.
        """
        if self.value is None or value.intercept.size != self.value.intercept.size:
            raise ValueError("expected as many cuts as the program was built with")
        rows = np.arange(self._solver.rows - value.intercept.size, self._solver.rows, dtype=np.int32)
        self._solver.set_row_bounds(rows, lower=value.intercept, upper=np.full(rows.size, np.inf))

    def solve(
        self,
        inflow_BTR: Floats,
        *,
        volume_initial: Floats | None = None,
        where: Callable[[int], str] = "path {}".format,
    ) -> Trajectories:
        """Return the optimal operation of each path of inflow float64 [B, T, R], in their order.

        `volume_initial` [R] is the case's where it is not given; `where` names a path in an error.

        Raises:
            UnableToSolve: a path has no optimum.
            ValueError: the paths do not have T stages of R inflows.
        """
        arrays, count = self.arrays, inflow_BTR.shape[0]
        if inflow_BTR.shape[1:] != (self.stages, arrays.reservoirs):
            raise ValueError(f"expected paths of {(self.stages, arrays.reservoirs)}, found {inflow_BTR.shape[1:]}")
        water_BTR = arrays.case.volume_per_flow * inflow_BTR
        water_BTR[:, 0] += arrays.case.volume_initial if volume_initial is None else volume_initial
        optima = self._solver.solve_many(water_BTR.reshape(count, -1), where=where)
        columns = optima.columns[:, : self.stages * arrays.program.cost.size].reshape(count, self.stages, -1)
        terminal = optima.columns[:, -1] if self.value is not None else np.zeros(count)
        return Trajectories(
            objective=optima.objective,
            terminal=terminal,
            stage_costs=columns @ arrays.program.cost + arrays.program.offset,
            columns=columns,
            water_duals=optima.row_duals[:, self._water_rows],
        )

    @cached_property
    def _water_rows(self) -> Integers:
        """Return the water rows of each stage, int32 [T, R]."""
        starts = np.arange(self.stages, dtype=np.int32)[:, None] * np.int32(self.arrays.program.row_lower.size)
        return starts + self.arrays.water_rows


def _repeat(arrays: StageArrays, stages: int, *, is_end: bool) -> LinearProgram:
    program = arrays.program
    own = [arrays.variant(stage, is_last=is_end and stage == stages - 1) for stage in range(stages)]
    return LinearProgram(
        cost=np.tile(program.cost, stages),
        offset=program.offset * stages,
        column_lower=np.tile(program.column_lower, stages),
        column_upper=np.concatenate([one.column_upper for one in own]),
        row_lower=np.concatenate([one.row_lower for one in own]),
        row_upper=np.concatenate([one.row_upper for one in own]),
        matrix=_repeated_matrix(arrays, stages),
        column_names=_named(program.column_names, stages),
        row_names=_named(program.row_names, stages),
    )


def _named(names: tuple[str, ...], stages: int) -> tuple[str, ...]:
    """Return the names of all stages; stages count from 1 where people read them."""
    return tuple(f"stage {stage}: {name}" for stage in range(1, stages + 1) for name in names)


def _repeated_matrix(arrays: StageArrays, stages: int) -> Sparse:
    """Return the blocks on the diagonal with −v_{t−1} in the water rows of each stage but the first."""
    one, n, m = arrays.program.matrix, arrays.program.cost.size, arrays.program.row_lower.size
    stage = np.repeat(np.arange(stages), one.data.size)
    rows = np.tile(rows_of_entries(one), stages) + m * stage
    columns = np.tile(one.indices, stages) + n * stage
    later = np.repeat(np.arange(1, stages), arrays.reservoirs)
    link_rows = np.tile(arrays.water_rows, stages - 1) + m * later
    link_columns = np.tile(arrays.volume_columns, stages - 1) + n * (later - 1)
    return _compressed(
        m * stages,
        np.concatenate([rows, link_rows]),
        np.concatenate([columns, link_columns]),
        np.concatenate([np.tile(one.data, stages), np.full(link_rows.size, -1.0)]),
    )


def _with_value(program: LinearProgram, arrays: StageArrays, value: ValueCuts) -> LinearProgram:
    """Return the program with a last column θ ≥ floor and a row θ − slope · v_T ≥ intercept for each cut."""
    n, m, cuts = program.cost.size, program.row_lower.size, value.intercept.size
    last = n - arrays.program.cost.size + arrays.volume_columns
    rows = np.repeat(np.arange(cuts), last.size + 1) + m
    columns = np.tile(np.append(last, n), cuts)
    data = np.hstack([-value.slope, np.ones((cuts, 1))]).ravel()
    old = program.matrix
    return replace(
        program.with_column("cost_to_go", cost=1.0, lower=value.floor, upper=np.inf),
        row_lower=np.append(program.row_lower, value.intercept),
        row_upper=np.append(program.row_upper, np.full(cuts, np.inf)),
        matrix=_compressed(
            m + cuts,
            np.concatenate([rows_of_entries(old), rows]),
            np.concatenate([old.indices, columns]),
            np.concatenate([old.data, data]),
        ),
        row_names=(*program.row_names, *(f"cut[{at}]" for at in range(cuts))),
    )


def _compressed(size: int, rows: Integers, columns: Integers, data: Floats) -> Sparse:
    order = np.lexsort((columns, rows))
    counts = np.bincount(rows, minlength=size)
    return Sparse(
        indptr=np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
        indices=columns[order].astype(np.int32),
        data=data[order],
    )
