"""Which action rows each logged choice could take, in canonical order: eligible ones only, one run per row."""

# N row, V eligible actions of all rows end to end

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from policies.columns import TableColumns, starts_of
from policies.log import Feedback, Places, segments
from policies.spec import PolicySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Hold the eligible actions of all rows: lengths int64 [N], ids [V], and their places in the actions' columns.

    `places` are int64 [V]; None where the actions are the spec's and no column was sent.
    """

    lengths: Places
    ids: list[str]
    places: Places | None


def cells_of(feedback: Feedback) -> Cells:
    """Return each row's eligible actions in canonical order; a row of a whole request has none."""
    table, spec = feedback.columns.actions, feedback.spec
    rows = feedback.request_rows
    if table is None:
        ids = list(spec.actions.ids or ())
        sizes = np.where(_is_whole(feedback), 0, len(ids))
        return Cells(lengths=sizes, ids=ids * int((sizes > 0).sum()), places=None)
    order, flat_ids = _canonical(table, spec)
    lengths = table.lengths[rows]
    places = segments(table.lengths, rows)
    keep = _eligible(feedback, table, order)
    lengths = np.add.reduceat(np.append(keep, 0), starts_of(lengths)) if len(lengths) else lengths
    kept = places[keep]
    return Cells(lengths=lengths, ids=[flat_ids[place] for place in kept.tolist()], places=order[kept])


def slot_places(feedback: Feedback) -> Places:
    """Return where each row's slot stands in the slots' columns, int64 [N]; -1 for a whole request."""
    table = feedback.columns.slots
    assert table is not None
    starts = starts_of(table.lengths).tolist()
    places = []
    for request, slot in zip(feedback.request_rows.tolist(), feedback.slots, strict=True):
        place = starts[request] + table.ids[request].index(slot) if slot else -1
        places.append(place if table.order is None or place < 0 else int(table.order[place]))
    return np.array(places, dtype=np.int64)


def _is_whole(feedback: Feedback) -> NDArray[np.bool_]:
    if not feedback.spec.has_slots:
        return np.zeros(len(feedback), dtype=bool)
    return np.fromiter((not slot for slot in feedback.slots), dtype=bool, count=len(feedback))


def _canonical(table: TableColumns, spec: PolicySpec) -> tuple[Places, list[str]]:
    """Return where each request's actions in canonical order stand in the columns as sent, int64, and their ids."""
    total = int(table.lengths.sum())
    if spec.actions.ids is None:
        order = np.arange(total) if table.order is None else table.order
        return order, list(chain.from_iterable(table.ids))
    known = {action: place for place, action in enumerate(spec.actions.ids)}
    within = [sorted(range(len(ids)), key=lambda at, ids=ids: known[ids[at]]) for ids in table.ids]  # type: ignore[misc]
    starts = np.repeat(starts_of(table.lengths), table.lengths)
    ids = [row[at] for row, places in zip(table.ids, within, strict=True) for at in places]
    return np.fromiter(chain.from_iterable(within), np.int64, total) + starts, ids


def _eligible(feedback: Feedback, table: TableColumns, order: Places) -> NDArray[np.bool_]:
    """Say for each action of each row, in canonical order, whether the row may take it: bool."""
    rows = feedback.request_rows
    keep = np.repeat(~_is_whole(feedback), table.lengths[rows])
    sent = feedback.columns.eligible
    if sent is None:
        return keep
    slots = None if feedback.columns.slots is None else slot_places(feedback)
    slot_starts = None if feedback.columns.slots is None else starts_of(feedback.columns.slots.lengths)
    starts = starts_of(table.lengths)
    at = 0
    for row, request in enumerate(rows.tolist()):
        length, matrix = int(table.lengths[request]), sent[request]
        if matrix is not None and (slots is None or slots[row] >= 0):
            slot = 0 if slots is None or slot_starts is None else int(slots[row] - slot_starts[request])
            start = starts[request]
            keep[at : at + length] = np.array(matrix[slot], dtype=bool)[order[start : start + length] - start]
        at += length
    return keep
