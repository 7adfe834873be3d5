"""Columns: what the encoder reads, whether it came as requests or as feedback.

A column of the request holds one value per row. A column of actions or slots is ragged: all rows' values end to end,
with the length of each row beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.errors import ContentRefused
from policies.events import DecisionRequest, Fault, Reason, Table, shorten
from policies.spec import MAX_ID_BYTES, PolicySpec, is_id

Values = Sequence[Any] | NDArray[Any]

ELIGIBLE = "eligible"
ID = "id"


class UnableToEncode(ContentRefused):
    """Some row's values are not what the spec says; `fault` says why and `row` which, where that is known."""

    def __init__(self, reason: Reason, detail: str, *, row: int | None = None) -> None:
        super().__init__(detail if row is None else f"{detail} (row {row})")
        self.fault = Fault(reason, detail)
        self.row = row


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """Hold the action rows or the slots of all requests, end to end.

    `order` is where each row's sorted ids stand in the values as sent (None: they came sorted); `ids` are sorted.
    """

    lengths: NDArray[np.int64]
    ids: list[list[str]]
    order: NDArray[np.int64] | None
    fields: Mapping[str, Values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Hold `count` requests as columns; `eligible` has, per request, None or one row of bools per slot, as sent."""

    count: int
    request: Mapping[str, Values]
    actions: TableColumns | None = None
    slots: TableColumns | None = None
    eligible: list[list[list[bool]] | None] | None = field(default=None)


def columns_of(requests: Sequence[DecisionRequest], *, spec: PolicySpec) -> Columns:
    """Turn requests into the columns that the spec names; fields that it does not name are left out.

    Raises:
        UnableToEncode: a table is missing, its columns are unequal, or an id is empty or named twice.
    """
    fields = [request.fields for request in requests]
    return Columns(
        count=len(requests),
        request={f.name: _column(fields, f.name) for f in spec.on("request")},
        actions=_actions(requests, spec),
        slots=_slots(requests, spec),
        eligible=None if spec.is_quantity else _eligible(requests),
    )


def table_of(ids: list[list[str]], *, fields: Mapping[str, Values], is_sorted: bool = True) -> TableColumns:
    """Return a table of each request's ids and, end to end and in the order sent, the values of each field.

    The ids of own actions and of slots are brought into canonical order (sorted by their UTF-8 bytes, which is how
    Python sorts texts); fixed ids are located by the encoder and stay as sent: `is_sorted` false.

    >>> table_of([["b", "a"], ["c"]], fields={"cost": [1.0, 2.0, 3.0]}).order.tolist()
    [1, 0, 2]
    """
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    ordered = _sort(ids) if is_sorted else ids
    order = None if ordered is ids else _order(ids)
    return TableColumns(lengths=lengths, ids=ordered, order=order, fields=fields)


def starts_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each row's values begin in a ragged column whose rows have these lengths: int64 [N].

    >>> starts_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2]
    """
    return np.cumsum(lengths) - lengths


def _sort(ids: list[list[str]]) -> list[list[str]]:
    """Return each row sorted; the rows themselves where all came so. A row like the one before is not sorted again."""
    before: list[str] = []
    after: list[str] = []
    ordered, is_as_sent = [], True
    for row in ids:
        if row != before:
            before, after = row, sorted(row)
            is_as_sent &= before == after
        ordered.append(after)
    return ids if is_as_sent else ordered


def are_ids(ids: Sequence[Any]) -> bool:
    """Say whether all are ids, looking at each one only where a glance does not settle it.

    >>> are_ids(["a", "b"]), are_ids(["a", ""]), are_ids(["a", 1])
    (True, False, False)
    """
    try:
        joined = "".join(ids)
    except TypeError:
        return False
    if joined.isascii() and "\x00" not in joined and all(ids):
        return len(joined) <= MAX_ID_BYTES or max(map(len, ids)) <= MAX_ID_BYTES
    return all(map(is_id, ids))


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except KeyError:
        return [row.get(name) for row in rows]


def _actions(requests: Sequence[DecisionRequest], spec: PolicySpec) -> TableColumns | None:
    if spec.is_quantity:
        return None
    tables = [request.actions for request in requests]
    names = [f.name for f in spec.on("action")]
    if spec.actions.ids is None:
        return _table(tables, what="actions", names=names, is_sorted=True)
    if all(table is None for table in tables):
        return None
    whole: Table = {ID: list(spec.actions.ids)}
    listed = [whole if table is None else table for table in tables]
    return _table(listed, what="actions", names=names, is_sorted=False)


def _slots(requests: Sequence[DecisionRequest], spec: PolicySpec) -> TableColumns | None:
    if not spec.has_slots:
        return None
    names = [f.name for f in spec.on("slot")]
    return _table([request.slots for request in requests], what="slots", names=names, is_sorted=True)


def _table(tables: Sequence[Table | None], *, what: str, names: list[str], is_sorted: bool) -> TableColumns:
    present: list[Table] = []
    sound: list[str] = []  # producers send the same candidates again and again: these need no second look
    for row, table in enumerate(tables):
        present.append(_check_table(table, what=what, row=row, sound=sound))
        sound = present[-1][ID]
    fields = {name: column for name in names if (column := _flat(present, name)) is not None}
    return table_of([table[ID] for table in present], fields=fields, is_sorted=is_sorted)


def _check_table(table: Table | None, *, what: str, row: int, sound: list[str]) -> Table:
    if table is None:
        raise UnableToEncode("missing_field", f"{what} must be given as columns with 'id', found none", row=row)
    if type(table) is not dict:
        raise UnableToEncode("wrong_type", f"{what} must be columns by name, found {shorten(table)}", row=row)
    if ID not in table:
        found = shorten(list(table))
        raise UnableToEncode("missing_field", f"{what} must be given as columns with 'id', found {found}", row=row)
    ids = table[ID]
    if type(ids) is not list:
        _check_columns(table, what=what, row=row)
    count = len(ids)
    for values in table.values():
        if type(values) is not list or len(values) != count:
            _check_columns(table, what=what, row=row)
            break
    if not ids or (ids != sound and (not are_ids(ids) or len(set(ids)) != count)):
        raise _refuse_ids(ids, what=what, row=row)
    return table


def _check_columns(table: Table, *, what: str, row: int) -> None:
    """Refuse a column that is no list or has another length than the ids; the eligible matrix has its own shape."""
    count = len(table[ID]) if type(table[ID]) is list else 0
    for name, values in table.items():
        if type(values) is not list:
            raise UnableToEncode("wrong_type", f"{what}.{name} must be a list, found {shorten(values)}", row=row)
        if len(values) != count and name != ELIGIBLE:
            detail = f"{what}.{name} must have {count} values, as many as {what}.id, found {len(values)}"
            raise UnableToEncode("unequal_columns", detail, row=row)


def _refuse_ids(ids: list[Any], *, what: str, row: int) -> UnableToEncode:
    if not ids:
        return UnableToEncode("no_eligible_action", f"{what}.id must name at least one, found none", row=row)
    for value in ids:
        if not isinstance(value, str):
            detail = f"{what}.id must hold texts, found {shorten(value)}"
            return UnableToEncode("wrong_type", detail, row=row)
        if not is_id(value):
            detail = f"{what}.id must hold texts of 1 to {MAX_ID_BYTES} bytes without U+0000, found {shorten(value)}"
            return UnableToEncode("empty_id", detail, row=row)
    twice = next(value for place, value in enumerate(ids) if value in ids[:place])
    return UnableToEncode("wrong_type", f"{what}.id must name an id once, found {shorten(twice)} twice", row=row)


def _order(ids: Sequence[list[str]]) -> NDArray[np.int64]:
    order: list[int] = []
    for row in ids:
        start = len(order)
        order += [start + place for place in sorted(range(len(row)), key=row.__getitem__)]
    return np.array(order, dtype=np.int64)


def _flat(tables: Sequence[Table], name: str) -> list[Any] | None:
    """Return one column of all tables end to end; None where no table has it, null values where some do not."""
    flat: list[Any] = []
    try:
        for table in tables:
            flat += table[name]
    except KeyError:
        if not any(name in table for table in tables):
            return None
        return list(chain.from_iterable(table.get(name, [None] * len(table[ID])) for table in tables))
    return flat


def _eligible(requests: Sequence[DecisionRequest]) -> list[list[list[bool]] | None] | None:
    sent = [None if request.actions is None else request.actions.get(ELIGIBLE) for request in requests]
    return None if all(rows is None for rows in sent) else sent
