"""Files that are whole after a crash: what is written has reached the disk, or has not happened."""

import os
from io import RawIOBase
from pathlib import Path


def write_all(file: RawIOBase, data: bytes) -> None:
    """Write all bytes to a file without a buffer, which may take fewer at a time.

    Where this fails, as on a full disk, nothing is kept in memory that a later write would bring along.

    Raises:
        OSError: not all bytes could be written; some of them may have been.
    """
    rest = memoryview(data)
    while rest:
        taken = file.write(rest)
        if not taken:
            raise OSError(f"wrote {len(data) - len(rest)} of {len(data)} bytes, and no more were taken")
        rest = rest[taken:]


def replace_durably(path: Path, data: bytes) -> None:
    """Replace a small file so that after a crash it is the old one or the new one, whole.

    The new content is written beside it, under the suffix `.new`.

    Raises:
        OSError: the content could not be written or synced; the file is the old one or the new one.
    """
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
