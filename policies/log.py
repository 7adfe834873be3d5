"""Feedback: a log in memory, one row per choice, with the requests it was made for as columns.

Rows are sorted by (unit_hash, request_id, slot), so that a unit's rows, and within them a request's, stand together.
"""

# N row, R request, M component of a quantity, V values of all rows end to end

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from policies.columns import Columns, TableColumns, UnableToEncode, Values, starts_of
from policies.errors import ContentRefused, UsageProblem
from policies.spec import PolicySpec

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]

PENDING: Final = "pending"
RETRACTED: Final = "retracted"
DEFAULT: Final = "default"


class LogNotFound(UsageProblem):
    """There is no log where one was expected."""


class UnableToUseFeedback(ContentRefused):
    """A log's content is not what feedback must be; the message names the row and the value."""


@contextmanager
def naming_the_request(name_of: Callable[[int], str]) -> Iterator[None]:
    """Turn the refusal of a row into one that names its request; `name_of` tells the request's id by the row.

    Raises:
        UnableToUseFeedback: instead of UnableToEncode.
    """
    try:
        yield
    except UnableToEncode as error:
        where = "" if error.row is None else f" in request {name_of(error.row)!r}"
        raise UnableToUseFeedback(
            f"{error.fault.reason}: {error.fault.detail}{where}; mend the log, or let the field be clipped in its spec"
        ) from error


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """Hold one list of numbers per row, end to end: lengths int64 [N], values float64 [V]; length 0 is none."""

    lengths: Places
    values: Numbers

    def take(self, rows: Places) -> "Ragged":
        """Return the lists of some rows."""
        return Ragged(lengths=self.lengths[rows], values=self.values[segments(self.lengths, rows)])


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feedback:
    """Hold decisions joined to outcomes, one row per (request_id, slot), sorted by (unit_hash, request_id, slot).

    In a log of many-slot requests a row with slot "" and no action carries the rewards of a whole request; a reward
    that is NaN with status None was never expected in that row.

    Attributes:
        spec: what the log was made by.
        request_ids, slots, units: texts [N].
        unit_hashes: uint64 [N], `policies.choose.unit_hashes` of the units, ascending.
        steps, times: int64 [N]; times in microseconds since 1970 UTC.
        columns: the R requests, in the order of their rows.
        request_rows: int64 [N], each row's request, ascending.
        actions: the proposed action of a choice [N]; None for a quantity and for a whole request.
        action_values: float64 [N, M], the proposed quantity; None for a choice.
        applied_actions, applied_values: what was applied, like the two above; None or NaN where that is the proposal.
        propensity: float64 [N] in (0, 1]; NaN where there is none (a quantity, a deterministic choice, a fallback).
        probabilities: of the eligible actions in canonical order; None where none are known.
        propensity_floor: float64 [N], the least probability of an eligible action; NaN where it is not known.
        rewards: float64 [N] by name; NaN where there is none, and then the status says why.
        statuses: by name [N]: None (given), "pending", "retracted" or "default".
        policies, roles, fallbacks: who decided [N], in which role, and why a fallback did.
        is_row_unit: whether every unit has one row: the unit is the row.
    """

    spec: PolicySpec
    request_ids: list[str]
    slots: list[str]
    units: list[str]
    unit_hashes: NDArray[np.uint64]
    steps: Places
    times: Places
    columns: Columns
    request_rows: Places
    actions: list[str | None]
    action_values: Numbers | None = None
    applied_actions: list[str | None] | None = None
    applied_values: Numbers | None = None
    propensity: Numbers
    probabilities: Ragged | None = None
    propensity_floor: Numbers
    rewards: Mapping[str, Numbers]
    statuses: Mapping[str, list[str | None]]
    policies: list[str | None]
    roles: list[str]
    fallbacks: list[str | None]
    is_row_unit: bool

    def __len__(self) -> int:
        return len(self.request_ids)

    def take(self, requests: Places) -> "Feedback":
        """Return the rows of some requests, given by their ascending places: int64 [K].

        Raises:
            ValueError: the places do not ascend.
        """
        if len(requests) and (np.diff(requests) <= 0).any():
            raise ValueError("requests must be ascending places")
        renumbered = np.full(self.columns.count, -1, dtype=np.int64)
        renumbered[requests] = np.arange(len(requests))
        rows = np.flatnonzero(renumbered[self.request_rows] >= 0)
        return replace(
            self,
            **pick_rows(self, rows),
            columns=take_columns(self.columns, requests),
            request_rows=renumbered[self.request_rows[rows]],
            is_row_unit=self.is_row_unit or is_each_unit_one_row(self.unit_hashes[rows]),
        )


def pick_rows(feedback: Feedback, rows: Places) -> dict[str, Any]:
    """Return some rows, int64 [K], of every column that has one value per row and does not number requests."""
    return {f.name: _pick(getattr(feedback, f.name), rows) for f in fields(Feedback) if f.name not in _NOT_PER_ROW}


_NOT_PER_ROW = ("spec", "columns", "request_rows", "is_row_unit")


def is_each_unit_one_row(sorted_hashes: NDArray[np.uint64]) -> bool:
    """Say whether no two neighbors in the sorted hashes, uint64 [N], are one unit."""
    return not bool((sorted_hashes[1:] == sorted_hashes[:-1]).any())


def split_by_time(feedback: Feedback, *, train_share: float) -> tuple[Feedback, Feedback]:
    """Return the requests of the first share of the time-ordered log, and the others.

    Raises:
        UnableToUseFeedback: the share leaves one of the two parts without a request.
    """
    train, test = _time_parts(feedback, train_share)
    return feedback.take(train), feedback.take(test)


def _time_parts(feedback: Feedback, train_share: float) -> tuple[Places, Places]:
    firsts = first_rows(feedback.request_rows)
    order = time_order(feedback.times[firsts], [feedback.request_ids[row] for row in firsts.tolist()])
    count = round(len(order) * train_share)
    if not 0 < count < len(order):
        raise UnableToUseFeedback(
            f"expected a train share that leaves requests on both sides, found {train_share} of {len(order)} requests"
        )
    return np.sort(order[:count]), np.sort(order[count:])


def time_order(times: Places, request_ids: Sequence[str]) -> Places:
    """Return requests by time, int64 [R]; those of one time by their id."""
    pairs = list(zip(times.tolist(), request_ids, strict=True))
    return np.array(sorted(range(len(pairs)), key=pairs.__getitem__), dtype=np.int64)


def first_rows(request_rows: Places) -> Places:
    """Return the first row of each request, int64 [R], of ascending places int64 [N]."""
    firsts: Places = np.flatnonzero(np.diff(request_rows, prepend=-1))
    return firsts


def segments(lengths: Places, rows: Places) -> Places:
    """Return where the values of some rows stand in a ragged column, end to end: int64 [V].

    >>> segments(np.array([2, 1, 3]), np.array([2, 0])).tolist()
    [3, 4, 5, 0, 1]
    """
    picked = lengths[rows]
    places: Places = np.arange(int(picked.sum())) + np.repeat(starts_of(lengths)[rows] - starts_of(picked), picked)
    return places


def take_columns(columns: Columns, requests: Places) -> Columns:
    """Return the columns of some requests, int64 [K], in the order given."""
    return Columns(
        count=len(requests),
        request={name: _pick(values, requests) for name, values in columns.request.items()},
        actions=None if columns.actions is None else _take_table(columns.actions, requests),
        slots=None if columns.slots is None else _take_table(columns.slots, requests),
        eligible=_pick(columns.eligible, requests),
    )


def slice_columns(columns: Columns, start: int, stop: int) -> Columns:
    """Return the columns of the requests from start to stop; cheaper than `take_columns`."""
    return Columns(
        count=min(stop, columns.count) - start,
        request={name: values[start:stop] for name, values in columns.request.items()},
        actions=None if columns.actions is None else _slice_table(columns.actions, start, stop),
        slots=None if columns.slots is None else _slice_table(columns.slots, start, stop),
        eligible=None if columns.eligible is None else columns.eligible[start:stop],
    )


def _take_table(table: TableColumns, requests: Places) -> TableColumns:
    cells = segments(table.lengths, requests)
    order = None
    if table.order is not None:
        lengths = table.lengths[requests]
        order = table.order[cells] + np.repeat(starts_of(lengths) - starts_of(table.lengths)[requests], lengths)
    return TableColumns(
        lengths=table.lengths[requests],
        ids=[table.ids[request] for request in requests.tolist()],
        order=order,
        fields={name: _pick(values, cells) for name, values in table.fields.items()},
    )


def _slice_table(table: TableColumns, start: int, stop: int) -> TableColumns:
    low = int(table.lengths[:start].sum())
    high = low + int(table.lengths[start:stop].sum())
    return TableColumns(
        lengths=table.lengths[start:stop],
        ids=table.ids[start:stop],
        order=None if table.order is None else table.order[low:high] - low,
        fields={name: values[low:high] for name, values in table.fields.items()},
    )


def _pick(values: Any, rows: Places) -> Any:
    """Return some rows of a column, whatever holds it; None stays None."""
    if values is None:
        return None
    if isinstance(values, Ragged):
        return values.take(rows)
    if isinstance(values, Mapping):
        return {name: _pick(column, rows) for name, column in values.items()}
    return pick(values, rows)


def pick(values: Values, rows: Places) -> Values:
    """Return some rows of one column, as the kind of column it was."""
    if isinstance(values, np.ndarray):
        return values[rows]
    sequence: Sequence[Any] = values
    return [sequence[row] for row in rows.tolist()]
