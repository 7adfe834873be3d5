"""Rows of feedback as JSON: the columns of the Parquet log, one object per row, with the decision's source."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from policies.cells import Cells, cells_of, slot_places
from policies.events import Source
from policies.log import Feedback


def rows_of(feedback: Feedback, *, sources: Mapping[str, Source]) -> list[tuple[str, bytes]]:
    """Return the request's id and the JSON of each row, in the order of the feedback.

    Args:
        feedback: some rows; what is not a number is null.
        sources: where each request's decision was read, by request id.
    """
    columns = _columns(feedback)
    rows = zip(*columns.values(), strict=True)
    return [
        (request_id, msgspec.json.encode({**dict(zip(columns, row, strict=True)), "source": sources[request_id]}))
        for request_id, row in zip(feedback.request_ids, rows, strict=True)
    ]


def _columns(feedback: Feedback) -> dict[str, list[Any]]:
    count, spec = len(feedback), feedback.spec
    requests = feedback.request_rows.tolist()
    none = [None] * count
    columns: dict[str, list[Any]] = {
        "request_id": feedback.request_ids,
        "slot": feedback.slots,
        "time": feedback.times.tolist(),
        "unit": feedback.units,
        "unit_hash": feedback.unit_hashes.tolist(),
        "step": feedback.steps.tolist(),
    }
    for field in spec.on("request"):
        values = feedback.columns.request[field.name]
        columns[f"context_{field.name}"] = [_plain(values[request]) for request in requests]
    columns |= {**_action_columns(feedback), **_slot_columns(feedback)}
    columns |= {
        "action": list(feedback.actions),
        "action_value": none if feedback.action_values is None else _plain(feedback.action_values),
        "applied_action": list(feedback.applied_actions or none),
        "applied_value": none if feedback.applied_values is None else _plain(feedback.applied_values),
        "propensity": _plain(feedback.propensity),
        "probabilities": none if feedback.probabilities is None else _runs(feedback),
        "propensity_floor": _plain(feedback.propensity_floor),
    }
    for name, rewards in feedback.rewards.items():
        columns[f"reward_{name}"] = _plain(rewards)
        columns[f"status_{name}"] = feedback.statuses[name]
    return columns | {"policy": feedback.policies, "role": feedback.roles, "fallback": feedback.fallbacks}


def _action_columns(feedback: Feedback) -> dict[str, list[Any]]:
    if feedback.spec.is_quantity:
        return {}
    cells = cells_of(feedback)
    columns = {"eligible": _cut(cells.ids, cells)}
    table = feedback.columns.actions
    if table is not None and cells.places is not None:
        for field in feedback.spec.on("action"):
            if field.name in table.fields:
                values = table.fields[field.name]
                columns[f"action_{field.name}"] = _cut([_plain(values[at]) for at in cells.places.tolist()], cells)
    return columns


def _slot_columns(feedback: Feedback) -> dict[str, list[Any]]:
    table = feedback.columns.slots
    if table is None:
        return {}
    places = slot_places(feedback).tolist()
    return {
        f"slot_{field.name}": [None if at < 0 else _plain(table.fields[field.name][at]) for at in places]
        for field in feedback.spec.on("slot")
        if field.name in table.fields
    }


def _cut(values: list[Any], cells: Cells) -> list[Any]:
    ends = cells.lengths.cumsum().tolist()
    return [values[end - length : end] for end, length in zip(ends, cells.lengths.tolist(), strict=True)]


def _runs(feedback: Feedback) -> list[Any]:
    assert feedback.probabilities is not None
    lengths = feedback.probabilities.lengths
    values = feedback.probabilities.values.tolist()
    ends = lengths.cumsum().tolist()
    return [values[end - size : end] if size else None for end, size in zip(ends, lengths.tolist(), strict=True)]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: arrays as lists, what is not a number as null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
