"""Check and lay out the values of fields: numbers, categories, vectors and sequences, by the spec.

A value outside its bounds is refused or clipped, a null is refused or filled, as the field says; what was mended is
counted. Sound values take a short way (one pack for a whole block); whatever it stumbles over goes the long way, value
by value, which either mends it or says which one is wrong.
"""

# B request, T step, W width, N values of all rows end to end

import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.columns import UnableToEncode, Values
from policies.events import Reason, shorten
from policies.spec import BOUND_TOLERANCE, Field, column_names

_FEW = 256  # below this many values, looking at each one's type costs less than numpy's fixed cost


@dataclass(slots=True)
class Tally:
    """Counts the values that were mended."""

    clipped: int = 0
    filled: int = 0


class Block:
    """A run of fields encoded side by side into one float64 matrix [N, total width]."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self.lower = np.array([low for field in fields for low in field.lowers], dtype=np.float64)
        self.upper = np.array([high for field in fields for high in field.uppers], dtype=np.float64)
        margin = BOUND_TOLERANCE * (self.upper - self.lower)
        refuses = np.array([f.outside == "refuse" and not f.is_category for f in fields for _ in range(f.width)], bool)
        self._least = np.where(refuses, self.lower - margin, -np.inf)
        self._most = np.where(refuses, self.upper + margin, np.inf)
        self._codes = [None if f.vocabulary is None else _codes(f.vocabulary) for f in fields]
        self._has_vectors = any(field.width > 1 for field in fields)

    def encode(
        self, columns: Mapping[str, Values], count: int, tally: Tally, *, where: str = "fields."
    ) -> NDArray[np.float64]:
        """Check and lay out the named columns: float64 [count, total width], within the bounds.

        A column that is absent is one of nulls.

        Raises:
            UnableToEncode: a value is not what its field says; `row` is its place among the `count`.
        """
        matrix = self._pack(columns, count)
        if matrix is None:
            matrix = self._convert(columns, count, tally, where)
        return self._bound(matrix, tally, where)

    def _pack(self, columns: Mapping[str, Values], count: int) -> NDArray[np.float64] | None:
        """Lay out lists of sound values at one stroke; None where any value needs a closer look."""
        packed: list[bytes] = []
        for field, codes in zip(self.fields, self._codes, strict=True):
            column = columns.get(field.name)
            if type(column) is not list:
                return None
            part = _pack(column, field, codes)
            if part is None:
                return None
            packed.append(part)
        return self._arrange(np.frombuffer(b"".join(packed)), count) if count else None

    def _arrange(self, numbers: NDArray[np.float64], count: int) -> NDArray[np.float64]:
        """Turn the fields' values, field after field, into float64 [count, total width]."""
        if count == 1 or len(self.fields) == 1:
            return numbers.reshape(count, -1)
        if not self._has_vectors:
            return np.ascontiguousarray(numbers.reshape(-1, count).T)
        ends = np.cumsum([field.width * count for field in self.fields])[:-1]
        return np.hstack([part.reshape(count, -1) for part in np.split(numbers, ends)])

    def _convert(self, columns: Mapping[str, Values], count: int, tally: Tally, where: str) -> NDArray[np.float64]:
        matrix = np.empty((count, len(self.lower)), dtype=np.float64)
        at = 0
        for field, codes in zip(self.fields, self._codes, strict=True):
            column = columns.get(field.name)
            values = [None] * count if column is None else column
            matrix[:, at : at + field.width] = _encode_values(field, codes, values, tally, f"{where}{field.name}")
            at += field.width
        return matrix

    def _bound(self, matrix: NDArray[np.float64], tally: Tally, where: str) -> NDArray[np.float64]:
        """Refuse what is not finite or out of range, clip what the spec lets clip."""
        inside = (matrix >= self.lower) & (matrix <= self.upper)
        if inside.all():
            return matrix
        finite = np.isfinite(matrix)
        if not finite.all():
            raise self._refused(matrix, ~finite, "not_finite", where)
        outside = (matrix < self._least) | (matrix > self._most)
        if outside.any():
            raise self._refused(matrix, outside, "out_of_range", where)
        tally.clipped += int((~inside).sum())
        return np.clip(matrix, self.lower, self.upper)

    def _refused(
        self, matrix: NDArray[np.float64], bad: NDArray[np.bool_], reason: Reason, where: str
    ) -> UnableToEncode:
        row, column = (int(i) for i in np.argwhere(bad)[0])
        low, high, found = (float(x) for x in (self.lower[column], self.upper[column], matrix[row, column]))
        name = column_names(self.fields)[column]
        return UnableToEncode(
            reason, f"{where}{name} must be a finite number in [{low:g}, {high:g}], found {found!r}", row=row
        )


def encode_sequence(
    field: Field, block: Block, values: Values, tally: Tally
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lay sequences out right-aligned, float64 [B, T, W], with their lengths, float64 [B].

    Of a sequence with more than `steps` steps the oldest are left out. A null sequence is refused or, where the field
    says what fills a missing value, one without steps.

    Raises:
        UnableToEncode: a value is not what its field says; `row` is its place among the B.
    """
    assert field.steps is not None
    tails = [_tail(field, field.steps, value, row, tally) for row, value in enumerate(values)]
    lengths = np.fromiter(map(len, tails), dtype=np.int64, count=len(tails))
    flat = [step for tail in tails for step in tail]
    try:
        numbers = block.encode({field.name: flat}, len(flat), tally)
    except UnableToEncode as error:
        raise of_request(error, lengths) from None
    steps = np.zeros((len(tails), field.steps, field.width))
    steps[np.arange(field.steps) >= field.steps - lengths[:, None]] = numbers
    return steps, lengths.astype(np.float64)


def of_request(error: UnableToEncode, lengths: NDArray[np.int64]) -> UnableToEncode:
    """Return the error with its request's place, where it counted all requests' values end to end."""
    if error.row is None:
        return error
    row = int(np.searchsorted(np.cumsum(lengths), error.row, side="right"))
    return UnableToEncode(error.fault.reason, error.fault.detail, row=row)


def _codes(vocabulary: tuple[str, ...]) -> dict[str, int]:
    return {word: code for code, word in enumerate(vocabulary, start=1)}


def _pack(column: list[Any], field: Field, codes: dict[str, int] | None) -> bytes | None:
    """Return a column's values as float64, one after the other, or None where one needs a closer look."""
    try:
        if codes is not None:
            "".join(column)  # refuses whatever is not text, in a fifth of the time of looking at each type
            return struct.pack(f"{len(column)}d", *[codes.get(word, 0) for word in column])
        if field.width > 1:
            if set(map(type, column)) != {list} or set(map(len, column)) != {field.width}:
                return None
            pack = struct.Struct(f"{field.width}d").pack
            data = b"".join([pack(*vector) for vector in column])
        else:
            data = struct.pack(f"{len(column)}d", *column)
    except (TypeError, struct.error, OverflowError):
        return None
    return None if _holds_bool(column, data, field.width) else data


def _holds_bool(column: list[Any], data: bytes, width: int) -> bool:
    """Say whether a bool slipped in as a number; only 0 and 1 can have been one."""
    if len(column) * width <= _FEW:
        return bool in set(map(type, column if width == 1 else chain.from_iterable(column)))
    numbers = np.frombuffer(data)
    suspects = np.flatnonzero((numbers == 0) | (numbers == 1)).tolist()
    if width == 1:
        return bool in {type(column[place]) for place in suspects}
    return bool in {type(column[place // width][place % width]) for place in suspects}


def _encode_values(
    field: Field, codes: dict[str, int] | None, values: Values, tally: Tally, where: str
) -> NDArray[np.float64]:
    """Turn one column into float64 [N, width], value by value; a null is filled or refused."""
    if isinstance(values, np.ndarray):
        if codes is None and values.dtype.kind in "fiu":
            return _array_numbers(field, values, tally, where)
        values = values.tolist()
    whole = [value if value is not None else _fill(field, row, tally, where) for row, value in enumerate(values)]
    if codes is not None:
        _refuse_unless(whole, (str,), "a text", where)
        return np.array([codes.get(word, 0) for word in whole], dtype=np.float64)[:, None]
    return _list_numbers(field, whole, where)


def _list_numbers(field: Field, values: Sequence[Any], where: str) -> NDArray[np.float64]:
    if field.width > 1:
        for row, value in enumerate(values):
            if not isinstance(value, list | tuple) or len(value) != field.width:
                detail = f"{where} must be a list of {field.width} numbers, found {shorten(value)}"
                raise UnableToEncode("wrong_type", detail, row=row)
        values = [number for vector in values for number in vector]
    _refuse_unless(values, (float, int), "a number", where, width=field.width)
    try:
        return np.array(values, dtype=np.float64).reshape(-1, field.width)
    except OverflowError:
        row = next(place for place, value in enumerate(values) if abs(value) > sys.float_info.max)
        detail = f"{where} must be a finite number, found an integer too large for a float"
        raise UnableToEncode("not_finite", detail, row=row // field.width) from None


def _array_numbers(field: Field, values: NDArray[Any], tally: Tally, where: str) -> NDArray[np.float64]:
    """Take a column of a table, float [N] or [N, width]; a row of NaN stands for a null there."""
    if values.size != len(values) * field.width:
        raise UnableToEncode("wrong_type", f"{where} must hold {field.width} numbers a row, found {values.shape}")
    numbers = values.astype(np.float64).reshape(-1, field.width)
    absent = np.isnan(numbers).all(axis=1)
    for row in np.flatnonzero(absent).tolist():
        numbers[row] = _fill(field, row, tally, where)
    return numbers


def _fill(field: Field, row: int, tally: Tally, where: str) -> Any:
    if field.missing == "refuse":
        raise UnableToEncode("missing_field", f"{where} is missing", row=row)
    tally.filled += 1
    if isinstance(field.missing, tuple):
        return field.missing if field.width > 1 else field.missing[0]
    return field.missing if field.width == 1 else (field.missing,) * field.width


def _tail(field: Field, steps: int, value: Any, row: int, tally: Tally) -> list[Any]:
    """Return the last steps of one sequence."""
    where = f"fields.{field.name}"
    if value is None:
        _fill(field, row, tally, where)
        return []
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise UnableToEncode("wrong_type", f"{where} must be a list of steps, found {shorten(value)}", row=row)
    return list(value[-steps:])


def _refuse_unless(values: Sequence[Any], kinds: tuple[type, ...], what: str, where: str, *, width: int = 1) -> None:
    if set(map(type, values)) <= set(kinds):
        return
    place = next(place for place, value in enumerate(values) if type(value) not in kinds)
    detail = f"{where} must be {what}, found {shorten(values[place])}"
    raise UnableToEncode("wrong_type", detail, row=place // width)
