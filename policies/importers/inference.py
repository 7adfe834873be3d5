"""What a log without a spec says of itself: fields, bounds and vocabularies, from its training part alone."""

# N row, W component

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from policies.log import Numbers, Places, time_order
from policies.spec import Axis, Field

_SLUG: Final = re.compile(r"[^a-z0-9_-]+")


def domain_of(name: str) -> str:
    """Return a domain's name made of a file's.

    >>> domain_of("Pen Digits.v2")
    'pen-digits-v2'
    """
    return _SLUG.sub("-", name.lower()).strip("-_") or "log"


def training_rows(times: Places, request_ids: Sequence[str], *, train_share: float | None) -> Places:
    """Return the rows whose values may be looked at, int64: the first share by time, or all without a share."""
    order = time_order(times, request_ids)
    return order if train_share is None else order[: max(1, round(len(order) * train_share))]


def number_field(name: str, values: Numbers, *, rows: Places, axis: Axis = "request", units: str = "") -> Field:
    """Describe a column of numbers, float64 [N] or [N, W], by the bounds of its training rows.

    Where values are missing (NaN) anywhere, the training rows' mean stands for them.
    """
    seen = values[rows].reshape(len(rows), -1)
    lower, upper, middle = (_over_rows(reduce, seen) for reduce in (np.min, np.max, np.mean))
    is_vector = values.ndim == 2
    return Field(
        name=name,
        units=units,
        axis=axis,
        width=values.shape[1] if is_vector else 1,
        lower=lower if is_vector else lower[0],
        upper=upper if is_vector else upper[0],
        outside="clip",
        missing=("refuse" if not np.isnan(values).any() else middle if is_vector else middle[0]),
    )


def _over_rows(reduce: Any, seen: Numbers) -> tuple[float, ...]:
    """Reduce each component over the rows that have it; zero where none has."""
    found = [column[~np.isnan(column)] for column in seen.T]
    return tuple(float(reduce(column)) if len(column) else 0.0 for column in found)


def category_field(name: str, values: NDArray[np.object_], *, rows: Places, axis: Axis = "request") -> Field:
    """Describe a column of texts, object [N], by the words of its training rows; a null reads as an unseen word."""
    words = {value for value in values[rows].tolist() if value is not None}
    has_nulls = any(value is None for value in values.tolist())
    return Field(
        name=name,
        axis=axis,
        vocabulary=tuple(sorted(words)),
        outside="clip",
        missing="" if has_nulls else "refuse",
    )


def infer_field(name: str, values: NDArray[Any], *, rows: Places) -> Field:
    """Describe a column: texts are a category, everything else numbers."""
    if values.dtype == object:
        return category_field(name, values, rows=rows)
    return number_field(name, values, rows=rows)


def action_ids(actions: Places, *, count: int = 0) -> tuple[str, ...]:
    """Return the ids of actions that are numbered from 0: as many as are seen, at least `count`.

    >>> action_ids(np.array([0, 2]))
    ('0', '1', '2')
    """
    return tuple(str(action) for action in range(max(count, int(actions.max()) + 1)))
