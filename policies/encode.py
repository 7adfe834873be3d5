"""The one encoder: spec x columns -> the graph's inputs and the eligibility mask.

Values are checked against the spec's bounds and vocabularies and laid out as float64; normalization lives inside the
graph. Ragged tables are padded to the next power of two of that request alone, and requests of one padded size share
a bucket, so that what a request encodes to does not depend on its neighbors.
"""

# B request, F flat column, T step, W width, S slot, A action

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.columns import Columns, TableColumns, UnableToEncode, columns_of
from policies.events import DecisionRequest, Fault
from policies.spec import PolicySpec
from policies.tables import FixedActions, Tables
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
    """Encode columns by one spec.

    Raises:
        UnableToEncode: the spec's own action features are not what its fields say.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self._flat = Block(spec.flat_fields)
        self._sequences = [(field, Block((field,))) for field in spec.sequence_fields]
        self._actions = Block(spec.on("action"))
        self._slots = Block(spec.on("slot"))
        self._fixed = None if spec.actions.ids is None else FixedActions(spec)

    def encode_requests(self, requests: Sequence[DecisionRequest]) -> Encoded:
        """Encode requests; refused ones are told apart by halving, so that their neighbors are decided."""
        if not requests:
            return Encoded(buckets=(), faults={}, clipped=0, filled=0)
        try:
            return self.encode(columns_of(requests, spec=self.spec))
        except UnableToEncode as error:
            if len(requests) == 1:
                return Encoded(buckets=(), faults={0: error.fault}, clipped=0, filled=0)
        half = len(requests) // 2
        return _join(self.encode_requests(requests[:half]), self.encode_requests(requests[half:]), half)

    def encode(self, columns: Columns) -> Encoded:
        """Encode a batch in which every row must be sound.

        Raises:
            UnableToEncode: some row is not; the message names the field and what was expected, `row` the request.
        """
        tally = Tally()
        arrays = self._encode_request(columns, tally)
        if self._fixed is not None:
            columns = self._fixed.spell_out(columns)
        tables = Tables(columns, actions=self._actions, slots=self._slots, fixed=self._fixed, tally=tally)
        ids = None if columns.actions is None or self._fixed is not None else columns.actions.ids
        groups = self._groups(columns).items()
        buckets = tuple(_bucket(columns, arrays, tables, key, rows, ids) for key, rows in groups)
        return Encoded(buckets=buckets, faults={}, clipped=tally.clipped, filled=tally.filled)

    def _encode_request(self, columns: Columns, tally: Tally) -> Arrays:
        arrays: Arrays = {}
        if self._flat.fields:
            arrays["request"] = self._flat.encode(columns.request, columns.count, tally)
        for field, block in self._sequences:
            values = columns.request.get(field.name, [None] * columns.count)
            sequence, length = encode_sequence(field, block, values, tally)
            arrays[f"sequence_{field.name}"], arrays[f"length_{field.name}"] = sequence, length
        return arrays

    def _groups(self, columns: Columns) -> dict[tuple[int, int], list[int]]:
        """Return the requests of each padded (number of actions, number of slots); fixed ids are never padded."""
        width = 1 if self._fixed is None else len(self._fixed.ids)
        actions = None if self._fixed is not None else columns.actions
        if actions is None and columns.slots is None:
            return {(width, 1): list(range(columns.count))}
        groups: dict[tuple[int, int], list[int]] = {}
        sizes = zip(_padded(actions, columns.count, width), _padded(columns.slots, columns.count, 1), strict=True)
        for row, key in enumerate(sizes):
            groups.setdefault(key, []).append(row)
        return groups


def _bucket(
    columns: Columns,
    arrays: Arrays,
    tables: Tables,
    key: tuple[int, int],
    chosen: list[int],
    action_ids: list[list[str]] | None,
) -> Bucket:
    """Gather the chosen requests, whose tables all have the padded size (actions, slots)."""
    rows = np.array(chosen, dtype=np.int64)
    is_all = len(chosen) == columns.count
    picked = dict(arrays) if is_all else {name: array[rows] for name, array in arrays.items()}
    for name, table in (("actions", tables.actions(rows, key[0])), ("slots", tables.slots(rows, key[1]))):
        if table is not None:
            picked[name] = table
    return Bucket(
        rows=rows,
        arrays=picked,
        mask=tables.mask(rows, *key),
        action_ids=None if action_ids is None else [action_ids[row] for row in chosen],
        slot_ids=None if columns.slots is None else [columns.slots.ids[row] for row in chosen],
    )


def _padded(table: TableColumns | None, count: int, otherwise: int) -> list[int]:
    """Return the next power of two of each length of a table, or the same size for all `count`.

    >>> from policies.columns import table_of
    >>> _padded(table_of([["a"], ["a", "b", "c"]], fields={}), 2, 8), _padded(None, 2, 8)
    ([1, 4], [8, 8])
    """
    return [otherwise] * count if table is None else [1 << (n - 1).bit_length() for n in table.lengths.tolist()]


def _join(left: Encoded, right: Encoded, shift: int) -> Encoded:
    """Put two halves of a batch together; the right one's rows begin at `shift`."""
    moved = tuple(replace(bucket, rows=bucket.rows + shift) for bucket in right.buckets)
    return Encoded(
        buckets=left.buckets + moved,
        faults={**left.faults, **{row + shift: fault for row, fault in right.faults.items()}},
        clipped=left.clipped + right.clipped,
        filled=left.filled + right.filled,
    )
