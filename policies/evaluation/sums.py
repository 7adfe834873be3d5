"""Sums over a log, one row of moments per shard: they merge, and everything an estimate needs follows from them.

Rewards may be correlated within a unit, so squares are taken of a unit's total, never of its rows. Units lie in 256
shards by their hash; where the unit is the row, a shard is a block of 65,536 rows. Totals are added in shard order:
parts that are unions of shards give the same bits in any order, any other split the same values to 1e-12.
"""

# N row, U unit, S shard, M moment, E extreme

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from policies.errors import ContentRefused
from policies.evaluation.scored import Column, Scored

AnyArray = TypeVar("AnyArray", NDArray[np.float64], NDArray[np.int64], NDArray[np.uint64])

DEFAULT_CLIP: Final = 100.0
BLOCK_ROWS: Final = 65_536
SHARD_COUNT: Final = 256
_SHARD_SHIFT: Final = np.uint64(56)
_CHUNK_ROWS: Final = 8_192
"""Divides a block and keeps the columns in the cache; OpenBLAS splits longer dot products over threads, whose number
would then show in the last bits."""


class UnableToAdd(ContentRefused):
    """Rows of a unit that was added before came again; its interval would be too narrow."""


class Totals(NamedTuple):
    """Name the moments: sums over units, where `a_b` is the sum of the product of a unit's totals a and b.

    Per row: weight w, ips w*r, clipped min(w, clip)*r, dm q_target, dr w*(r - q_logged) + q_target.
    """

    rows: float = 0.0
    units: float = 0.0
    weight: float = 0.0
    ips: float = 0.0
    clipped: float = 0.0
    dm: float = 0.0
    dr: float = 0.0
    rows_rows: float = 0.0
    rows_weight: float = 0.0
    rows_ips: float = 0.0
    rows_clipped: float = 0.0
    rows_dr: float = 0.0
    weight_weight: float = 0.0
    weight_ips: float = 0.0
    weight_dr: float = 0.0
    ips_ips: float = 0.0
    clipped_clipped: float = 0.0
    dr_dr: float = 0.0


_FACTORS: Final = tuple(tuple(name.split("_")) for name in Totals._fields)


class Extremes(NamedTuple):
    """Name the largest values seen; what is `negated` is the smallest one with its sign turned."""

    weight: float
    unit_weight: float
    unit_rows: float
    negated_unit_rows: float
    reward: float
    negated_reward: float
    prediction: float
    negated_prediction: float


class _Rows(NamedTuple):
    """The columns that moments are made of, float64 [N], or [U] once they are added up by unit."""

    rows: Column
    weight: Column
    ips: Column
    clipped: Column
    dm: Column | None
    dr: Column | None


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sums:
    """Hold the moments of a log; `add` and `merge` return new sums and leave these as they are.

    Attributes:
        clip: what clipped_ips cuts weights at.
        by_unit: whether units were given; None while nothing was added.
        has_model: whether predictions were given; None while nothing was added.
        shards: int64 [S], ascending: the shard of each row of moments.
        moments: float64 [S, M], in the order of `Totals`.
        extremes: what `Extremes` names.
        unit_ranges: uint64 [256, 2], smallest and largest unit hash of each shard (smallest > largest: no unit).
        excluded: rows that could not be weighted (a fallback, a shadow, a retracted reward).
        pending: rows whose reward is not known yet.
    """

    clip: float
    by_unit: bool | None
    has_model: bool | None
    shards: NDArray[np.int64]
    moments: NDArray[np.float64]
    extremes: Extremes
    unit_ranges: NDArray[np.uint64]
    excluded: int
    pending: int

    @classmethod
    def empty(cls, *, clip: float = DEFAULT_CLIP) -> Self:
        """Return the sums of no rows, the neutral element of `merge`.

        Raises:
            ValueError: clip is not positive.
        """
        if not clip > 0:
            raise ValueError(f"clip must be positive, found {clip}")
        return cls(
            clip=clip,
            by_unit=None,
            has_model=None,
            shards=_frozen(np.empty(0, dtype=np.int64)),
            moments=_frozen(np.empty((0, len(Totals._fields)))),
            extremes=Extremes(*[-np.inf] * len(Extremes._fields)),
            unit_ranges=_no_ranges(),
            excluded=0,
            pending=0,
        )

    @property
    def totals(self) -> Totals:
        """The moments of the whole log, added in shard order."""
        return Totals(*np.add.reduce(self.moments, axis=0).tolist())

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return int(self.totals.rows)

    @property
    def unit_count(self) -> int:
        """The number of units; rows where the unit is the row."""
        return int(self.totals.units)

    def add(self, scored: Scored, *, first_row: int | None = None, excluded: int = 0, pending: int = 0) -> Self:
        """Return the sums with the rows of a Scored added; whole units only.

        Args:
            scored: the rows, in the order of the log.
            first_row: where the unit is the row, the place of the first row in the whole log; by default after all
                rows added so far. Parts give the same bits in any order when they begin and end at blocks.
            excluded: rows of the same part that could not be weighted, and so are not in it.
            pending: rows of the same part without a reward yet.

        Raises:
            UnableToAdd: a unit of these rows was added before (found out when it is the first or last of its shard,
                which a file cut inside a unit always shows).
            ValueError: units or predictions are given now and were not before, or the other way round.
        """
        part = replace(self.empty(clip=self.clip), excluded=excluded, pending=pending)
        if len(scored):
            start = self.row_count if first_row is None else first_row
            part = _sum_by_row(part, scored, first_row=start) if scored.unit is None else _sum_by_unit(part, scored)
            _refuse_split_units(self.unit_ranges, part.unit_ranges)
        return self.merge(part)

    def merge(self, other: Self) -> Self:
        """Return the sums of both logs together; a unit that is in both counts as two.

        Raises:
            ValueError: the two were clipped differently, or only one has units or predictions.
        """
        if self.clip != other.clip:
            raise ValueError(f"sums clipped at {self.clip} and at {other.clip} do not merge")
        shards = np.union1d(self.shards, other.shards)
        moments = np.zeros((len(shards), len(Totals._fields)))
        for part in (self, other):
            moments[np.searchsorted(shards, part.shards)] += part.moments
        return replace(
            self,
            by_unit=_agreed(self.by_unit, other.by_unit, "units"),
            has_model=_agreed(self.has_model, other.has_model, "predictions"),
            shards=_frozen(shards),
            moments=_frozen(moments),
            extremes=Extremes(*map(max, self.extremes, other.extremes)),
            unit_ranges=_merged_ranges(self.unit_ranges, other.unit_ranges),
            excluded=self.excluded + other.excluded,
            pending=self.pending + other.pending,
        )


def _sum_by_row(empty: Sums, scored: Scored, *, first_row: int) -> Sums:
    blocks = range(first_row // BLOCK_ROWS, (first_row + len(scored) - 1) // BLOCK_ROWS + 1)
    moments = np.zeros((len(blocks), len(Totals._fields)))
    largest_weight = -np.inf
    for place, block in enumerate(blocks):
        stop = min((block + 1) * BLOCK_ROWS - first_row, len(scored))
        for part in _chunks(max(block * BLOCK_ROWS - first_row, 0), stop):
            rows = _rows(scored, part, clip=empty.clip)
            moments[place] += _moments_of_rows(rows)
            largest_weight = max(largest_weight, float(rows.weight.max()))
    return replace(
        empty,
        by_unit=False,
        has_model=scored.q_logged is not None,
        shards=np.asarray(blocks, dtype=np.int64),
        moments=moments,
        extremes=_extremes(scored, weight=largest_weight, unit_weight=largest_weight, unit_rows=(1.0, 1.0)),
    )


def _sum_by_unit(empty: Sums, scored: Scored) -> Sums:
    assert scored.unit is not None
    rows = _rows(scored, slice(None), clip=empty.clip)
    order, starts = _group(scored.unit)
    units = scored.unit[starts] if order is None else scored.unit[order[starts]]
    by_unit = _add_up(rows, order, starts)
    shard = (units >> _SHARD_SHIFT).astype(np.int64)
    ranges = np.array(_no_ranges())
    ranges[shard[::-1], 0] = units[::-1]  # the last assignment stands: the first unit of the shard,
    ranges[shard, 1] = units  # and the last one
    sizes = by_unit.rows
    return replace(
        empty,
        by_unit=True,
        has_model=scored.q_logged is not None,
        shards=np.arange(SHARD_COUNT),
        moments=_moments_by_shard(by_unit, shard),
        extremes=_extremes(
            scored,
            weight=float(rows.weight.max()),
            unit_weight=float(by_unit.weight.max()),
            unit_rows=(float(sizes.min()), float(sizes.max())),
        ),
        unit_ranges=ranges,
    )


def _rows(scored: Scored, part: slice, *, clip: float) -> _Rows:
    reward = scored.reward[part]
    weight = scored.target[part] / scored.propensity[part]
    clipped = np.minimum(weight, clip)
    clipped *= reward
    ips, dm, dr = weight * reward, None, None
    if scored.q_logged is not None and scored.q_target is not None:
        dm = scored.q_target[part]
        dr = reward - scored.q_logged[part]
        dr *= weight
        dr += dm
    return _Rows(rows=_ones(len(reward)), weight=weight, ips=ips, clipped=clipped, dm=dm, dr=dr)


def _moments_of_rows(rows: _Rows) -> NDArray[np.float64]:
    # Each row is a unit of one row, so that rows and units are a column of ones and need no arithmetic.
    count = float(len(rows.weight))
    columns = {name: column for name, column in rows._asdict().items() if column is not None}
    sums = {name: float(column.sum()) for name, column in columns.items() if name != "rows"}
    moments = np.zeros(len(_FACTORS))
    for place, factors in enumerate(_FACTORS):
        named = [factor for factor in factors if factor not in {"rows", "units"}]
        if len(named) == 2 and named[0] in columns and named[1] in columns:
            moments[place] = np.dot(columns[named[0]], columns[named[1]])
        elif len(named) < 2:
            moments[place] = sums.get(named[0], 0.0) if named else count
    return moments


def _moments_by_shard(units: _Rows, shard: NDArray[np.int64]) -> NDArray[np.float64]:
    columns = units._asdict() | {"units": _ones(len(shard))}
    moments = np.zeros((SHARD_COUNT, len(_FACTORS)))
    for place, factors in enumerate(_FACTORS):
        named = [columns[factor] for factor in factors]
        if all(column is not None for column in named):
            product = named[0] if len(named) == 1 else named[0] * named[1]
            moments[:, place] = np.bincount(shard, weights=product, minlength=SHARD_COUNT)
    return moments


def _group(unit: NDArray[np.uint64]) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
    """Return the order that sorts rows by unit (None: they are sorted) and where each unit starts in it."""
    order = None
    if bool(np.any(unit[1:] < unit[:-1])):
        order = np.argsort(unit, kind="stable")
        unit = unit[order]
    is_start = np.concatenate(([True], unit[1:] != unit[:-1]))
    return order, np.flatnonzero(is_start)


def _add_up(rows: _Rows, order: NDArray[np.int64] | None, starts: NDArray[np.int64]) -> _Rows:
    def totals(column: Column) -> Column:
        return np.add.reduceat(column if order is None else column[order], starts)

    return _Rows(
        rows=totals(rows.rows),
        weight=totals(rows.weight),
        ips=totals(rows.ips),
        clipped=totals(rows.clipped),
        dm=None if rows.dm is None else totals(rows.dm),
        dr=None if rows.dr is None else totals(rows.dr),
    )


def _chunks(start: int, stop: int) -> Iterator[slice]:
    for first in range(start, stop, _CHUNK_ROWS):
        yield slice(first, min(first + _CHUNK_ROWS, stop))


def _extremes(scored: Scored, *, weight: float, unit_weight: float, unit_rows: tuple[float, float]) -> Extremes:
    predictions = [column for column in (scored.q_logged, scored.q_target) if column is not None]
    return Extremes(
        weight=weight,
        unit_weight=unit_weight,
        unit_rows=unit_rows[1],
        negated_unit_rows=-unit_rows[0],
        reward=float(scored.reward.max()),
        negated_reward=-float(scored.reward.min()),
        prediction=max((float(column.max()) for column in predictions), default=-np.inf),
        negated_prediction=max((-float(column.min()) for column in predictions), default=-np.inf),
    )


def _refuse_split_units(before: NDArray[np.uint64], now: NDArray[np.uint64]) -> None:
    both = _has_units(before) & _has_units(now)
    again = both & ((before[:, :, None] == now[:, None, :]).any(axis=(1, 2)))
    if bool(again.any()):
        shard = int(np.argmax(again))
        unit = np.intersect1d(before[shard], now[shard])[0]
        raise UnableToAdd(
            f"expected whole units, found the unit with hash {unit:016x} (shard {shard}), which was added before: its "
            "squares would be taken in pieces and the interval be too narrow. Sort the log by unit_hash and cut it "
            "between units."
        )


def _no_ranges() -> NDArray[np.uint64]:
    ranges = np.zeros((SHARD_COUNT, 2), dtype=np.uint64)
    ranges[:, 0] = np.iinfo(np.uint64).max
    return _frozen(ranges)


def _has_units(ranges: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return ranges[:, 0] <= ranges[:, 1]


def _merged_ranges(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.uint64]:
    low, high = np.minimum(one[:, 0], other[:, 0]), np.maximum(one[:, 1], other[:, 1])
    return _frozen(np.stack([low, high], axis=1))


def _agreed(one: bool | None, other: bool | None, what: str) -> bool | None:
    if one is not None and other is not None and one != other:
        raise ValueError(f"sums with {what} and sums without do not merge")
    return other if one is None else one


def _ones(count: int) -> Column:
    # A read-only view of a single one: as long as needed, without memory.
    return np.broadcast_to(np.float64(1.0), (count,))


def _frozen(array: AnyArray) -> AnyArray:
    array.flags.writeable = False
    return array
