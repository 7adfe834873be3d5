"""The one encoder: spec x columns -> the graph's inputs and the eligibility mask.

Values are checked against the spec's bounds and vocabularies and laid out as float64; normalization lives inside the
graph. Ragged tables are padded to the next power of two of that request alone, and requests of one padded size share
a bucket, so that what a request encodes to does not depend on its neighbors.
"""

# B request, F flat column, T step, W width, S slot, A action, N values of all rows end to end

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.columns import Columns, TableColumns, UnableToEncode, Values, columns_of
from policies.events import DecisionRequest, Fault
from policies.spec import PolicySpec
from policies.values import Block, Tally, encode_sequence

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Hold the encoded requests of one padded size.

    `rows` are their places in the batch, int64 [B]; `arrays` the graph's inputs but the mask; `mask` bool [B, S, A]
    (a quantity's is [B, 1, 1]); `action_ids` and `slot_ids` are in canonical order, None where the spec fixes them.
    """

    rows: NDArray[np.int64]
    arrays: Arrays
    mask: NDArray[np.bool_]
    action_ids: list[list[str]] | None
    slot_ids: list[list[str]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Hold a batch: its buckets, the rows that were refused and why, and how many values were clipped or filled."""

    buckets: tuple[Bucket, ...]
    faults: dict[int, Fault]
    clipped: int
    filled: int


class Encoder:
    """Encode columns by one spec."""

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self._flat = Block(spec.flat_fields)
        self._sequences = [(field, Block((field,))) for field in spec.sequence_fields]
        self._actions = Block(spec.on("action"))
        self._slots = Block(spec.on("slot"))
        ids = spec.actions.ids
        self._places = None if ids is None else {action: place for place, action in enumerate(ids)}
        self._fixed = self._encode_fixed()

    def encode_requests(self, requests: Sequence[DecisionRequest]) -> Encoded:
        """Encode requests; refused ones are told apart by halving, so that their neighbors are decided."""
        return self._encode_part(requests, np.arange(len(requests)))

    def encode(self, columns: Columns) -> Encoded:
        """Encode a batch in which every row must be sound.

        Raises:
            UnableToEncode: some row is not; the message names the field and what was expected.
        """
        tally = Tally()
        arrays = self._encode_request(columns, tally)
        sizes = self._sizes(columns)
        if columns.actions is None and columns.slots is None:
            buckets: tuple[Bucket, ...] = (self._plain_bucket(columns, arrays),)
        else:
            flat = _Tables(self, columns, tally)
            keys = sizes.tolist()
            groups = dict.fromkeys(map(tuple, keys))
            buckets = tuple(flat.bucket(arrays, key, (sizes == key).all(axis=1)) for key in groups)
        for bucket in buckets:
            _refuse_ineligible(bucket)
        return Encoded(buckets=buckets, faults={}, clipped=tally.clipped, filled=tally.filled)

    def _encode_part(self, requests: Sequence[DecisionRequest], rows: NDArray[np.int64]) -> Encoded:
        if not len(rows):
            return Encoded(buckets=(), faults={}, clipped=0, filled=0)
        try:
            part = self.encode(columns_of([requests[row] for row in rows.tolist()], spec=self.spec))
        except UnableToEncode as error:
            if len(rows) == 1:
                return Encoded(buckets=(), faults={int(rows[0]): error.fault}, clipped=0, filled=0)
            half = len(rows) // 2
            return _join(self._encode_part(requests, rows[:half]), self._encode_part(requests, rows[half:]))
        return _renumber(part, rows)

    def _encode_request(self, columns: Columns, tally: "Tally") -> Arrays:
        arrays: Arrays = {}
        if self._flat.fields:
            arrays["request"] = self._flat.encode(columns.request, columns.count, tally)
        for field, block in self._sequences:
            sequence, length = encode_sequence(field, block, columns.request[field.name], tally)
            arrays[f"sequence_{field.name}"], arrays[f"length_{field.name}"] = sequence, length
        return arrays

    def _sizes(self, columns: Columns) -> NDArray[np.int64]:
        """Return each request's padded numbers of actions and slots: int64 [B, 2]; fixed ids are never padded."""
        ones = np.ones(columns.count, dtype=np.int64)
        if self._places is not None:
            actions = ones * len(self._places)
        else:
            actions = ones if columns.actions is None else _padded(columns.actions.lengths)
        slots = ones if columns.slots is None else _padded(columns.slots.lengths)
        return np.stack([actions, slots], axis=1)

    def _plain_bucket(self, columns: Columns, arrays: Arrays) -> Bucket:
        """Make the one bucket of requests without tables: every fixed id is eligible."""
        count = columns.count
        width = 1 if self._places is None else len(self._places)
        if self._actions.fields and self._places is not None:
            fixed = self._require_fixed()
            arrays["actions"] = np.broadcast_to(fixed, (count, *fixed.shape)).copy()
        mask = np.ones((count, 1, width), dtype=bool)
        if columns.eligible is not None:
            raise ValueError("eligible rows came without a table of actions")
        return Bucket(rows=np.arange(count), arrays=arrays, mask=mask, action_ids=None, slot_ids=None)

    def _encode_fixed(self) -> NDArray[np.float64] | None:
        """Encode the spec's own action features, float64 [A, Fa]; None where some must be sent."""
        features, ids = self.spec.actions.features, self.spec.actions.ids
        if ids is None or any(field.name not in features for field in self._actions.fields):
            return None
        return self._actions.encode(features, len(ids), Tally())

    def _require_fixed(self) -> NDArray[np.float64]:
        if self._fixed is None:
            names = [f.name for f in self._actions.fields if f.name not in self.spec.actions.features]
            raise UnableToEncode("missing_field", f"actions.{names[0]} is neither in the spec nor in the request")
        return self._fixed


class _Tables:
    """The ragged tables of one batch, encoded end to end and laid out bucket by bucket."""

    def __init__(self, encoder: Encoder, columns: Columns, tally: "Tally") -> None:
        self.encoder, self.columns = encoder, columns
        self.places = self._locate_fixed()
        self.actions = self._encode_actions(tally)
        slots = columns.slots
        self.slots = None if slots is None else _encode_table(encoder._slots, slots, tally, "slots")

    def bucket(self, arrays: Arrays, key: tuple[int, int], chosen: NDArray[np.bool_]) -> Bucket:
        rows = np.flatnonzero(chosen)
        picked = {name: array if chosen.all() else array[rows] for name, array in arrays.items()}
        actions, slots = self.columns.actions, self.columns.slots
        action_count, slot_count = key
        if self.encoder._actions.fields:
            picked["actions"] = self._lay_actions(chosen, action_count)
        if slots is not None and self.slots is not None and self.encoder._slots.fields:
            picked["slots"] = _lay_out(self.slots, slots.lengths, chosen, slot_count)
        return Bucket(
            rows=rows,
            arrays=picked,
            mask=self._mask(rows, action_count, slot_count),
            action_ids=None if actions is None or self.places is not None else [actions.ids[r] for r in rows.tolist()],
            slot_ids=None if slots is None else [slots.ids[r] for r in rows.tolist()],
        )

    def _locate_fixed(self) -> NDArray[np.int64] | None:
        """Return where each listed action stands among the spec's ids, int64 [N]; None for own actions."""
        known, actions = self.encoder._places, self.columns.actions
        if known is None or actions is None:
            return None
        try:
            return np.array([known[action] for row in actions.ids for action in row], dtype=np.int64)
        except KeyError as error:
            raise UnableToEncode("out_of_range", f"action {error.args[0]!r} is not among the spec's ids") from error

    def _encode_actions(self, tally: "Tally") -> NDArray[np.float64] | None:
        actions, block = self.columns.actions, self.encoder._actions
        if actions is None or not block.fields:
            return None
        if self.places is None:
            return _encode_table(block, actions, tally, "actions")
        sent = {f.name: actions.fields[f.name] for f in block.fields if f.name in actions.fields}
        if not sent:
            return self.encoder._require_fixed()[self.places]
        features = {name: [v[p] for p in self.places] for name, v in self.encoder.spec.actions.features.items()}
        merged = {name: _prefer(values, features.get(name)) for name, values in {**features, **sent}.items()}
        return block.encode(merged, int(actions.lengths.sum()), tally, where="actions.")

    def _lay_actions(self, chosen: NDArray[np.bool_], action_count: int) -> NDArray[np.float64]:
        actions = self.columns.actions
        if actions is None or self.actions is None:
            fixed = self.encoder._require_fixed()
            return np.broadcast_to(fixed, (int(chosen.sum()), *fixed.shape)).copy()
        return _lay_out(self.actions, actions.lengths, chosen, action_count, places=self.places)

    def _mask(self, rows: NDArray[np.int64], action_count: int, slot_count: int) -> NDArray[np.bool_]:
        actions, slots, eligible = self.columns.actions, self.columns.slots, self.columns.eligible
        if actions is None:
            cells = np.ones((len(rows), action_count), dtype=bool)
        elif self.places is None:
            cells = np.arange(action_count) < actions.lengths[rows, None]
        else:
            ones = np.ones((len(self.places), 1))
            chosen = np.isin(np.arange(self.columns.count), rows)
            cells = _lay_out(ones, actions.lengths, chosen, action_count, places=self.places)[:, :, 0] > 0
        present = np.ones((len(rows), 1), bool) if slots is None else np.arange(slot_count) < slots.lengths[rows, None]
        mask: NDArray[np.bool_] = present[:, :, None] & cells[:, None, :]
        for place, row in enumerate(rows.tolist()):
            if eligible is not None and eligible[row] is not None:
                self._apply_eligible(mask[place], row)
        return mask

    def _apply_eligible(self, mask: NDArray[np.bool_], row: int) -> None:
        """Narrow one request's mask [S, A] to the eligible matrix it sent, brought into canonical order."""
        actions, slots, eligible = self.columns.actions, self.columns.slots, self.columns.eligible
        assert actions is not None and eligible is not None
        shape = (1 if slots is None else int(slots.lengths[row]), int(actions.lengths[row]))
        matrix = _eligible_matrix(eligible[row], shape, row)
        if slots is not None and slots.order is not None:
            matrix = matrix[_order_of(slots, row)]
        if actions.order is not None:
            matrix = matrix[:, _order_of(actions, row)]
        where = np.arange(shape[1])
        if self.places is not None:
            start = int(actions.lengths[:row].sum())
            where = self.places[start : start + shape[1]]
        mask[: shape[0], where] &= matrix


def _encode_table(block: Block, table: TableColumns, tally: Tally, what: str) -> NDArray[np.float64]:
    """Encode a table end to end, float64 [N, width], each request's rows in canonical order."""
    flat = block.encode(table.fields, int(table.lengths.sum()), tally, where=f"{what}.")
    return flat if table.order is None else flat[table.order]


def _lay_out(
    flat: NDArray[np.float64],
    lengths: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    size: int,
    *,
    places: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Pad the chosen requests' rows to one size: [N, W] -> [B, size, W], each row at its place."""
    picked = lengths[chosen]
    padded = np.zeros((len(picked), size, flat.shape[1]))
    part = flat if chosen.all() else flat[np.repeat(chosen, lengths)]
    if places is None:
        padded[np.arange(size) < picked[:, None]] = part
    else:
        owner = np.repeat(np.arange(len(picked)), picked)
        padded[owner, places if chosen.all() else places[np.repeat(chosen, lengths)]] = part
    return padded


def _padded(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the next power of two of each length.

    >>> _padded(np.array([1, 2, 3, 64, 65])).tolist()
    [1, 2, 4, 64, 128]
    """
    return np.array([1 << (length - 1).bit_length() for length in lengths.tolist()], dtype=np.int64)


def _eligible_matrix(rows: Any, shape: tuple[int, int], row: int) -> NDArray[np.bool_]:
    is_matrix = isinstance(rows, list) and all(isinstance(r, list) for r in rows)
    if not is_matrix or any(type(cell) is not bool for r in rows for cell in r):
        raise UnableToEncode("wrong_type", "actions.eligible must be lists of true and false, one per slot", row=row)
    if len(rows) != shape[0] or any(len(r) != shape[1] for r in rows):
        detail = f"actions.eligible must have {shape[0]} rows (slots) of {shape[1]} (actions)"
        raise UnableToEncode("unequal_columns", detail, row=row)
    return np.array(rows, dtype=bool)


def _order_of(table: TableColumns, row: int) -> NDArray[np.int64]:
    start, length = int(table.lengths[:row].sum()), int(table.lengths[row])
    assert table.order is not None
    return table.order[start : start + length] - start


def _refuse_ineligible(bucket: Bucket) -> None:
    """Refuse a batch in which some real slot has no eligible action."""
    served = bucket.mask.any(axis=2)
    counts = np.ones(len(bucket.rows), int) if bucket.slot_ids is None else np.array([len(s) for s in bucket.slot_ids])
    short = served.sum(axis=1) < counts
    if short.any():
        raise UnableToEncode("no_eligible_action", "no action is eligible", row=int(bucket.rows[short.argmax()]))


def _prefer(values: Values, features: list[Any] | None) -> list[Any]:
    if features is None:
        return list(values)
    return [feature if value is None else value for value, feature in zip(values, features, strict=True)]


def _renumber(part: Encoded, rows: NDArray[np.int64]) -> Encoded:
    if len(rows) == 0 or (rows[-1] - rows[0] + 1 == len(rows) and rows[0] == 0):
        return part
    buckets = tuple(
        Bucket(rows=rows[b.rows], arrays=b.arrays, mask=b.mask, action_ids=b.action_ids, slot_ids=b.slot_ids)
        for b in part.buckets
    )
    return Encoded(buckets=buckets, faults=part.faults, clipped=part.clipped, filled=part.filled)


def _join(left: Encoded, right: Encoded) -> Encoded:
    return Encoded(
        buckets=left.buckets + right.buckets,
        faults={**left.faults, **right.faults},
        clipped=left.clipped + right.clipped,
        filled=left.filled + right.filled,
    )
