"""What operating a case by given volumes costs: every stage solved by HiGHS, whoever proposed the volumes.

This is the judge: no cache, no approximation, no status unchecked. A policy's own estimate of its cost never counts.
"""

# B path, T stage, R reservoir

from dataclasses import dataclass

import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.stage import StageArrays
from optimizer.solvers.highs import WarmSolver


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """Hold what was read of B paths of T stages.

    Attributes:
        cost: float64 [B, T], in the case's unit of cost.
        deficit: float64 [B, T], load that was not met, in MW over all buses.
        spilled: float64 [B, T, R], in the case's volume.
        water_values: float64 [B, T, R], what one unit of water more would save in its stage; minus the water dual.
        columns: float64 [B, T, n], all columns of each stage, in the blocks of `StageArrays.columns`.
        recoveries: how often each rung of the solver's ladder helped.
    """

    cost: Floats
    deficit: Floats
    spilled: Floats
    water_values: Floats
    columns: Floats
    recoveries: dict[str, int]


def operate(arrays: StageArrays, volume_BTR: Floats, *, inflow_BTR: Floats, horizon: int | None = None) -> Operation:
    """Solve every stage with its volumes held where they are told to be.

    Args:
        arrays: of the case.
        volume_BTR: float64 [B, T + 1, R], the volumes before the first stage and after each one.
        inflow_BTR: float64 [B, T, R], in the case's flow.
        horizon: stages of the whole horizon, whose last one asks for the final volumes; T where not given.

    Raises:
        UnableToSolve: volumes cannot be reached; the message names path and stage.
    """
    count, stages = inflow_BTR.shape[:2]
    last = (stages if horizon is None else horizon) - 1
    water_BTR = arrays.water(volume_BTR[:, :-1], inflow_BR=inflow_BTR)
    columns = np.empty((count, stages, arrays.program.cost.size))
    water_values = np.empty((count, stages, arrays.reservoirs))
    solvers: dict[tuple[int, bool], WarmSolver] = {}
    for stage in range(stages):
        key = stage % arrays.case.load.shape[0], stage == last
        if key not in solvers:
            solvers[key] = WarmSolver(arrays.of_stage(stage, is_last=key[1]), moved_rows=arrays.water_rows)
        columns[:, stage], water_values[:, stage] = _stage(
            arrays, solvers[key], volume_BTR[:, stage + 1], water_BTR[:, stage], stage
        )
    deficit = columns[:, :, arrays.columns["deficit"]].sum(axis=2) * arrays.case.base_mva
    recoveries: dict[str, int] = {}
    for solver in solvers.values():
        recoveries |= {name: recoveries.get(name, 0) + times for name, times in solver.recoveries.items()}
    return Operation(
        cost=columns @ arrays.program.cost + arrays.program.offset,
        deficit=deficit,
        spilled=columns[:, :, arrays.columns["spilled"]],
        water_values=water_values,
        columns=columns,
        recoveries=recoveries,
    )


def _stage(
    arrays: StageArrays, solver: WarmSolver, volume_BR: Floats, water_BR: Floats, stage: int
) -> tuple[Floats, Floats]:
    """Return the columns [B, n] and the water values [B, R] of one stage; like states are solved one after another."""
    columns = np.empty((len(volume_BR), arrays.program.cost.size))
    values = np.empty_like(volume_BR)
    for path in np.argsort(water_BR.sum(axis=1), kind="stable").tolist():
        solver.set_column_bounds(arrays.volume_columns, lower=volume_BR[path], upper=volume_BR[path])
        solver.solve(water_BR[path], where=lambda path=path: f"stage {stage + 1} of path {path + 1}")  # type: ignore[misc]
        columns[path] = solver.columns()
        values[path] = -solver.row_duals()[arrays.water_rows]
    return columns, values
