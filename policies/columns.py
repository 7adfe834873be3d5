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
from policies.events import DecisionRequest, Fault, Reason, Table
from policies.spec import PolicySpec, is_id

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
        eligible=_eligible(requests),
    )


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    try:
        return [row[name] for row in rows]
    except KeyError:
        return [row.get(name) for row in rows]


def _actions(requests: Sequence[DecisionRequest], spec: PolicySpec) -> TableColumns | None:
    if spec.is_quantity:
        return None
    tables = [request.actions for request in requests]
    if spec.actions.ids is not None:
        if all(table is None for table in tables):
            return None
        whole: Table = {ID: list(spec.actions.ids)}
        tables = [whole if table is None else table for table in tables]
    sent = tuple(f.name for f in spec.on("action"))
    return _table(tables, what="actions", names=sent, is_sorted=spec.actions.ids is None)


def _slots(requests: Sequence[DecisionRequest], spec: PolicySpec) -> TableColumns | None:
    if not spec.has_slots:
        return None
    names = tuple(f.name for f in spec.on("slot"))
    return _table([request.slots for request in requests], what="slots", names=names, is_sorted=True)


def _table(tables: Sequence[Table | None], *, what: str, names: tuple[str, ...], is_sorted: bool) -> TableColumns:
    present = [_check_table(table, what=what, row=row) for row, table in enumerate(tables)]
    ids = [table[ID] for table in present]
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    order = _order(ids, lengths) if is_sorted else None
    return TableColumns(
        lengths=lengths,
        ids=ids if order is None else [sorted(row) for row in ids],
        order=order,
        fields={name: column for name in names if (column := _flat(present, name)) is not None},
    )


def _check_table(table: Table | None, *, what: str, row: int) -> Table:
    if table is None or ID not in table:
        raise UnableToEncode("missing_field", f"{what} must be given as columns with 'id'", row=row)
    ids = table[ID]
    if not are_ids(ids):
        raise UnableToEncode("empty_id", f"{what}.id must hold texts of 1 to 256 bytes without U+0000", row=row)
    if not ids:
        raise UnableToEncode("no_eligible_action", f"{what}.id is empty", row=row)
    if len(set(ids)) != len(ids):
        raise UnableToEncode("wrong_type", f"{what}.id names an id twice", row=row)
    for name, values in table.items():
        if name != ELIGIBLE and len(values) != len(ids):
            detail = f"{what}.{name} has {len(values)} values, {what}.id has {len(ids)}"
            raise UnableToEncode("unequal_columns", detail, row=row)
    return table


def are_ids(ids: Sequence[Any]) -> bool:
    """Say whether all are ids, looking at each one only where a glance does not settle it."""
    if not set(map(type, ids)) <= {str}:
        return False
    sizes = set(map(len, ids))
    if sizes and (0 in sizes or max(sizes) > 64 or "\x00" in "".join(ids)):
        return all(map(is_id, ids))
    return True


def _order(ids: Sequence[list[str]], lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
    if all(row == sorted(row) for row in ids):
        return None
    starts = np.cumsum(lengths) - lengths
    within = [sorted(range(len(row)), key=row.__getitem__) for row in ids]
    return np.fromiter(chain.from_iterable(within), np.int64, int(lengths.sum())) + np.repeat(starts, lengths)


def _flat(tables: Sequence[Table], name: str) -> list[Any] | None:
    """Return one column of all tables end to end; None where no table has it, null values where some do not."""
    if all(name in table for table in tables):
        return list(chain.from_iterable(table[name] for table in tables))
    if not any(name in table for table in tables):
        return None
    return list(chain.from_iterable(table.get(name, [None] * len(table[ID])) for table in tables))


def _eligible(requests: Sequence[DecisionRequest]) -> list[list[list[bool]] | None] | None:
    sent = [None if request.actions is None else request.actions.get(ELIGIBLE) for request in requests]
    return None if all(rows is None for rows in sent) else sent
