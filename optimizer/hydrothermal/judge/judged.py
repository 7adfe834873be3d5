"""What all policies of a simulation have in common, and the course of each of them on it."""

# B scenario, T reported stage, R reservoir

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.judge.artifact import ServedPolicy, roll_out_served
from optimizer.hydrothermal.judge.course import Course, Steps, make_course
from optimizer.hydrothermal.judge.foresight import FORESIGHT, operate_with_foresight
from optimizer.hydrothermal.operate import operate
from optimizer.hydrothermal.sddp.cuts import CostToGo
from optimizer.hydrothermal.sddp.policy import CutPolicy, Simulation
from optimizer.hydrothermal.stage import StageArrays
from optimizer.training.progress import Progress

_AT_ONCE: Final = 100  # scenarios between two signs of progress; the models are made anew for each such part


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Hold what all policies have in common.

    Attributes:
        arrays: of the case.
        inflow: float64 [B, T, R], of the reported stages, in the case's flow.
        horizon: stages of the whole horizon, whose last one asks for the final volumes.
        credit: cost to go after the last reported stage.
        progress: where it is shown how far the simulation is.
    """

    arrays: StageArrays
    inflow: Floats
    horizon: int
    credit: CostToGo
    progress: Progress

    def served(self, name: str, policy: ServedPolicy) -> Course:
        """Return the course of an artifact: its volumes in closed loop, then the stages that hold them.

        Raises:
            Unable: a scenario has no decision, or a stage no optimum at its volumes.
        """
        started_s = time.process_time()
        volume_BTR = roll_out_served(
            policy, case=self.arrays.case, inflow_BTR=self.inflow, name=name, progress=self.progress
        )
        found = operate(self.arrays, volume_BTR, inflow_BTR=self.inflow, horizon=self.horizon)
        steps = Steps(columns=found.columns, water_values=found.water_values)
        recoveries = _summed([policy.recoveries, found.recoveries])
        details = {"largest_change": policy.largest_change}
        return self._course(name, steps, started_s, recoveries=recoveries, fallbacks=policy.fallbacks, details=details)

    def by_cuts(self, name: str, costs_to_go: Sequence[CostToGo]) -> Course:
        """Return the course of SDDP's policy: each stage weighed against the cost to go after it.

        Raises:
            UnableToSolve: a stage has no optimum.
        """
        started_s = time.process_time()
        policy, count = CutPolicy(self.arrays, cuts=costs_to_go), len(self.inflow)
        self.progress.start(name, total=-(-count // _AT_ONCE))
        parts = []
        for start in range(0, count, _AT_ONCE):
            parts.append(policy.simulate(self.inflow[start : start + _AT_ONCE]))
            self.progress.advance(f"scenario {min(start + _AT_ONCE, count)}")
        self.progress.finish(f"{count} scenarios over {self.inflow.shape[1]} stages")
        return self._course(name, _joined(parts), started_s, recoveries=_summed(one.recoveries for one in parts))

    def foresight(self) -> Course:
        """Return the course of who knows each scenario to its end.

        Raises:
            UnableToSolve: a scenario has no optimum.
        """
        started_s = time.process_time()
        steps, recoveries = operate_with_foresight(
            self.arrays, inflow_BTR=self.inflow, horizon=self.horizon, credit=self.credit, progress=self.progress
        )
        return self._course(FORESIGHT, steps, started_s, recoveries=recoveries)

    def _course(
        self,
        name: str,
        steps: Steps,
        started_s: float,
        *,
        recoveries: dict[str, int],
        fallbacks: int = 0,
        details: dict[str, float] | None = None,
    ) -> Course:
        left_BR = steps.columns[:, -1, self.arrays.volume_columns]
        return make_course(
            name,
            steps,
            arrays=self.arrays,
            inflow_BTR=self.inflow,
            horizon=self.horizon,
            credit=self.credit.evaluate(left_BR, inflow_BR=self.inflow[:, -1]),
            fallbacks=fallbacks,
            recoveries=recoveries,
            cpu_s=time.process_time() - started_s,
            details=details,
        )


def _joined(parts: Sequence[Simulation]) -> Steps:
    columns = np.concatenate([one.trajectories.columns for one in parts])
    return Steps(columns=columns, water_values=np.concatenate([one.water_values for one in parts]))


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(one) for one in counts), Counter[str]()))
