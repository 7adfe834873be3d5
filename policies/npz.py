"""Arrays to and from npz bytes: the same arrays give the same bytes on every machine and in every year.

`numpy.savez` writes the time of day and follows the order of its arguments; a digest over such a file never repeats.
Here entries are sorted and stored without compression (whose bytes differ between zlib versions) under a fixed time.
"""

import io
import tokenize
import zipfile
import zlib
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.errors import Unable

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip entry can hold
_UNIX = 3
_OWNER_READS_AND_WRITES = 0o600 << 16
_SUFFIX = ".npy"
# What zipfile, zlib and numpy raise on damaged bytes; a header is Python text, hence the last two.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
)


class UnableToReadArrays(Unable):
    """The bytes are not an npz of plain arrays."""


def save_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Write named arrays as npz bytes that depend on nothing but the arrays.

    Each array may have any shape and any plain dtype; it is written little-endian in C order.

    Raises:
        ValueError: an array holds objects, which would need pickle.

    >>> import numpy as np
    >>> data = save_npz({"b": np.arange(3), "a": np.array("text")})
    >>> data == save_npz({"a": np.array("text"), "b": np.arange(3)})
    True
    >>> load_npz(data)["b"]
    array([0, 1, 2])
    """
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            archive.writestr(_entry(name), _array_bytes(arrays[name]))
    return target.getvalue()


def load_npz(data: bytes, *, where: str = "npz", needed: Container[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read named arrays from npz bytes; nothing in them is ever executed.

    An array of Python objects would need pickle. It is refused by its name where it is needed (by default all are),
    else left out.

    Raises:
        UnableToReadArrays: the bytes are no zip file, a member is damaged, is no array, or needs pickle.
    """
    arrays: dict[str, NDArray[Any]] = {}
    refused: list[str] = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.namelist():
                name, member = entry.removesuffix(_SUFFIX), archive.read(entry)
                if not _holds_objects(member):
                    arrays[name] = _read_array(member)
                elif needed is None or name in needed:
                    refused.append(name)
    except _DAMAGED as error:
        raise UnableToReadArrays(f"{where}: expected an npz file of plain arrays, found {error}") from error
    if refused:
        raise UnableToReadArrays(
            f"{where}: expected an npz file of plain arrays, found Python objects in {', '.join(refused)}; save texts "
            "as numpy's own (array.astype(str)) and numbers as numbers"
        )
    return arrays


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name + _SUFFIX, date_time=_EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = _OWNER_READS_AND_WRITES
    return entry


def _array_bytes(array: NDArray[Any]) -> bytes:
    plain = np.asarray(array, order="C")
    target = io.BytesIO()
    little_endian = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    np.lib.format.write_array(target, little_endian, version=(1, 0), allow_pickle=False)
    return target.getvalue()


def _holds_objects(data: bytes) -> bool:
    header = io.BytesIO(data)
    is_first_version = np.lib.format.read_magic(header) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if is_first_version else np.lib.format.read_array_header_2_0
    return bool(read(header)[2].hasobject)


def _read_array(data: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    return array
