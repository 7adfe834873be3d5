"""What perfect foresight costs, and what no policy can go below in the mean.

The bound for the first N stages is the program of these N stages with the common value function as its last cost. The
first N stages of a longer program are no bound: it would give up something in them for a gain behind them.
"""

# B scenario, T reported stage, R reservoir

from collections.abc import Sequence
from functools import partial

import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.judge.course import Steps
from optimizer.hydrothermal.sddp.cuts import CostToGo
from optimizer.hydrothermal.sddp.noise import StageNoise, table_noise
from optimizer.hydrothermal.sddp.policy import CutPolicy
from optimizer.hydrothermal.sddp.risk import Risk
from optimizer.hydrothermal.stage import StageArrays
from optimizer.training.progress import Progress

FORESIGHT = "foresight"

_AT_ONCE = 25  # scenarios between two signs of progress


def operate_with_foresight(
    arrays: StageArrays, *, inflow_BTR: Floats, horizon: int, credit: CostToGo, progress: Progress
) -> tuple[Steps, dict[str, int]]:
    """Return the cheapest course of each path float64 [B, T, R], `credit` included, and the recoveries it took.

    `horizon` is the number of stages of which the last asks for the final volumes.

    Raises:
        UnableToSolve: a path has no optimum.
    """
    count, stages = inflow_BTR.shape[:2]
    columns = np.empty((count, stages, arrays.program.cost.size))
    water_values = np.empty_like(inflow_BTR)
    first = credit.given(inflow_BTR[0, -1] if credit.has_memory else None)
    model = DeterministicEquivalent(arrays, stages=stages, value=first, is_end=stages == horizon)
    at_once = 1 if credit.has_memory else _AT_ONCE
    progress.start(FORESIGHT, total=-(-count // at_once))
    for start in range(0, count, at_once):
        part = slice(start, min(start + at_once, count))
        if credit.has_memory:
            model.move_value(credit.given(inflow_BTR[start, -1]))
        found = model.solve(inflow_BTR[part], where=partial(_scenario, start))
        columns[part], water_values[part] = found.columns, -found.water_duals
        progress.advance(f"scenario {part.stop}")
    progress.finish(f"{count} scenarios over {stages} stages")
    return Steps(columns=columns, water_values=water_values), model.recoveries


def lower_bound(arrays: StageArrays, costs_to_go: Sequence[CostToGo]) -> float:
    """Return the expected cost of the first stage with its cuts: below the mean of any policy's cost with credit.

    Each cut was made of cuts behind it, so the first ones bound the cost of any number of stages with the later cuts as
    their last cost.
    """
    inflow = arrays.case.inflow
    first = (
        table_noise(inflow, stages=1).stages[0]
        if isinstance(inflow, InflowTable)
        else StageNoise(constant=inflow.initial[None], gain=None, probability=np.ones(1))
    )
    return CutPolicy(arrays, cuts=costs_to_go).bound(first, risk=Risk())


def no_costs_to_go(*, stages: int, reservoirs: int) -> tuple[CostToGo, ...]:
    """Return the costs to go of who never looks ahead: zero after each of so many stages, whatever is left."""
    nothing = np.zeros((0, reservoirs))
    return (CostToGo(value=np.zeros(0), slope=nothing, state=nothing, reservoirs=reservoirs),) * stages


def _scenario(first: int, at: int) -> str:
    return f"scenario {first + at + 1}"
