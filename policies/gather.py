"""The rows of a log become the columns of its requests: contexts, and the tables of actions and slots.

The rows of one request are gathered into one: its actions are the union of what its slots may take, with an eligible
matrix where the slots differ. Actions are brought into canonical order whatever order a foreign log lists them in.
"""

# N row, R request, V eligible actions of all rows end to end

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.arrow import Coded, coded_texts, lists, numbers, texts
from policies.columns import Columns, TableColumns, Values, starts_of
from policies.errors import ContentRefused
from policies.log import Places, Ragged, pick
from policies.spec import Field, PolicySpec


class UnableToGather(ContentRefused):
    """The rows of a log do not fit together as requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Hold the requests' columns, each row's request (int64 [N], None where the row is the request), and probabilities.

    The probabilities are in canonical order, as the actions are.
    """

    columns: Columns
    request_rows: Places | None
    probabilities: Ragged | None


def gather(
    table: Any,
    *,
    spec: PolicySpec,
    request_ids: list[str] | None,
    slots: list[str] | None,
    probabilities: Ragged | None,
) -> Gathered:
    """Gather the rows of an Arrow table by request.

    Raises:
        UnableToGather: lists differ in length, a row has no eligible action or an unknown one, or rows of one request
            differ in its context or in the fields of an action.
        UnableToReadColumn: a column is of another kind.
    """
    contexts = {f.name: _context(table, f) for f in spec.on("request")}
    listed = None if spec.is_quantity or "eligible" not in table.column_names else _listed(table, spec, slots)
    if listed is not None:
        probabilities = _check_probabilities(listed, probabilities)
    if not spec.has_slots:
        columns = Columns(count=table.num_rows, request=contexts, actions=_single_actions(listed, spec))
        return Gathered(columns=columns, request_rows=None, probabilities=probabilities)
    rows = _Groups(request_ids or [], slots or [])
    _check_contexts(contexts, rows)
    actions, eligible = _union(listed, rows, spec)
    columns = Columns(
        count=len(rows.firsts),
        request={name: pick(values, rows.firsts) for name, values in contexts.items()},
        actions=actions,
        slots=_slots(table, rows, spec),
        eligible=eligible,
    )
    return Gathered(columns=columns, request_rows=rows.request_rows, probabilities=probabilities)


class _Groups:
    """Says which rows are of one request, in the order of their slots; rows with slot "" are of the whole of it."""

    def __init__(self, request_ids: list[str], slots: list[str]) -> None:
        numbers: dict[str, int] = {}
        self.request_rows = np.array([numbers.setdefault(name, len(numbers)) for name in request_ids], dtype=np.int64)
        self.firsts = np.unique(self.request_rows, return_index=True)[1].astype(np.int64)
        self.choices: list[list[int]] = [[] for _ in numbers]
        for row, (request, slot) in enumerate(zip(self.request_rows.tolist(), slots, strict=True)):
            if slot:
                self.choices[request].append(row)
        for request, rows in enumerate(self.choices):
            rows.sort(key=slots.__getitem__)
            if not rows:
                raise UnableToGather(f"request {request_ids[int(self.firsts[request])]!r} has no row with a slot")
        self.slot_ids = [[slots[row] for row in rows] for rows in self.choices]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """Hold the eligible actions of all rows, in canonical order, with their fields.

    `lengths` int64 [N]; `ranks` int64 [V], places among the `words`, whose order is canonical: the spec's, or that of
    the bytes; `order` brings values as listed into canonical order, int64 [V], None where they are.
    """

    lengths: Places
    ranks: Places
    words: NDArray[np.object_]
    order: Places | None
    fields: dict[str, Values]


def _listed(table: Any, spec: PolicySpec, slots: list[str] | None) -> _Listed | None:
    column = lists(table["eligible"], name="eligible")
    if column.is_null.all() and spec.actions.ids is not None:
        return None
    is_whole = np.array([not slot for slot in slots], dtype=bool) if spec.has_slots and slots else None
    empty = (column.lengths == 0) if is_whole is None else (column.lengths == 0) & ~is_whole
    if empty.any():
        row = int(empty.argmax())
        raise UnableToGather(f"eligible must name at least one action, found none in row {row}; list what was possible")
    coded = coded_texts(column.values, name="eligible")
    named = coded.words.tolist()[:-1]
    words = sorted(named) if spec.actions.ids is None else list(spec.actions.ids)
    ranks = _ranks(coded, words, column.lengths)
    order = _canonical_order(ranks, column.lengths)
    ranks = ranks if order is None else ranks[order]
    _check_distinct(ranks, words, column.lengths)
    fields = {
        field.name: values if order is None else pick(values, order)
        for field in spec.on("action")
        if (values := _action_field(table, field, column.lengths)) is not None
    }
    return _Listed(lengths=column.lengths, ranks=ranks, words=np.array(words, dtype=object), order=order, fields=fields)


def _ranks(coded: Coded, words: list[str], lengths: Places) -> Places:
    """Return each eligible action's place among the words in canonical order, int64 [V]."""
    places: dict[Any, int] = {word: place for place, word in enumerate(words)}
    ranks: Places = np.array([places.get(word, -1) for word in coded.words.tolist()], dtype=np.int64)[coded.places]
    if (ranks < 0).any():
        at = int((ranks < 0).argmax())
        found = coded.words[coded.places[at]]
        raise UnableToGather(f"eligible must name actions of the spec, found {found!r} in row {_row_of(at, lengths)}")
    return ranks


def _row_of(at: int, lengths: Places) -> int:
    return int(np.searchsorted(np.cumsum(lengths), at, side="right"))


def _owners(lengths: Places) -> Places:
    return np.repeat(np.arange(len(lengths)), lengths)


def _is_plain(ranks: Places, lengths: Places) -> bool:
    """Say whether every row lists the same actions 0, 1, 2, …: the usual log of fixed actions, told at a glance."""
    if not len(ranks):
        return True
    size = int(lengths[0])
    return bool((lengths == size).all()) and bool((ranks.reshape(-1, size) == np.arange(size)).all())


def _canonical_order(ranks: Places, lengths: Places) -> Places | None:
    """Return the order that sorts each row's values, int64 [V]; None where they are sorted."""
    if _is_plain(ranks, lengths):
        return None
    owners = _owners(lengths)
    falls = (ranks[1:] < ranks[:-1]) & (owners[1:] == owners[:-1])
    if not falls.any():
        return None
    return np.lexsort((ranks, owners)).astype(np.int64)


def _check_distinct(ranks: Places, words: list[str], lengths: Places) -> None:
    if _is_plain(ranks, lengths):
        return
    owners = _owners(lengths)
    twice = (ranks[1:] == ranks[:-1]) & (owners[1:] == owners[:-1])
    if twice.any():
        at = int(np.argmax(twice))
        raise UnableToGather(f"eligible names {words[ranks[at]]!r} twice in row {owners[at]}")


def _action_field(table: Any, field: Field, lengths: Places) -> Values | None:
    name = f"action_{field.name}"
    if name not in table.column_names or table[name].null_count == table.num_rows:
        return None
    column = lists(table[name], name=name)
    if (column.lengths != lengths).any():
        row = int((column.lengths != lengths).argmax())
        raise UnableToGather(
            f"{name} must have one value per eligible action, found {column.lengths[row]} values for {lengths[row]} "
            f"actions in row {row}"
        )
    return _values(column.values, field, name)


def _values(column: Any, field: Field, name: str) -> Values:
    """Return a column of one field's values: texts, numbers [N] or [N, width]; lists where some are null."""
    if field.is_category:
        return texts(column, name=name)
    if field.steps is not None:
        sequences: list[Any] = column.to_pylist()
        return sequences
    if field.width == 1:
        found = numbers(column, name=name)
        return found if not column.null_count or field.axis == "request" else column.to_pylist()
    vectors = lists(column, name=name)
    wrong = (vectors.lengths != field.width) & ~vectors.is_null
    if wrong.any():
        row = int(wrong.argmax())
        raise UnableToGather(f"{name} must have {field.width} values, found {vectors.lengths[row]} in row {row}")
    if vectors.is_null.any():
        nullable: list[Any] = column.to_pylist()
        return nullable
    return numbers(vectors.values, name=name).reshape(-1, field.width)


def _context(table: Any, field: Field) -> Values:
    name = f"context_{field.name}"
    return [None] * table.num_rows if name not in table.column_names else _values(table[name], field, name)


def _check_probabilities(listed: _Listed, probabilities: Ragged | None) -> Ragged | None:
    if probabilities is None:
        return None
    wrong = (probabilities.lengths > 0) & (probabilities.lengths != listed.lengths)
    if wrong.any():
        row = int(wrong.argmax())
        raise UnableToGather(
            f"probabilities must have one value per eligible action, found {probabilities.lengths[row]} values for "
            f"{listed.lengths[row]} actions in row {row}"
        )
    if listed.order is None or (probabilities.lengths != listed.lengths).any():
        return probabilities
    return Ragged(lengths=probabilities.lengths, values=probabilities.values[listed.order])


def _single_actions(listed: _Listed | None, spec: PolicySpec) -> TableColumns | None:
    """Make the actions of requests that are one row each; None where every request may take all of the spec's."""
    if listed is None or (_is_full(listed, spec) and not listed.fields):
        return None
    if _is_full(listed, spec):
        ids = [list(spec.actions.ids or ())] * len(listed.lengths)
    else:
        flat, stops = listed.words[listed.ranks].tolist(), np.cumsum(listed.lengths).tolist()
        ids = [flat[stop - length : stop] for stop, length in zip(stops, listed.lengths.tolist(), strict=True)]
    return TableColumns(lengths=listed.lengths, ids=ids, order=None, fields=listed.fields)


def _is_full(listed: _Listed, spec: PolicySpec) -> bool:
    ids = spec.actions.ids
    return ids is not None and bool((listed.lengths[listed.lengths > 0] == len(ids)).all())


def _check_contexts(contexts: dict[str, Values], rows: _Groups) -> None:
    first = rows.firsts[rows.request_rows]
    for name, values in contexts.items():
        row = _first_difference(values, first)
        if row is not None:
            raise UnableToGather(
                f"context_{name} must be the same in all rows of a request, found {values[row]} in row {row} and "
                f"{values[first[row]]} in row {first[row]}"
            )


def _first_difference(values: Values, places: Places) -> int | None:
    """Return the first place whose value is not the one at `places`, int64 [N]; NaN equals NaN. None where all are."""
    if not isinstance(values, np.ndarray) or values.dtype == object:
        pairs = enumerate(zip(values, places.tolist(), strict=True))
        return next((row for row, (value, place) in pairs if value != values[place]), None)
    other = values[places]
    differs = (values != other) & ~((values != values) & (other != other))
    wrong = differs.reshape(len(places), -1).any(axis=1)
    return int(wrong.argmax()) if wrong.any() else None


def _union(
    listed: _Listed | None, rows: _Groups, spec: PolicySpec
) -> tuple[TableColumns | None, list[list[list[bool]] | None] | None]:
    """Return the union of what each request's slots may take, and the eligible matrices where the slots differ."""
    if listed is None or (_is_full(listed, spec) and not listed.fields):
        return None, None
    starts = starts_of(listed.lengths).tolist()
    lengths, flat = listed.lengths.tolist(), listed.ranks.tolist()
    words = listed.words.tolist()
    picked: list[list[int]] = []
    stands = np.arange(len(flat))
    eligible: list[list[list[bool]] | None] = []
    for choices in rows.choices:
        spans = [range(starts[row], starts[row] + lengths[row]) for row in choices]
        first = {flat[at]: at for span in reversed(spans) for at in span}
        for span in spans[1:]:
            stands[span.start : span.stop] = [first[flat[at]] for at in span]
        places = sorted(first.values(), key=flat.__getitem__)
        is_same = all(len(span) == len(places) for span in spans)
        sets = [] if is_same else [{flat[at] for at in span} for span in spans]
        picked.append(places)
        eligible.append(None if is_same else [[flat[at] in some for at in places] for some in sets])
    _check_action_fields(listed, stands)
    order = np.fromiter(chain.from_iterable(picked), dtype=np.int64)
    table = TableColumns(
        lengths=np.array([len(places) for places in picked], dtype=np.int64),
        ids=[[words[flat[at]] for at in places] for places in picked],
        order=None,
        fields={name: pick(values, order) for name, values in listed.fields.items()},
    )
    return table, None if all(matrix is None for matrix in eligible) else eligible


def _check_action_fields(listed: _Listed, stands: Places) -> None:
    """Refuse a request whose slots say different things of one action; `stands` is where each was named first."""
    for name, values in listed.fields.items():
        at = _first_difference(values, stands)
        if at is not None:
            action, row = listed.words[listed.ranks[at]], _row_of(at, listed.lengths)
            raise UnableToGather(
                f"action_{name} must be the same in all rows of a request, found {values[at]} for {action!r} in row "
                f"{row} and {values[stands[at]]} before"
            )


def _slots(table: Any, rows: _Groups, spec: PolicySpec) -> TableColumns:
    order = np.fromiter(chain.from_iterable(rows.choices), dtype=np.int64)
    fields = {
        field.name: pick(_values(table[f"slot_{field.name}"], field, f"slot_{field.name}"), order)
        for field in spec.on("slot")
        if f"slot_{field.name}" in table.column_names
    }
    lengths = np.array([len(choices) for choices in rows.choices], dtype=np.int64)
    return TableColumns(lengths=lengths, ids=rows.slot_ids, order=None, fields=fields)
