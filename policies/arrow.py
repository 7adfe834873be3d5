"""Columns of Arrow tables as the numpy arrays and texts that feedback holds, and back; pyarrow is imported lazily.

pyarrow is looked up by name when a table is read or written, so that neither serving nor a base install needs it.
"""

# N row, V values of all rows end to end

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.errors import ContentRefused, Unable
from policies.events import microseconds
from policies.log import Numbers, Places


class UnableToUseParquet(Unable):
    """Parquet needs pyarrow, which a base install has not."""


class UnableToReadColumn(ContentRefused):
    """A column of a table is not of the kind that its name promises."""


class ListColumn(NamedTuple):
    """One list per row: lengths int64 [N], is_null bool [N], and the values of all rows as an Arrow array [V]."""

    lengths: Places
    is_null: NDArray[np.bool_]
    values: Any


def arrow(module: str = "pyarrow") -> Any:
    """Import pyarrow or a part of it.

    Raises:
        UnableToUseParquet: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnableToUseParquet(
            f"reading or writing tables needs pyarrow ({error}); install penstock[evaluate]"
        ) from error


def write_table(table: Any, path: Path) -> None:
    """Write an Arrow table as zstd Parquet beside its place, then rename: a reader sees the old file or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        arrow("pyarrow.parquet").write_table(table, partial, compression="zstd")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Coded(NamedTuple):
    """A column of texts: each row's place among the words, int64 [N] (-1 for null), and the words, object [W + 1].

    The last word is None, so that a null's place finds it.
    """

    places: Places
    words: NDArray[np.object_]


def texts(column: Any, *, name: str) -> NDArray[np.object_]:
    """Return a column of texts or whole numbers as texts: object [N], None where null; equal ones are one object.

    Raises:
        UnableToReadColumn: the column holds something else.
    """
    plain = _text_column(column, name)
    if not arrow().types.is_dictionary(plain.type):
        encoded = plain.dictionary_encode()
        if len(encoded.dictionary) * 2 > len(plain):
            found: NDArray[np.object_] = plain.to_numpy(zero_copy_only=False)
            return found if found.dtype == object else found.astype(object)
        plain = encoded
    coded = _coded(plain)
    picked: NDArray[np.object_] = coded.words[coded.places]
    return picked


def coded_texts(column: Any, *, name: str) -> Coded:
    """Return a column of texts or whole numbers as places among its words.

    Raises:
        UnableToReadColumn: the column holds something else.
    """
    plain = _text_column(column, name)
    return _coded(plain if arrow().types.is_dictionary(plain.type) else plain.dictionary_encode())


def _text_column(column: Any, name: str) -> Any:
    pa = arrow()
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    allowed = ("is_string", "is_large_string", "is_string_view", "is_integer", "is_null")
    if not any(getattr(pa.types, test)(kind) for test in allowed):
        raise UnableToReadColumn(f"column {name} must hold texts, found {column.type}")
    plain = combined(column)
    return plain.cast(pa.dictionary(pa.int64(), pa.string()) if pa.types.is_dictionary(plain.type) else pa.string())


def _coded(encoded: Any) -> Coded:
    words = np.empty(len(encoded.dictionary) + 1, dtype=object)
    words[:-1] = encoded.dictionary.to_pylist()
    places = encoded.indices.cast(arrow().int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return Coded(places, words)


def numbers(column: Any, *, name: str) -> Numbers:
    """Return a column of numbers or truth values, float64 [N]; NaN where null.

    Raises:
        UnableToReadColumn: the column holds something else.
    """
    pa = arrow()
    kinds = pa.types
    kind = column.type
    if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind) or kinds.is_null(kind)):
        raise UnableToReadColumn(f"column {name} must hold numbers, found {kind}")
    plain = combined(column)
    whole = plain.cast(pa.int8()) if kinds.is_boolean(kind) else plain
    found: Numbers = whole.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return found


def integers(column: Any, *, name: str) -> Places:
    """Return a column of whole numbers, int64 [N].

    Raises:
        UnableToReadColumn: the column holds something else, or a null.
    """
    pa = arrow()
    if not pa.types.is_integer(column.type) or column.null_count:
        found = f"{column.null_count} nulls" if pa.types.is_integer(column.type) else str(column.type)
        raise UnableToReadColumn(f"column {name} must hold whole numbers without nulls, found {found}")
    plain: Places = combined(column).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return plain


def times(column: Any, *, name: str) -> Places:
    """Return a column of microseconds, of timestamps or of ISO-8601 texts as microseconds: int64 [N].

    Raises:
        UnableToReadColumn: the column holds something else, or a null.
    """
    pa = arrow()
    if pa.types.is_timestamp(column.type) and not column.null_count:
        stamps: Places = combined(column).cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(zero_copy_only=False)
        return stamps
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _iso_times(column, name)
    return integers(column, name=name)


def _iso_times(column: Any, name: str) -> Places:
    moments = column.to_pylist()
    try:
        return np.array([microseconds(moment) for moment in moments], dtype=np.int64)
    except (ValueError, TypeError) as error:
        raise UnableToReadColumn(f"column {name} must hold microseconds or ISO-8601 times: {error}") from error


def lists(column: Any, *, name: str) -> ListColumn:
    """Return a column of lists with its values end to end.

    Raises:
        UnableToReadColumn: the column holds something else.
    """
    pa = arrow()
    kinds = pa.types
    if not (kinds.is_list(column.type) or kinds.is_large_list(column.type) or kinds.is_fixed_size_list(column.type)):
        raise UnableToReadColumn(f"column {name} must hold lists, found {column.type}")
    plain = combined(column)
    compute = arrow("pyarrow.compute")
    lengths: Places = compute.list_value_length(plain).fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False)
    is_null: NDArray[np.bool_] = plain.is_null().to_numpy(zero_copy_only=False)
    return ListColumn(lengths, is_null, compute.list_flatten(plain))


def combined(column: Any) -> Any:
    """Return a chunked column as one array."""
    pa = arrow()
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)


def number_array(values: Any) -> Any:
    """Make an Arrow array of float64; NaN and None become null."""
    pa = arrow()
    if isinstance(values, np.ndarray) and values.dtype != object:
        return pa.array(values.astype(np.float64), type=pa.float64(), from_pandas=True)
    return pa.array(list(values), type=pa.float64())


def vector_array(values: Any) -> Any:
    """Make an Arrow array of lists of float64 [N, W]; None, and a row of NaN, become null."""
    rows = values.tolist() if isinstance(values, np.ndarray) else values
    pa = arrow()
    return pa.array([_plain(row) for row in rows], type=pa.list_(pa.float64()))


def _plain(row: Any) -> Any:
    if row is None or all(value != value for value in row):
        return None
    return list(row)


def list_array(lengths: Places, values: Any, *, is_null: NDArray[np.bool_] | None = None) -> Any:
    """Make an Arrow array of lists of the values end to end; null where is_null says so (its length is 0)."""
    pa = arrow()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    mask = None if is_null is None or not is_null.any() else pa.array(is_null)
    return pa.ListArray.from_arrays(offsets, values, mask=mask)


def text_array(values: Sequence[str | None]) -> Any:
    """Make an Arrow array of texts."""
    pa = arrow()
    return pa.array(values, type=pa.string())
