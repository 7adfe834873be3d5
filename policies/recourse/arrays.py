"""Checked access to the arrays of `recourse.npz`: the shape and kind that a recourse needs, or a named refusal."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.recourse.contract import RecourseRefused


def floats(arrays: Mapping[str, NDArray[Any]], name: str, size: int | None = None) -> NDArray[np.float64]:
    """Return the array `name` as float64 [size]; infinities pass, NaN does not.

    Raises:
        RecourseRefused: it is absent, not a vector of numbers, of another length, or holds NaN.
    """
    values = _vector(arrays, name, "fiu", size).astype(np.float64)
    if np.isnan(values).any():
        raise RecourseRefused(
            f"recourse array {name!r}: expected numbers, found NaN at {int(np.isnan(values).argmax())}"
        )
    return values


def integers(
    arrays: Mapping[str, NDArray[Any]], name: str, size: int | None = None, *, below: int
) -> NDArray[np.int32]:
    """Return the array `name` as int32 [size] within [0, below).

    Raises:
        RecourseRefused: it is absent, not a vector of integers, of another length, or leaves the range.
    """
    values = _vector(arrays, name, "iu", size)
    if values.size and not (values.min() >= 0 and values.max() < below):
        raise RecourseRefused(
            f"recourse array {name!r}: expected integers in [0, {below}), found {values.min()} to {values.max()}"
        )
    return values.astype(np.int32)


def words(arrays: Mapping[str, NDArray[Any]], name: str, size: int | None = None) -> tuple[str, ...]:
    """Return the array `name` as a tuple of texts.

    Raises:
        RecourseRefused: it is absent, not a vector of texts, or of another length.
    """
    return tuple(str(word) for word in _vector(arrays, name, "U", size))


def word(arrays: Mapping[str, NDArray[Any]], name: str) -> str:
    """Return the array `name`, a single text of shape ().

    Raises:
        RecourseRefused: it is absent or not one text.
    """
    value = _present(arrays, name)
    if value.dtype.kind != "U" or value.shape != ():
        raise RecourseRefused(f"recourse array {name!r}: expected one text, found {value.dtype} of shape {value.shape}")
    return str(value)


def _vector(arrays: Mapping[str, NDArray[Any]], name: str, kinds: str, size: int | None) -> NDArray[Any]:
    value = _present(arrays, name)
    if value.dtype.kind not in kinds or value.ndim != 1 or (size is not None and value.size != size):
        expected = f"a vector of {'any length' if size is None else size} and kind {'/'.join(kinds)}"
        raise RecourseRefused(
            f"recourse array {name!r}: expected {expected}, found {value.dtype} of shape {value.shape}"
        )
    return value


def _present(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in arrays:
        raise RecourseRefused(f"recourse array {name!r} is absent; found {', '.join(sorted(arrays)) or 'none'}")
    return arrays[name]
