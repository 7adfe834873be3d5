"""The policy that cuts make: at each stage the dispatch that is cheapest now and, by the cuts, later.

The same cuts and the same paths give the same numbers: models are made anew for each simulation, and paths are solved
in their order. It sees a stage's inflow before it decides, and nothing of later ones.

All cuts count, few are in the models: a model begins with those that are highest at the state of some cut, and takes in
any other as soon as a solution lies below it.
"""

# B path, T stage, R reservoir, G generator, n column

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.deterministic import Trajectories
from optimizer.hydrothermal.sddp.cuts import CostToGo, products
from optimizer.hydrothermal.sddp.noise import StageNoise
from optimizer.hydrothermal.sddp.program import StageProgram
from optimizer.hydrothermal.sddp.risk import Risk
from optimizer.hydrothermal.stage import StageArrays

_SLACK: Final = 1e-9  # share of the cost to go that a cut may lie above a solution and be left out
_SLACK_SCALED: Final = 1e-6  # the same in units of θ, ten times the solver's own tolerance


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """Hold how a policy operated B paths over T stages.

    Attributes:
        arrays: of the case.
        trajectories: in the form that perfect foresight reports; its `terminal` is the cost to go after the last stage.
        volume_initial: float64 [R], before the first stage.
        recoveries: how often each rung of the solver's ladder helped.
    """

    arrays: StageArrays
    trajectories: Trajectories
    volume_initial: Floats
    recoveries: dict[str, int]

    @property
    def costs(self) -> Floats:
        """Return the cost of each stage, float64 [B, T]."""
        return self.trajectories.stage_costs

    @property
    def volumes(self) -> Floats:
        """Return the volumes before the first stage and after each, float64 [B, T + 1, R]."""
        after = self.trajectories.columns[:, :, self.arrays.volume_columns].clip(0.0, self.arrays.case.volume_max)
        before = np.broadcast_to(self.volume_initial, (len(after), 1, self.volume_initial.size))
        return np.concatenate([before, after], axis=1)

    @property
    def generation(self) -> Floats:
        """Return what each generator makes, float64 [B, T, G], in MW."""
        return self.arrays.case.base_mva * self.trajectories.columns[:, :, self.arrays.columns["power"]]

    @property
    def deficit(self) -> Floats:
        """Return the load that is not served, float64 [B, T], in MW."""
        shed: Floats = self.trajectories.columns[:, :, self.arrays.columns["deficit"]].sum(axis=2)
        return self.arrays.case.base_mva * shed

    @property
    def water_values(self) -> Floats:
        """Return what a unit of water more in a reservoir would save, float64 [B, T, R], in cost per unit of volume."""
        return -self.trajectories.water_duals


class CutPolicy:
    """Operate a system by the cuts of each stage."""

    def __init__(self, arrays: StageArrays, *, cuts: Sequence[CostToGo]) -> None:
        """Take the cost to go after each of T stages; the last one is what the water left at the end costs."""
        self.arrays, self.cuts = arrays, tuple(cuts)

    @property
    def stages(self) -> int:
        """Return the number T of stages."""
        return len(self.cuts)

    def cost_to_go(self, stage: int) -> CostToGo:
        """Return the cost of all that comes after a stage (from 0), as a function of the state at its end."""
        return self.cuts[stage]

    def bound(self, first: StageNoise, *, risk: Risk) -> float:
        """Return the weighted cost of the first stage over its choices: no policy's mean is lower, if risk is neutral.

        Raises:
            UnableToSolve: the stage has no optimum.
        """
        arrays = self.arrays
        flow_SR = first.flow(np.zeros(arrays.reservoirs))
        columns, duals = np.empty((len(flow_SR), arrays.program.cost.size)), np.empty(flow_SR.shape)
        volume = np.broadcast_to(arrays.case.volume_initial, flow_SR.shape).copy()
        lazy = _LazyStage(arrays, stage=0, is_last=self.stages == 1, cuts=self.cuts[0])
        to_go = _operate(lazy, flow_SR, volume, columns, duals)
        cost_S = columns @ arrays.program.cost + arrays.program.offset + to_go
        return float(risk.weights(cost_S, probability_S=first.probability) @ cost_S)

    def simulate(self, inflow_BTR: Floats, *, volume_initial: Floats | None = None) -> Simulation:
        """Operate along each path of inflow float64 [B, T', R] with T' ≤ T, from the case's volumes or others [R].

        Raises:
            UnableToSolve: a stage has no optimum; the message names stage, path and state.
            ValueError: the paths are longer than the policy's horizon, or of another number of reservoirs.
        """
        arrays, (count, stages, reservoirs) = self.arrays, inflow_BTR.shape
        if stages > self.stages or reservoirs != arrays.reservoirs:
            raise ValueError(
                f"expected paths of at most {(self.stages, arrays.reservoirs)}, found {inflow_BTR.shape[1:]}"
            )
        start = arrays.case.volume_initial if volume_initial is None else volume_initial
        volume_BR = np.broadcast_to(start, (count, reservoirs)).copy()
        columns = np.empty((count, stages, arrays.program.cost.size))
        duals, terminal, recoveries = np.empty(inflow_BTR.shape), np.zeros(count), dict[str, int]()
        for stage in range(stages):
            lazy = _LazyStage(arrays, stage=stage, is_last=stage == self.stages - 1, cuts=self.cuts[stage])
            terminal = _operate(lazy, inflow_BTR[:, stage], volume_BR, columns[:, stage], duals[:, stage])
            for rung, helped in lazy.program.recoveries.items():
                recoveries[rung] = recoveries.get(rung, 0) + helped
        stage_costs = columns @ arrays.program.cost + arrays.program.offset
        found = Trajectories(
            objective=stage_costs.sum(axis=1) + terminal,
            terminal=terminal,
            stage_costs=stage_costs,
            columns=columns,
            water_duals=duals,
        )
        return Simulation(arrays=arrays, trajectories=found, volume_initial=np.array(start), recoveries=recoveries)


class _LazyStage:
    """Solve a stage as if all cuts were in its model."""

    def __init__(self, arrays: StageArrays, *, stage: int, is_last: bool, cuts: CostToGo) -> None:
        self.arrays, self._cuts, self._intercept = arrays, cuts, cuts.intercept
        first = cuts.highest_at_states()
        self._is_held = np.isin(np.arange(cuts.value.size), first)
        self.program = StageProgram(arrays, stage=stage, is_last=is_last, cost_to_go=cuts.part(first))

    def solve(self, water_R: Floats, *, inflow_R: Floats, where: Callable[[], str]) -> tuple[Floats, float]:
        """Return the stage's columns [n] and the cost to go at the optimum over all cuts."""
        while True:
            self.program.solve(water_R, inflow_R=inflow_R, where=where)
            columns, to_go = self.program.columns()
            missing = self._above(columns[self.arrays.volume_columns], inflow_R, to_go)
            if missing is None:
                return columns, to_go
            self._is_held[missing] = True
            self.program.add_cuts(self._cuts.part(np.array([missing])))

    def _above(self, volume_R: Floats, inflow_R: Floats, to_go: float) -> int | None:
        """Return the highest cut that lies above a solution and is not in the model; None where there is none."""
        if self._is_held.all():
            return None
        state = np.append(volume_R, inflow_R) if self._cuts.has_memory else volume_R
        height = np.where(self._is_held, -np.inf, self._intercept + products(self._cuts.slope, state))
        highest = int(height.argmax())
        slack = max(_SLACK * abs(to_go), _SLACK_SCALED * self.program.scale)
        return highest if height[highest] > to_go + slack else None


def _operate(lazy: _LazyStage, inflow_BR: Floats, volume_BR: Floats, columns_Bn: Floats, duals_BR: Floats) -> Floats:
    """Solve a stage for all paths; fill in columns and duals, move the volumes, and return the costs to go [B]."""
    arrays, program, to_go = lazy.arrays, lazy.program, np.empty(len(volume_BR))
    water_BR = arrays.water(volume_BR, inflow_BR=inflow_BR)
    for path in range(len(volume_BR)):

        def where(path: int = path) -> str:
            return f"stage {program.stage + 1}, path {path + 1}, at the volumes {volume_BR[path].tolist()}"

        columns_Bn[path], to_go[path] = lazy.solve(water_BR[path], inflow_R=inflow_BR[path], where=where)
        duals_BR[path] = program.row_duals()[arrays.water_rows]
    volume_BR[:] = columns_Bn[:, arrays.volume_columns].clip(0.0, arrays.case.volume_max)
    return to_go
