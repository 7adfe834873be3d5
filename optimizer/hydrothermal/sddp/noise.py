"""What nature may do at each stage, as SDDP sees it: a few choices, drawn independently from stage to stage.

Where inflows remember, the inflow X of the stage before is a state beside the volumes: choice k leads to
X_k = constant_k + gain_k X (by reservoir). The inflow of a stage is seen before its decision and no decision moves it,
so it never becomes a column: it enters the right-hand sides of the water rows and of the cuts. That keeps
multiplicative noise exact, whose gains are random and would otherwise be random coefficients of the matrix.
"""

# B path, T stage, S choice, R reservoir

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.inflow import InflowAutoregression, InflowTable

Numbers = NDArray[np.int64]

_PATHS_PER_CHOICE: Final = 200  # of a stage's marginal law, from which its choices are taken


@dataclass(frozen=True, kw_only=True, eq=False)
class StageNoise:
    """Hold the S choices of a stage.

    Attributes:
        constant: float64 [S, R], in the case's unit of flow.
        gain: float64 [S, R], of the inflow of the stage before; None where inflows have no memory.
        probability: float64 [S], sums to one.
    """

    constant: Floats
    gain: Floats | None
    probability: Floats

    def flow(self, before_R: Floats) -> Floats:
        """Return the inflow of each choice, float64 [S, R], after the inflow `before_R` of the stage before."""
        return self.constant if self.gain is None else self.constant + self.gain * before_R


@dataclass(frozen=True, kw_only=True, eq=False)
class InflowNoise:
    """Hold the choices of T stages; `has_memory` says whether inflows are a state."""

    stages: tuple[StageNoise, ...]
    has_memory: bool

    @property
    def reservoirs(self) -> int:
        """Return the number R of reservoirs."""
        return int(self.stages[0].constant.shape[1])

    def draw(self, count: int, *, generator: np.random.Generator) -> Numbers:
        """Draw choices for `count` paths, int64 [T, B]."""
        drawn = generator.random((len(self.stages), count))
        last = [one.probability.size - 1 for one in self.stages]
        found = [
            np.minimum(np.searchsorted(np.cumsum(one.probability), row, side="right"), end)
            for one, row, end in zip(self.stages, drawn, last, strict=True)
        ]
        return np.array(found, dtype=np.int64)

    def paths(self, choices_TB: Numbers) -> Floats:
        """Return the inflows of paths of choices int64 [T, B], float64 [B, T, R]."""
        flow_TBR = np.empty((*choices_TB.shape, self.reservoirs))
        before_BR = np.zeros((choices_TB.shape[1], self.reservoirs))
        for stage, (one, chosen) in enumerate(zip(self.stages, choices_TB, strict=True)):
            before_BR = one.constant[chosen] + (0.0 if one.gain is None else one.gain[chosen] * before_BR)
            flow_TBR[stage] = before_BR
        return flow_TBR.transpose(1, 0, 2).copy()


def table_noise(table: InflowTable, *, stages: int) -> InflowNoise:
    """Return the scenarios of a table as they are, with their probabilities."""
    rows = np.arange(stages) % table.periods
    made = (StageNoise(constant=table.flow[row], gain=None, probability=table.probability[row]) for row in rows)
    return InflowNoise(stages=tuple(made), has_memory=False)


def remembering_noise(process: InflowAutoregression, *, stages: int, choices: int, seed: int) -> InflowNoise:
    """Return an autoregression with its noise reduced to equally likely choices; the inflow becomes a state.

    The choices of ε come in opposite pairs and are shifted until the mean of e^ε is exact in each region: the reduced
    process has the conditional means of the true one. Stage 0 is known.
    """
    generator = np.random.default_rng(seed)
    made = [_certain(process.initial)]
    for stage in range(1, stages):
        period = stage % process.periods
        factor_SR = _factors(process, stage, choices, generator)
        made.append(
            StageNoise(
                constant=factor_SR * process.constant[period],
                gain=factor_SR * process.gain[period],
                probability=np.full(choices, 1.0 / choices),
            )
        )
    return InflowNoise(stages=tuple(made), has_memory=True)


def forgetful_noise(process: InflowAutoregression, *, stages: int, choices: int, seed: int) -> InflowNoise:
    """Return the law of each stage's inflow by itself, as if inflows had no memory.

    Many paths are drawn, those of a stage ordered by their total inflow, one taken from the middle of each of as many
    equal parts as there are choices, and the choices scaled to the mean of all paths in each region.
    """
    paths_BTR = process.draw(_PATHS_PER_CHOICE * choices, stages=stages, generator=np.random.default_rng(seed))
    middle = _PATHS_PER_CHOICE * np.arange(choices) + _PATHS_PER_CHOICE // 2
    made = [_certain(process.initial)]
    for stage in range(1, stages):
        flow_BR = paths_BTR[:, stage]
        taken_SR = flow_BR[np.argsort(flow_BR.sum(axis=1), kind="stable")[middle]]
        taken_SR = taken_SR * flow_BR.mean(axis=0) / taken_SR.mean(axis=0)
        made.append(StageNoise(constant=taken_SR, gain=None, probability=np.full(choices, 1.0 / choices)))
    return InflowNoise(stages=tuple(made), has_memory=False)


def _certain(flow_R: Floats) -> StageNoise:
    return StageNoise(constant=flow_R[None], gain=None, probability=np.ones(1))


def _factors(process: InflowAutoregression, stage: int, choices: int, generator: np.random.Generator) -> Floats:
    half = process.noise((choices + 1) // 2, stage=stage, generator=generator)
    factor_SR = np.exp(np.vstack([half, -half])[:choices])
    variance_R = np.diagonal(process.covariance[stage % process.periods])
    scaled_SR: Floats = factor_SR * (np.exp(0.5 * variance_R) / factor_SR.mean(axis=0))
    return scaled_SR
