"""Order quantities as they can be ordered: whole multiples within bounds, together within a shared capacity.

The rule, for one row:
1. Each component is clipped to [lower, upper] and rounded to its nearest multiple, halves to the even count.
2. While the sum exceeds the capacity, one multiple is taken from the component whose step down ends least far below
   its proposal (largest midpoint of the step, less the proposal), the first such component on a tie. With equal
   multiples that is the feasible point nearest to the proposal (a step's squared distance grows with its midpoint's);
   what unequal multiples freed beyond need is handed back where it still fits.
3. Where even the smallest allowed counts exceed the capacity, the row is a fault.

All amounts are counted on the decimal grid of the finest multiple, in integers: three times 0.1 is 0.3, and a sum meets
its capacity exactly. Words of the status: `kept`, `rounded`, `reduced` (by the capacity), `infeasible`, `not_finite`.
"""

# B batch, N component of the quantity

import heapq
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.recourse.arrays import floats, word
from policies.recourse.contract import Applied, Parameters, RecourseRefused
from policies.recourse.parameters import ParameterReader
from policies.spec import Output, PolicySpec

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_EXACT = 2**53  # integers up to here are exact as float64
_MOST_DIGITS = 9


class RoundingRecourse:
    """Round each row to feasible order quantities."""

    kind = "rounding"
    outputs: tuple[Output, ...] = ()

    def __init__(
        self, *, multiple: Floats, lower: Floats, upper: Floats, capacity: float | str | None, spec: PolicySpec
    ) -> None:
        """Prepare the grid.

        multiple, lower, upper: [N] in the units of the quantity; upper may be infinite. capacity: one number, the name
        of a parameter (`request:COLUMN`), or None where there is no shared limit; in the same units.

        Raises:
            RecourseRefused: multiples are not positive decimals of up to nine digits, bounds are negative or hold no
                multiple, or the spec has other components, other outputs, or no such parameter.
        """
        _check_spec(spec, size=multiple.size)
        self._grid = _Grid(multiple, lower, upper)
        names = [f"proposed:{index}" for index in range(multiple.size)]
        self._capacity = float("inf") if capacity is None or isinstance(capacity, str) else capacity
        self._reader = ParameterReader([*names, capacity] if isinstance(capacity, str) else names, spec=spec)

    def apply(
        self, proposed: NDArray[np.float64], *, parameters: Parameters, seeds: NDArray[np.uint64] | None = None
    ) -> Applied:
        """Round each row (see `Recourse.apply`); `seeds` are not used."""
        z_BP, faults = self._reader.read_sound(proposed, parameters=parameters)
        status = ["not_finite" if row in faults else "" for row in range(z_BP.shape[0])]
        size = self._grid.step_N.size
        counts_BN = self._grid.nearest_counts(z_BP[:, :size])
        is_over_B = self._reduce(z_BP, counts_BN, faults)
        values = self._grid.values(counts_BN)
        is_kept_B = (values == proposed).all(axis=1)
        values[list(faults)] = np.nan
        found = [_status(bool(over), bool(kept)) for over, kept in zip(is_over_B, is_kept_B, strict=True)]
        words = tuple((status[row] or "infeasible") if row in faults else found[row] for row in range(len(found)))
        return Applied(values=values, status=words, outputs={}, faults=faults)

    def _reduce(self, z_BP: Floats, counts_BN: Counts, faults: dict[int, str]) -> NDArray[np.bool_]:
        """Bring rows over their capacity under it, in place; note those that cannot be; return which were over."""
        size = self._grid.step_N.size
        capacity_B = z_BP[:, size] if z_BP.shape[1] > size else np.full(z_BP.shape[0], self._capacity)
        room_B = self._grid.room(capacity_B)
        is_over_B: NDArray[np.bool_] = (counts_BN * self._grid.step_N).sum(axis=1) > room_B
        least = int((self._grid.lower_N * self._grid.step_N).sum())
        for row in np.flatnonzero(is_over_B).tolist():
            if least > room_B[row]:
                wanted = f"a capacity of at least {least / self._grid.scale} for the smallest quantities"
                faults.setdefault(row, f"expected {wanted}, found {capacity_B[row]}")
            else:
                counts_BN[row] = _reduced(counts_BN[row], z_BP[row, :size], room=int(room_B[row]), grid=self._grid)
        return is_over_B


def load_rounding(arrays: Mapping[str, NDArray[Any]], *, spec: PolicySpec) -> RoundingRecourse:
    """Return the recourse of the arrays `rounding_arrays` makes.

    Raises:
        RecourseRefused: an array is absent or wrong, or does not fit the spec.
    """
    size = len(spec.actions.names)
    parts = {name: floats(arrays, name, size) for name in ("multiple", "lower", "upper")}
    return RoundingRecourse(**parts, capacity=_read_capacity(arrays), spec=spec)


def rounding_arrays(
    *, multiple: Floats, lower: Floats, upper: Floats, capacity: float | str | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of `recourse.npz`.

    `multiple`, `lower`, `upper` [N]; the capacity as `capacity` (one number, infinite for no limit) or as
    `capacity_parameter` (the name of a parameter).
    """
    arrays: dict[str, NDArray[Any]] = {"kind": np.array("rounding")}
    arrays |= {"multiple": np.asarray(multiple, float), "lower": np.asarray(lower, float)}
    arrays |= {"upper": np.asarray(upper, float)}
    if isinstance(capacity, str):
        return arrays | {"capacity_parameter": np.array(capacity)}
    return arrays | {"capacity": np.array(np.inf if capacity is None else capacity, float)}


class _Grid:
    """The decimal grid: step_N are the multiples and lower_N, upper_N the counts of them, as integers of 1 / scale."""

    def __init__(self, multiple: Floats, lower: Floats, upper: Floats) -> None:
        steps = [_decimal(value, "multiple") for value in multiple]
        digits = max([0, *(-int(step.as_tuple().exponent) for step in steps)])
        if digits > _MOST_DIGITS or any(step <= 0 for step in steps):
            raise RecourseRefused(
                f"multiples: expected positive decimals of at most 9 digits, found {multiple.tolist()}"
            )
        self.scale = 10**digits
        self.step_N: Counts = np.array([int(step * self.scale) for step in steps], dtype=np.int64)
        largest = _EXACT // (self.scale * max(1, multiple.size))
        self.bounds = (lower, np.minimum(upper, largest))
        pairs = list(zip(steps, *self.bounds, strict=True))
        self.lower_N: Counts = np.array([_count(low, step, ROUND_CEILING) for step, low, _ in pairs], dtype=np.int64)
        self.upper_N: Counts = np.array([_count(high, step, ROUND_FLOOR) for step, _, high in pairs], dtype=np.int64)
        if (lower < 0).any() or (self.lower_N > self.upper_N).any():
            raise RecourseRefused(
                f"bounds: expected each to hold a multiple at or above 0, found lower {lower.tolist()}, upper "
                f"{upper.tolist()} for multiples of {multiple.tolist()}"
            )

    def nearest_counts(self, proposed_BN: Floats) -> Counts:
        """Return the nearest allowed count of multiples for each component, halves to even, [B, N] int64."""
        inside = np.clip(proposed_BN, *self.bounds)
        counts_BN: Counts = np.rint(inside * self.scale / self.step_N).astype(np.int64)
        return counts_BN.clip(self.lower_N, self.upper_N)

    def values(self, counts_BN: Counts) -> Floats:
        """Return the quantities of counts: each the float64 nearest to its decimal."""
        values: Floats = (counts_BN * self.step_N) / self.scale
        return values

    def room(self, capacity_B: Floats) -> Counts:
        """Return the largest integer of the grid whose decimal, written as float64, is at most the capacity."""
        bounded = np.clip(capacity_B, -1.0, _EXACT / self.scale)
        nearest = np.rint(bounded * self.scale)
        room_B: Counts = np.where(nearest / self.scale <= bounded, nearest, nearest - 1.0).astype(np.int64)
        return room_B


def _reduced(counts_N: Counts, proposed_N: Floats, *, room: int, grid: _Grid) -> Counts:
    """Return the counts of one row after taking multiples away until the sum fits the room.

    The key of a step down is its midpoint less the proposal. Steps above a common level are taken at once, the few
    left one by one; what unequal multiples freed beyond need is handed back.
    """
    inside = np.clip(proposed_N, *grid.bounds) * grid.scale
    key_N = (counts_N - 0.5) * grid.step_N - inside  # of the first step down; each further one is step_N less
    most_N = counts_N - grid.lower_N
    excess = int((counts_N * grid.step_N).sum()) - room

    def taken(level: int) -> Counts:
        steps_N: Counts = np.ceil((key_N - level) / grid.step_N).clip(0, most_N).astype(np.int64)
        return steps_N

    lowest, highest = int(np.floor((key_N - most_N * grid.step_N).min())) - 1, int(np.ceil(key_N.max()))
    while lowest < highest:  # the lowest level above which no more is taken than needed
        middle = (lowest + highest) // 2
        if int((taken(middle) * grid.step_N).sum()) <= excess:
            highest = middle
        else:
            lowest = middle + 1
    taken_N = taken(highest)
    slack = _take_singly(taken_N, key_N, most_N, excess=excess, grid=grid)
    _hand_back(taken_N, key_N, slack=slack, grid=grid)
    return counts_N - taken_N


def _take_singly(taken_N: Counts, key_N: Floats, most_N: Counts, *, excess: int, grid: _Grid) -> int:
    """Take steps by the largest key, the first component on a tie, until the excess is gone; return what is over."""
    missing = excess - int((taken_N * grid.step_N).sum())
    queue = [(-float(key_N[i] - taken_N[i] * grid.step_N[i]), i) for i in np.flatnonzero(taken_N < most_N).tolist()]
    heapq.heapify(queue)
    while missing > 0:
        negative_key, i = heapq.heappop(queue)
        taken_N[i] += 1
        missing -= int(grid.step_N[i])
        if taken_N[i] < most_N[i]:
            heapq.heappush(queue, (negative_key + float(grid.step_N[i]), i))
    return -missing


def _hand_back(taken_N: Counts, key_N: Floats, *, slack: int, grid: _Grid) -> None:
    """Give back, in place, taken steps that still fit the slack, from the component furthest below its proposal on."""
    reached_N = key_N - taken_N * grid.step_N
    for i in np.argsort(reached_N, kind="stable").tolist():
        back = min(int(taken_N[i]), slack // int(grid.step_N[i]))
        taken_N[i] -= back
        slack -= back * int(grid.step_N[i])


def _status(is_over: bool, is_kept: bool) -> str:
    return "reduced" if is_over else "kept" if is_kept else "rounded"


def _decimal(value: float, name: str) -> Decimal:
    if not np.isfinite(value):
        raise RecourseRefused(f"{name}: expected finite numbers, found {value}")
    return Decimal(repr(float(value))).normalize()


def _count(bound: float, step: Decimal, rounding: str) -> int:
    return int((_decimal(bound, "bounds") / step).to_integral_value(rounding))


def _read_capacity(arrays: Mapping[str, NDArray[Any]]) -> float | str:
    """Read the one of two arrays that says the capacity; a lost one must not pass for no limit."""
    given = {"capacity", "capacity_parameter"} & set(arrays)
    if len(given) != 1:
        raise RecourseRefused(
            f"recourse: expected either 'capacity' (inf: no limit) or 'capacity_parameter', found {sorted(given)}"
        )
    if "capacity_parameter" in arrays:
        return word(arrays, "capacity_parameter")
    return float(floats({"capacity": arrays["capacity"].reshape(-1)}, "capacity", 1)[0])


def _check_spec(spec: PolicySpec, *, size: int) -> None:
    if size != len(spec.actions.names):
        raise RecourseRefused(f"rounding: expected {len(spec.actions.names)} components as in the spec, found {size}")
    if spec.recourse is not None and spec.recourse.outputs:
        raise RecourseRefused(f"rounding reports no outputs; the spec names {[o.name for o in spec.recourse.outputs]}")
