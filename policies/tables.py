"""Tables of actions and slots: encoded end to end, then laid out request by request, each padded to its own size.

Fixed actions stand where the spec names them, whatever subset a request lists and in whatever order; own actions and
slots stand in the order of their sorted ids.
"""

# B request, S slot, A action, F field, N rows of a table of all requests end to end

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policies.columns import Columns, TableColumns, UnableToEncode, Values, starts_of
from policies.events import shorten
from policies.spec import PolicySpec
from policies.values import Block, Tally, of_request

Places = NDArray[np.int64]


@final
class FixedActions:
    """The actions that the spec names, with the features that it gives them.

    `features` is float64 [A, F], or None where the spec leaves some to the request (or no action has a field).

    Raises:
        UnableToEncode: the spec's features are not what its fields say.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self.ids = list(spec.actions.ids or ())
        self._block = Block(spec.on("action"))
        self._places = {action: place for place, action in enumerate(self.ids)}
        named = [field for field in self._block.fields if field.name in spec.actions.features]
        self._given = {field.name: self._mend(Block((field,)), spec.actions.features) for field in named}
        is_complete = bool(named) and len(named) == len(self._block.fields)
        self.features = self._block.encode(self._given, len(self.ids), Tally()) if is_complete else None
        self._blocks = [Block((field,)) for field in self._block.fields]
        self._encoded = {
            block.fields[0].name: block.encode(self._given, len(self.ids), Tally())
            for block in self._blocks
            if block.fields[0].name in self._given
        }

    def spell_out(self, columns: Columns) -> Columns:
        """Write out the whole table for requests that sent none, where the spec does not say all of its features."""
        if columns.actions is not None or self.features is not None or not self._block.fields:
            return columns
        lengths = np.full(columns.count, len(self.ids), dtype=np.int64)
        whole = TableColumns(lengths=lengths, ids=[self.ids] * columns.count, order=None, fields={})
        return replace(columns, actions=whole)

    def locate(self, actions: TableColumns) -> Places:
        """Return where each listed action stands among the spec's ids: int64 [N].

        Raises:
            UnableToEncode: an action is not among them.
        """
        try:
            return np.array([self._places[action] for row in actions.ids for action in row], dtype=np.int64)
        except KeyError:
            row, found = next((r, a) for r, ids in enumerate(actions.ids) for a in ids if a not in self._places)
            detail = f"actions.id must hold ids of the spec, found {shorten(found)}"
            raise UnableToEncode("out_of_range", detail, row=row) from None

    def encode(self, actions: TableColumns, places: Places, tally: Tally) -> NDArray[np.float64]:
        """Encode the listed actions' fields: float64 [N, F]; what was not sent is as the spec says."""
        if self.features is not None and not actions.fields:
            return self.features[places]
        if self._encoded.keys() <= actions.fields.keys():
            merged = {field.name: self._merge(field.name, actions, places) for field in self._block.fields}
            return self._block.encode(merged, len(places), tally, where="actions.")
        return np.hstack([self._encode_field(block, actions, places, tally) for block in self._blocks])

    def _encode_field(self, block: Block, actions: TableColumns, places: Places, tally: Tally) -> NDArray[np.float64]:
        """Encode one field of the listed actions; one that the spec alone gives was encoded before."""
        name = block.fields[0].name
        if name in self._encoded and name not in actions.fields:
            return self._encoded[name][places]
        return block.encode({name: self._merge(name, actions, places)}, len(places), tally, where="actions.")

    def _mend(self, block: Block, given: Mapping[str, Values]) -> list[Any]:
        """Return one feature of each action, brought within its bounds here: no request counts it as clipped."""
        field = block.fields[0]
        mended = block.encode(given, len(self.ids), Tally(), where="the spec's actions.features.")
        if field.is_category:
            return list(given[field.name])
        return list(mended.tolist()) if field.width > 1 else list(mended[:, 0].tolist())

    def _merge(self, name: str, actions: TableColumns, places: Places) -> Values:
        given, sent = self._given.get(name), actions.fields.get(name)
        if given is None:
            return [None] * len(places) if sent is None else sent
        assert sent is not None
        return [given[p] if v is None else v for p, v in zip(places.tolist(), _with_nulls(sent), strict=True)]


@final
class Tables:
    """The tables of one batch: encoded at once, laid out for any of its requests that share a padded size.

    Raises:
        UnableToEncode: an id, a value or an eligible matrix is not what it must be; `row` is the request.
    """

    def __init__(
        self, columns: Columns, *, actions: Block, slots: Block, fixed: FixedActions | None, tally: Tally
    ) -> None:
        if columns.eligible is not None and columns.actions is None:
            raise ValueError("eligible rows came without a table of actions")
        self._columns, self._fixed = columns, fixed
        self._action_starts, self._slot_starts = _starts(columns.actions), _starts(columns.slots)
        self._places: Places | None = None
        self._actions: NDArray[np.float64] | None = None
        self._slots: NDArray[np.float64] | None = None
        if columns.actions is not None:
            self._places = None if fixed is None else fixed.locate(columns.actions)
            if actions.fields:
                self._actions = self._encode_actions(columns.actions, actions, tally)
        if columns.slots is not None and slots.fields:
            self._slots = _encode_table(slots, columns.slots, tally, "slots")

    def actions(self, rows: Places, size: int) -> NDArray[np.float64] | None:
        """Return the action fields of some requests: float64 [B, A, F], zero where there is no action."""
        table = self._columns.actions
        if table is None or self._actions is None:
            features = None if self._fixed is None else self._fixed.features
            return None if features is None else np.tile(features, (len(rows), 1, 1))
        if self._places is None:
            return _lay_out(self._actions, table, self._action_starts, rows, size)
        padded = np.zeros((len(rows), size, self._actions.shape[1]))
        owners, listed = self._listed(table, rows)
        padded[owners, self._places[listed]] = self._actions[listed]
        return padded

    def slots(self, rows: Places, size: int) -> NDArray[np.float64] | None:
        """Return the slot fields of some requests: float64 [B, S, F], zero where there is no slot."""
        table = self._columns.slots
        if table is None or self._slots is None:
            return None
        return _lay_out(self._slots, table, self._slot_starts, rows, size)

    def mask(self, rows: Places, action_size: int, slot_size: int) -> NDArray[np.bool_]:
        """Return which actions are eligible in which slot of some requests: bool [B, S, A]."""
        cells = self._cells(rows, action_size)
        slots = self._columns.slots
        mask: NDArray[np.bool_] = cells[:, None, :]
        if slots is not None:
            mask = mask & (np.arange(slot_size) < slots.lengths[rows, None])[:, :, None]
        if self._columns.eligible is not None:
            for place, row in enumerate(rows.tolist()):
                if self._columns.eligible[row] is not None:
                    self._narrow(mask[place], row, self._columns.eligible[row])
        return mask

    def _cells(self, rows: Places, size: int) -> NDArray[np.bool_]:
        table = self._columns.actions
        if table is None:
            return np.ones((len(rows), size), dtype=bool)
        if self._places is None:
            return np.arange(size) < table.lengths[rows, None]
        cells = np.zeros((len(rows), size), dtype=bool)
        owners, listed = self._listed(table, rows)
        cells[owners, self._places[listed]] = True
        return cells

    def _encode_actions(self, table: TableColumns, block: Block, tally: Tally) -> NDArray[np.float64]:
        if self._fixed is None or self._places is None:
            return _encode_table(block, table, tally, "actions")
        try:
            return self._fixed.encode(table, self._places, tally)
        except UnableToEncode as error:
            raise of_request(error, table.lengths) from None

    def _listed(self, table: TableColumns, rows: Places) -> tuple[Places, Places]:
        """Return, for each listed action of some requests, which of them lists it and its place among all N."""
        lengths = table.lengths[rows]
        owners = np.repeat(np.arange(len(rows)), lengths)
        shift = self._action_starts[rows] - starts_of(lengths)
        return owners, np.arange(len(owners)) + shift[owners]

    def _narrow(self, mask: NDArray[np.bool_], row: int, sent: Any) -> None:
        """Narrow one request's mask [S, A] to the eligible matrix that it sent, brought into canonical order."""
        actions, slots = self._columns.actions, self._columns.slots
        assert actions is not None
        action_count, slot_count = int(actions.lengths[row]), 1 if slots is None else int(slots.lengths[row])
        matrix = _eligible_matrix(sent, (slot_count, action_count), row)
        if slots is not None:
            matrix = matrix[_order_within(slots, self._slot_starts, row)]
        matrix = matrix[:, _order_within(actions, self._action_starts, row)]
        start = self._action_starts[row]
        where = np.arange(action_count) if self._places is None else self._places[start : start + action_count]
        mask[:slot_count, where] &= matrix
        if not matrix.any(axis=1).all():
            detail = "actions.eligible must leave at least one action for each slot, found none"
            raise UnableToEncode("no_eligible_action", detail, row=row)


def _starts(table: TableColumns | None) -> Places:
    return np.zeros(0, dtype=np.int64) if table is None else starts_of(table.lengths)


def _order_within(table: TableColumns, starts: Places, row: int) -> Places | slice:
    """Return where one request's sorted rows stand among those it sent."""
    if table.order is None:
        return slice(None)
    start = starts[row]
    order: Places = table.order[start : start + table.lengths[row]] - start
    return order


def _encode_table(block: Block, table: TableColumns, tally: Tally, what: str) -> NDArray[np.float64]:
    """Encode a table end to end, float64 [N, F], in the order sent."""
    try:
        return block.encode(table.fields, int(table.lengths.sum()), tally, where=f"{what}.")
    except UnableToEncode as error:
        raise of_request(error, table.lengths) from None


def _lay_out(
    flat: NDArray[np.float64], table: TableColumns, starts: Places, rows: Places, size: int
) -> NDArray[np.float64]:
    """Pad some requests' rows to one size, in canonical order: [N, F] -> [B, size, F]."""
    lengths = table.lengths[rows]
    within = np.arange(size)
    source = np.minimum(starts[rows, None] + within, len(flat) - 1)
    padded: NDArray[np.float64] = flat[source if table.order is None else table.order[source]]
    if lengths.min() < size:
        padded[within >= lengths[:, None]] = 0.0
    return padded


def _eligible_matrix(rows: Any, shape: tuple[int, int], row: int) -> NDArray[np.bool_]:
    is_matrix = type(rows) is list and set(map(type, rows)) <= {list}
    if not is_matrix or not {type(cell) for cells in rows for cell in cells} <= {bool}:
        detail = f"actions.eligible must be lists of true and false, one per slot, found {shorten(rows)}"
        raise UnableToEncode("wrong_type", detail, row=row)
    if len(rows) != shape[0] or set(map(len, rows)) != {shape[1]}:
        found = f"{len(rows)} rows of {', '.join(map(str, sorted(set(map(len, rows)))))}"
        detail = f"actions.eligible must have {shape[0]} rows (slots) of {shape[1]} (actions), found {found}"
        raise UnableToEncode("unequal_columns", detail, row=row)
    return np.array(rows, dtype=bool)


def _with_nulls(values: Values) -> Sequence[Any]:
    """Return a column as a list; rows of NaN, which stand for null in an array, become None."""
    if not isinstance(values, np.ndarray):
        return values
    cells: list[Any] = values.tolist()
    if values.dtype.kind != "f":
        return cells
    for place in np.flatnonzero(np.isnan(values.reshape(len(values), -1)).all(axis=1)).tolist():
        cells[place] = None
    return cells
