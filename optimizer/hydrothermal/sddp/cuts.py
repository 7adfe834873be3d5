"""Cuts of a cost to go: what is known of the cost of all later stages, from below.

A cut says cost to go ≥ value + slope · (x − state), where the state x holds the volumes and, where inflows remember,
the inflow of the stage before them. Cuts are kept in that form, which is also that of their file: what is read is, to
the bit, what was written.

Level-1 selection: only cuts are kept in the programs that are highest at one of the visited states.
Source: de Matos, Philpott, Finardi, "Improving the performance of stochastic dual dynamic programming" (2015), 4.2.
"""

# C cut, D dimension of the state (R, or 2 R with inflows), B batch, R reservoir, N visited state

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.value import ValueCuts

Numbers = NDArray[np.int64]

_SAME: Final = 1e-10  # relative difference of slopes and heights below which two cuts are one
_TINY: Final = 1e-10  # share of a cut's height that a dropped coefficient may have moved at most


@dataclass(frozen=True, kw_only=True, eq=False)
class CostToGo:
    """Hold the cost of all later stages as a function of the state at the end of a stage.

    θ(v, X) = max(floor, max_c value_c + slope_c · ((v, X) − state_c)).

    Attributes:
        value: float64 [C], height of each cut at its state.
        slope: float64 [C, D], cost per unit of volume, then, where D = 2 R, per unit of the stage's own inflow.
        state: float64 [C, D].
        reservoirs: R.
        floor: least cost to go, whatever the cuts say.
    """

    value: Floats
    slope: Floats
    state: Floats
    reservoirs: int
    floor: float = 0.0

    @property
    def has_memory(self) -> bool:
        """Say whether the inflow of the stage counts beside the volumes."""
        return bool(self.slope.shape[1] > self.reservoirs)

    @property
    def intercept(self) -> Floats:
        """Return the height of each cut at the origin, float64 [C]."""
        at_origin: Floats = self.value - (self.slope * self.state).sum(axis=1)
        return at_origin

    def part(self, numbers: Numbers) -> "CostToGo":
        """Return the cuts of these numbers."""
        return replace(self, value=self.value[numbers], slope=self.slope[numbers], state=self.state[numbers])

    def highest_at_states(self) -> Numbers:
        """Return the numbers of the cuts that are highest at the state of some cut, ascending."""
        heights = self.intercept[:, None] + np.einsum("cd,nd->cn", self.slope, self.state)
        return np.unique(heights.argmax(axis=0)) if self.value.size else np.zeros(0, np.int64)

    def given(self, inflow_R: Floats | None = None) -> ValueCuts:
        """Return it as a function of the volumes alone, where the stage's inflow was `inflow_R`.

        Raises:
            ValueError: inflows count and none was given.
        """
        R = self.reservoirs
        if not self.has_memory:
            return ValueCuts(intercept=self.intercept, slope=self.slope, floor=self.floor)
        if inflow_R is None:
            raise ValueError("this cost to go depends on the stage's inflow: give it")
        height = self.intercept + self.slope[:, R:] @ inflow_R
        return ValueCuts(intercept=height, slope=self.slope[:, :R], floor=self.floor)

    def evaluate(self, volume_BR: Floats, *, inflow_BR: Floats | None = None) -> Floats:
        """Return θ, float64 [B]; `inflow_BR` [B, R] is the stage's inflow, needed where it counts.

        Raises:
            ValueError: inflows count and none were given.
        """
        if self.has_memory and inflow_BR is None:
            raise ValueError("this cost to go depends on the stage's inflow: give it")
        state_BD = np.hstack([volume_BR, inflow_BR]) if self.has_memory and inflow_BR is not None else volume_BR
        whole = ValueCuts(intercept=self.intercept, slope=self.slope, floor=self.floor)
        return whole.evaluate(state_BD)


class CutPool:
    """Collect the cuts of one stage and the states they were made at, and say which are worth keeping."""

    def __init__(self, *, dimension: int) -> None:
        self.count = 0
        self._value, self._intercept = np.zeros(0), np.zeros(0)
        self._slope, self._state = np.zeros((0, dimension)), np.zeros((0, dimension))
        self.visited = np.zeros((0, dimension))
        self.height, self.highest = np.zeros(0), np.zeros(0, np.int64)

    @property
    def value(self) -> Floats:
        """Return the height of each cut at its state, float64 [C]."""
        return self._value[: self.count]

    @property
    def slope(self) -> Floats:
        """Return the slopes, float64 [C, D]."""
        return self._slope[: self.count]

    @property
    def state(self) -> Floats:
        """Return the state that each cut was made at, float64 [C, D]."""
        return self._state[: self.count]

    @property
    def intercept(self) -> Floats:
        """Return the heights at the origin, float64 [C]."""
        return self._intercept[: self.count]

    def add(self, value: float, *, slope: Floats, state: Floats) -> None:
        """Take a cut made at a state, unless there is one like it, and mark the state as visited."""
        intercept = value - float((slope * state).sum())
        is_new = not self._has(intercept, slope)
        if is_new:
            self._append(value, intercept, slope, state)
        if is_new and self.visited.size:
            at_visited = intercept + products(self.visited, slope)
            better = at_visited > self.height
            self.height[better], self.highest[better] = at_visited[better], self.count - 1
        self._visit(state)

    def selected(self) -> Numbers:
        """Return the numbers of the cuts that are highest at a visited state, ascending."""
        return np.unique(self.highest)

    def cost_to_go(self, *, reservoirs: int, floor: float) -> CostToGo:
        """Return all cuts, selected or not."""
        return CostToGo(
            value=self.value.copy(),
            slope=self.slope.copy(),
            state=self.state.copy(),
            reservoirs=reservoirs,
            floor=floor,
        )

    def to_arrays(self) -> dict[str, Floats | Numbers]:
        """Return everything, to be stored."""
        names = ("value", "slope", "state", "visited", "height", "highest")
        return {name: getattr(self, name).copy() for name in names}

    @staticmethod
    def from_arrays(arrays: dict[str, Floats | Numbers]) -> "CutPool":
        """Return the pool that `to_arrays` was called on."""
        pool = CutPool(dimension=arrays["slope"].shape[1])
        pool.count = arrays["value"].size
        pool._value, pool._slope, pool._state = arrays["value"], arrays["slope"], arrays["state"]  # type: ignore[assignment]
        pool._intercept = pool._value - (pool._slope * pool._state).sum(axis=1)
        pool.visited, pool.height, pool.highest = arrays["visited"], arrays["height"], arrays["highest"]  # type: ignore[assignment]
        return pool

    def _has(self, intercept: float, slope: Floats) -> bool:
        if not self.count:
            return False
        is_near = np.abs(self.slope - slope).max(axis=1) <= _SAME * np.abs(slope).max()
        return bool((is_near & (self.intercept >= intercept - _SAME * abs(intercept))).any())

    def _append(self, value: float, intercept: float, slope: Floats, state: Floats) -> None:
        if self.count == self._value.size:
            room = max(32, self.count)
            self._value, self._intercept = (np.append(one, np.zeros(room)) for one in (self._value, self._intercept))
            self._slope, self._state = (
                np.vstack([one, np.zeros((room, one.shape[1]))]) for one in (self._slope, self._state)
            )
        at = self.count
        self._value[at], self._intercept[at], self._slope[at], self._state[at] = value, intercept, slope, state
        self.count += 1

    def _visit(self, state: Floats) -> None:
        heights = self.intercept + products(self.slope, state)
        highest = int(heights.argmax())
        self.visited = np.vstack([self.visited, state])
        self.height, self.highest = np.append(self.height, heights[highest]), np.append(self.highest, highest)


def products(rows: Floats, vector: Floats) -> Floats:
    """Return rows · vector, float64 [N], of rows [N, D] and a vector [D].

    It stays off the threads of BLAS, which begin to pay at sizes far above these and until then only burn time that the
    solver's thread could use.

    >>> products(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 1.0])).tolist()
    [12.0, 34.0]
    """
    found: Floats = np.einsum("nd,d->n", rows, vector)
    return found


def without_tiny(value: float, *, slope: Floats, state: Floats, upper: Floats) -> tuple[float, Floats]:
    """Return value and slope of a cut without coefficients that only disturb a solver, never higher than it was.

    Volumes lie in [0, upper] [R]; slopes [D] beyond R (of inflows) are no coefficients and stay. A coefficient is tiny
    when its whole range moves the cut by less than 1e-10 of its height. Dropping it moves the height at the state by
    what it could lower the cut anywhere.
    """
    R = upper.size
    is_tiny = (slope[:R] != 0.0) & (np.abs(slope[:R]) * upper <= _TINY * max(abs(value), 1.0))
    if not is_tiny.any():
        return value, slope
    dropped = np.where(is_tiny, slope[:R], 0.0)
    lowest = np.minimum(0.0, dropped * upper).sum() - (dropped * state[:R]).sum()
    kept = slope.copy()
    kept[:R] -= dropped
    return value + min(float(lowest), 0.0), kept
