"""What nature does: inflows by scenario tables or by an autoregression of order one.

Stages count from 0 in code and from 1 in files. Scenarios are joint: one draw fixes the inflow of every reservoir.
"""

# B path, T stage, P period of the cycle, S scenario, R reservoir

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.fields import CaseRefused, read_numbers

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class InflowTable:
    """Hold the scenarios of each period, drawn independently from stage to stage; stage t has the period t mod P.

    Attributes:
        flow: float64 [P, S, R], in the case's unit of flow (m³/s), not negative.
        probability: float64 [P, S], each row sums to one.
    """

    flow: Floats
    probability: Floats

    @property
    def periods(self) -> int:
        """Return the number P of periods after which the table begins anew."""
        return int(self.flow.shape[0])

    @property
    def scenarios(self) -> int:
        """Return the number S of scenarios of a stage."""
        return int(self.flow.shape[1])

    @cached_property
    def typical(self) -> Floats:
        """Return the mean inflow of each period, float64 [P, R]."""
        mean: Floats = np.einsum("psr,ps->pr", self.flow, self.probability)
        return mean

    def paths(self, indices_TB: Integers) -> Floats:
        """Return the inflows of scenarios chosen by their numbers from 0, int [T, B], as float64 [B, T, R]."""
        stages = np.arange(indices_TB.shape[0]) % self.periods
        return np.ascontiguousarray(self.flow[stages[:, None], indices_TB].transpose(1, 0, 2))

    def draw(self, count: int, *, stages: int, generator: np.random.Generator) -> Integers:
        """Draw scenario numbers for `count` paths, int64 [T, B], by the probabilities of each stage."""
        cumulative_PS = np.cumsum(self.probability, axis=1)
        cumulative_PS[:, -1] = np.inf
        drawn = generator.random((stages, count))
        rows = np.arange(stages) % self.periods
        numbers: Integers = (drawn[:, :, None] >= cumulative_PS[rows][:, None, :]).sum(axis=2, dtype=np.int64)
        return numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class InflowAutoregression:
    """Hold a multiplicative autoregression of order one, month by month.

        X_t = e^ε [(1 − γ_t) m_t + γ_t (m_t / m_{t−1}) X_{t−1}],  ε ~ N(0, Σ_t)  with all regions drawn jointly.

    Stage 0 has the known inflow `initial`; stage t > 0 has the period t mod P.

    Source: Ding, Ahmed, Shapiro, "A Python package for multi-stage stochastic programming" (2019), Brazilian case.

    Attributes:
        initial: float64 [R], inflow of stage 0, in the case's unit of flow.
        median: float64 [P, R], m of the period, in the same unit.
        persistence: float64 [P, R], γ of the period.
        covariance: float64 [P, R, R], Σ of the period.
    """

    initial: Floats
    median: Floats
    persistence: Floats
    covariance: Floats

    @property
    def periods(self) -> int:
        """Return the number P of periods after which the parameters begin anew."""
        return int(self.median.shape[0])

    @property
    def typical(self) -> Floats:
        """Return the median of each period, float64 [P, R]."""
        return self.median

    @cached_property
    def constant(self) -> Floats:
        """Return (1 − γ_t) m_t, float64 [P, R]."""
        return (1.0 - self.persistence) * self.median

    @cached_property
    def gain(self) -> Floats:
        """Return γ_t m_t / m_{t−1}, float64 [P, R]."""
        return self.persistence * self.median / np.roll(self.median, 1, axis=0)

    @cached_property
    def root(self) -> Floats:
        """Return the lower Cholesky factors of the covariances, float64 [P, R, R]."""
        return np.linalg.cholesky(self.covariance).astype(np.float64)

    def step(self, before_BR: Floats, *, noise_BR: Floats, stage: int) -> Floats:
        """Return the inflow of a stage > 0, float64 [B, R], from the one before and ε of the stage, [B, R] each."""
        period = stage % self.periods
        after_BR: Floats = np.exp(noise_BR) * (self.constant[period] + self.gain[period] * before_BR)
        return after_BR

    def noise(self, count: int, *, stage: int, generator: np.random.Generator) -> Floats:
        """Draw ε of a stage for `count` paths, float64 [B, R]."""
        return self._joint(generator.standard_normal((count, self.initial.size)), stage)

    def draw(self, count: int, *, stages: int, generator: np.random.Generator) -> Floats:
        """Draw `count` paths of inflow, float64 [B, T, R]; the first stage is `initial` in all of them."""
        return self.paths(generator.standard_normal((stages - 1, count, self.initial.size)))

    def paths(self, normal_TBR: Floats) -> Floats:
        """Return the paths of independent standard normals of the stages after the first, float64 [T − 1, B, R].

        What is returned is float64 [B, T, R]; the first stage is `initial` in all paths.
        """
        later, count, reservoirs = normal_TBR.shape
        flow_BTR = np.empty((count, later + 1, reservoirs))
        flow_BTR[:, 0] = self.initial
        for stage in range(1, later + 1):
            noise = self._joint(normal_TBR[stage - 1], stage)
            flow_BTR[:, stage] = self.step(flow_BTR[:, stage - 1], noise_BR=noise, stage=stage)
        return flow_BTR

    def _joint(self, normal_BR: Floats, stage: int) -> Floats:
        noise_BR: Floats = normal_BR @ self.root[stage % self.periods].T
        return noise_BR


def read_inflows(path: Path, *, reservoirs: int) -> Floats:
    """Read a table of inflows: no header, rows are stages, a block of columns for each reservoir, scenario by scenario.

    Returns float64 [T, S, R], in the case's unit of flow.

    Raises:
        CaseRefused: the columns are no multiple of the reservoirs, or a cell is no finite number of at least 0.
    """
    table = read_numbers(path)
    rows, width = table.shape
    if width % reservoirs:
        raise CaseRefused(
            f"{path.name}: expected a multiple of the {reservoirs} plants as the number of columns, found {width}"
        )
    if (table < 0).any():
        row, column = np.argwhere(table < 0)[0]
        raise CaseRefused(
            f"{path.name}: row {row + 1}, column {column + 1}: expected an inflow of at least 0, "
            f"found {table[row, column]:g}"
        )
    return np.ascontiguousarray(table.reshape(rows, reservoirs, -1).transpose(0, 2, 1))


def read_scenario_inflows(path: Path, *, stages: int, reservoirs: int) -> Floats:
    """Read paths of inflow from a table in the layout of `read_inflows`, where a scenario is a path.

    Returns the first `stages` rows as float64 [B, T, R].

    Raises:
        CaseRefused: the table is too short or not of so many reservoirs, or a cell is no finite number of at least 0.
    """
    flow_TBR = read_inflows(path, reservoirs=reservoirs)
    _check_rows(path, len(flow_TBR), stages)
    return np.ascontiguousarray(flow_TBR[:stages].transpose(1, 0, 2))


def read_scenario_indices(path: Path, *, stages: int, scenarios: int) -> Integers:
    """Read a table of scenario numbers: no header, rows are stages, columns are paths, numbers from 1.

    Returns numbers from 0, int64 [T, B], of the first `stages` rows.

    Raises:
        CaseRefused: the table is too short, or a number is not one of 1 to `scenarios`.
    """
    table = read_numbers(path)
    _check_rows(path, len(table), stages)
    chosen = table[:stages]
    is_wrong = (chosen != np.round(chosen)) | (chosen < 1) | (chosen > scenarios)
    if is_wrong.any():
        row, column = np.argwhere(is_wrong)[0]
        raise CaseRefused(
            f"{path.name}: row {row + 1}, column {column + 1}: expected a scenario's number from 1 to {scenarios}, "
            f"found {chosen[row, column]:g}"
        )
    return chosen.astype(np.int64) - 1


def _check_rows(path: Path, rows: int, stages: int) -> None:
    if rows < stages:
        raise CaseRefused(f"{path.name}: expected at least {stages} rows, one for each stage, found {rows}")
