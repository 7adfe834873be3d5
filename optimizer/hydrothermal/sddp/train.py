"""Train cuts: sample what may come going forward, learn what it costs going backward.

An iteration draws paths of inflow and operates the system along them with the cuts it has, which gives trial states;
then it goes backward: at each trial state all choices of the next stage are solved, and the weighted mean of their
costs and duals is a new cut. Choices are visited by their total inflow, so that each starts from a neighbor's basis.
The bound is the weighted cost of the first stage with its cuts: no policy has a smaller mean, if risk is neutral.

Every draw follows from the seed and the iteration's number. Every `SETTLE_EVERY` iterations all models are made anew of
the selected cuts, so that a run that is resumed there goes on as if it had never stopped, to the bit.

Source: Pereira, Pinto, "Multi-stage stochastic optimization applied to energy planning" (1991).
"""

# T stage, S choice, R reservoir, D dimension of the state

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.sddp.cuts import CostToGo, CutPool, Numbers, without_tiny
from optimizer.hydrothermal.sddp.noise import InflowNoise
from optimizer.hydrothermal.sddp.program import StageProgram
from optimizer.hydrothermal.sddp.risk import Risk
from optimizer.hydrothermal.stage import StageArrays

SETTLE_EVERY: Final = 25
"""Iterations between two moments at which the models depend on the cuts alone."""

_STALE_LEAST: Final = 12  # rows of cuts without use that are deleted together, at least
_STALE_SHARE: Final = 0.25  # and as a share of the rows held


class Iteration(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what an iteration showed: the sampled cost going forward, the bound, and all solves so far."""

    number: int
    simulation: float
    bound: float
    solves: int
    cpu_s: float = 0.0


NEUTRAL: Final = Risk()


@dataclass(frozen=True, kw_only=True)
class Training:
    """Say how cuts are made: the seed of all draws, the paths of an iteration, and how costs are weighed."""

    seed: int = 0
    paths: int = 1
    risk: Risk = NEUTRAL


class Trainer:
    """Improve the cuts of a horizon, iteration by iteration.

    Attributes:
        iteration: number of the last iteration.
        pools: of the stages 0 to T − 1; the last one stays empty.
    """

    def __init__(self, arrays: StageArrays, *, noise: InflowNoise, training: Training | None = None) -> None:
        """Prepare one model for each stage of the noise.

        Raises:
            ValueError: costs have no lower bound, so there is no valid first cut.
        """
        self.arrays, self.noise, self.training = arrays, noise, training or Training()
        self.stages, self.reservoirs = len(noise.stages), arrays.reservoirs
        self.dimension = self.reservoirs * (2 if noise.has_memory else 1)
        self.floors = cost_floors(arrays, stages=self.stages)
        self.iteration, self._past_solves = 0, 0
        self.pools = [CutPool(dimension=self.dimension) for _ in range(self.stages)]
        self._held = [np.zeros(0, np.int64) for _ in range(self.stages)]
        self._programs = [self._program(stage) for stage in range(self.stages)]

    @property
    def solves(self) -> int:
        """Return how many programs were solved, those of a resumed run counted."""
        return self._past_solves + sum(one.solves for one in self._programs)

    @property
    def recoveries(self) -> Counter[str]:
        """Return how often each rung of the ladder helped."""
        return sum((one.recoveries for one in self._programs), Counter())

    @property
    def cuts_held(self) -> int:
        """Return how many cuts the models hold."""
        return sum(one.size for one in self._held)

    def iterate(self) -> Iteration:
        """Go forward and backward once.

        Raises:
            UnableToSolve: a program has no optimum on any rung; the message names stage, choice and state.
        """
        self.iteration += 1
        generator = np.random.default_rng([self.training.seed, self.iteration])
        choices_TB = self.noise.draw(self.training.paths, generator=generator)
        states_TBD, cost = self._forward(choices_TB)
        self._backward(states_TBD)
        bound = self.bound()
        if self.iteration % SETTLE_EVERY == 0:
            self.settle()
        return Iteration(number=self.iteration, simulation=cost, bound=bound, solves=self.solves)

    def bound(self) -> float:
        """Return the weighted cost of the first stage: a lower bound of the mean of any policy, if risk is neutral."""
        start = self._start()
        cost_S, _ = self._all_choices(0, start)
        weights = self.training.risk.weights(cost_S, probability_S=self.noise.stages[0].probability)
        return float(weights @ cost_S)

    def costs_to_go(self) -> tuple[CostToGo, ...]:
        """Return all cuts of each stage, T of them; the last has none.

        With all of them the bound is at least the best that any iteration showed.
        """
        return tuple(self._whole(stage) for stage in range(self.stages))

    def take(self, cuts: Sequence[CostToGo]) -> None:
        """Add cuts that were made before, one cost to go for each stage.

        Raises:
            ValueError: they are of another horizon or of other states.
        """
        if len(cuts) != self.stages or any(one.slope.shape[1] != self.dimension for one in cuts):
            raise ValueError(f"expected cuts of {self.stages} stages with {self.dimension} state variables")
        for pool, one in zip(self.pools, cuts, strict=True):
            for value, slope, state in zip(one.value.tolist(), one.slope, one.state, strict=True):
                pool.add(value, slope=slope, state=state)
        self.settle()

    def settle(self) -> None:
        """Make every model anew of its selected cuts."""
        for stage, program in enumerate(self._programs):
            program.rebuild(self._cost_to_go(stage))
            self._held[stage] = self.pools[stage].selected()

    def resume(self, pools: list[CutPool], *, iteration: int, solves: int) -> None:
        """Go on from the pools of a run that stopped after an iteration in which it had settled."""
        self.pools, self.iteration, self._past_solves = pools, iteration, solves
        self.settle()

    def _program(self, stage: int) -> StageProgram:
        is_last = stage == self.stages - 1
        return StageProgram(self.arrays, stage=stage, is_last=is_last, cost_to_go=self._cost_to_go(stage))

    def _cost_to_go(self, stage: int) -> CostToGo:
        return self._whole(stage).part(self.pools[stage].selected())

    def _whole(self, stage: int) -> CostToGo:
        return self.pools[stage].cost_to_go(reservoirs=self.reservoirs, floor=self.floors[stage])

    def _start(self) -> Floats:
        """Return the state before the first stage; nothing is known of inflows then, and no choice looks at them."""
        start = np.zeros(self.dimension)
        start[: self.reservoirs] = self.arrays.case.volume_initial
        return start

    def _forward(self, choices_TB: Numbers) -> tuple[Floats, float]:
        """Operate along the paths; return the states after each stage, float64 [T, B, D], and the mean cost."""
        flow_BTR, R = self.noise.paths(choices_TB), self.reservoirs
        count, upper = choices_TB.shape[1], self.arrays.case.volume_max
        states_TBD, total = np.zeros((self.stages, count, self.dimension)), 0.0
        for path in range(count):
            volume = self.arrays.case.volume_initial
            for stage, program in enumerate(self._programs):
                inflow = flow_BTR[path, stage]
                water = self.arrays.water(volume, inflow_BR=inflow)
                found = program.solve(water, inflow_R=inflow, where=_Named("forward", stage, path, volume))
                columns, to_go = program.columns()
                volume = columns[self.arrays.volume_columns].clip(0.0, upper)
                states_TBD[stage, path, :R] = volume
                states_TBD[stage, path, R:] = inflow[: self.dimension - R]
                total += found - to_go
        return states_TBD, total / count

    def _backward(self, states_TBD: Floats) -> None:
        """Add a cut to each stage but the last for each of its trial states, from the last on."""
        for stage in range(self.stages - 1, 0, -1):
            for state in states_TBD[stage - 1]:
                self._learn(stage, state)
            self._refresh(stage - 1)

    def _learn(self, stage: int, state: Floats) -> None:
        cost_S, gradient_SD = self._all_choices(stage, state)
        weights = self.training.risk.weights(cost_S, probability_S=self.noise.stages[stage].probability)
        value, slope = without_tiny(
            float(weights @ cost_S), slope=weights @ gradient_SD, state=state, upper=self.arrays.case.volume_max
        )
        self.pools[stage - 1].add(value, slope=slope, state=state)

    def _all_choices(self, stage: int, state: Floats) -> tuple[Floats, Floats]:
        """Return the cost of each choice after a state, float64 [S], and its derivatives by the state, [S, D]."""
        noise, program, R = self.noise.stages[stage], self._programs[stage], self.reservoirs
        flow_SR = noise.flow(state[R:])
        water_SR = self.arrays.water(state[:R], inflow_BR=flow_SR)
        cost_S, gradient_SD = np.empty(len(flow_SR)), np.zeros((len(flow_SR), self.dimension))
        for choice in np.argsort(flow_SR.sum(axis=1), kind="stable"):
            where = _Named("backward", stage, int(choice), state)
            cost_S[choice] = program.solve(water_SR[choice], inflow_R=flow_SR[choice], where=where)
            gradient_SD[choice, :R], by_inflow = program.gradients()
            if noise.gain is not None and by_inflow is not None:
                gradient_SD[choice, R:] = noise.gain[choice] * by_inflow
        return cost_S, gradient_SD

    def _refresh(self, stage: int) -> None:
        """Let the model of a stage hold the cuts that are selected, and not many more."""
        pool, held = self.pools[stage], self._held[stage]
        selected = pool.selected()
        keep = np.isin(held, selected)
        stale = held.size - int(keep.sum())
        if stale >= max(_STALE_LEAST, _STALE_SHARE * held.size):
            self._programs[stage].drop_cuts(keep)
            held = held[keep]
        added = np.setdiff1d(selected, held)
        if added.size:
            self._programs[stage].add_cuts(self._whole(stage).part(added))
        self._held[stage] = np.append(held, added)


def cost_floors(arrays: StageArrays, *, stages: int) -> list[float]:
    """Return for each stage a number below the cost of all later ones: zero where no cost can be negative.

    Raises:
        ValueError: a column of negative cost has no bound.
    """
    cost, lower, upper = arrays.program.cost, arrays.program.column_lower, arrays.program.column_upper
    used = cost != 0
    least = np.where(cost[used] > 0, cost[used] * lower[used], cost[used] * upper[used])
    one = min(0.0, float(np.minimum(least, 0.0).sum()) + min(arrays.program.offset, 0.0))
    if not np.isfinite(one):
        raise ValueError("a column with a cost has no bound on its cheap side, so costs have no lower bound")
    return [one * (stages - 1 - stage) for stage in range(stages)]


class _Named:
    """Name a solve when it is asked, which is seldom."""

    def __init__(self, way: str, stage: int, which: int, state: Floats) -> None:
        self._parts = (way, stage, which, state)

    def __call__(self) -> str:
        way, stage, which, state = self._parts
        what = "path" if way == "forward" else "inflow scenario"
        at = ", ".join(f"{one:.9g}" for one in state)
        return f"stage {stage + 1} going {way}, {what} {which + 1}, at the state [{at}]"
