"""JSON lines: read a growing file from a place on, and the last lines of a finished one."""

import os
from collections import deque
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, final

import msgspec

from policies.errors import ContentRefused

_BLOCK_BYTES: Final = 1 << 20


class UnableToResume(ContentRefused):
    """A file is shorter than what was committed of it: it was cut or replaced."""


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name a place in a file between two lines: how many lines and how many bytes lie before it."""

    line: int = 0
    byte: int = 0


class Line(NamedTuple):
    """One line without its end, its number from 0, and the place after it."""

    value: bytes
    number: int
    after: Mark


@final
class LineReader:
    """Read lines in order; a blank line counts but is left out, a missing file is an empty one.

    A last line without its newline may still be growing. It is kept back until the newline comes, or returned when the
    caller says that the file is whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._mark = Mark()

    def seek(self, mark: Mark) -> None:
        """Go to a place.

        Raises:
            UnableToResume: the file ends before it.
        """
        self._mark = mark
        file = self._open()
        self._check_size(file)
        if file is not None:
            self._skip_late_newline(file)

    def read(self, count: int, *, limit: int | None = None, is_whole: bool) -> list[Line]:
        """Return up to `count` lines and go past them.

        Args:
            count: how many lines at most.
            limit: the byte after the last one that may be read; None is the file's end.
            is_whole: whether the file grows no more, so that a last line without a newline is a line.

        Raises:
            UnableToResume: the file has become shorter than what was read of it.
        """
        file = self._open()
        lines: list[Line] = []
        while file is not None and len(lines) < count and (limit is None or self._mark.byte < limit):
            value = file.readline()
            if not value or not (is_whole or value.endswith(b"\n")):
                self._check_size(file)
                file.seek(self._mark.byte)
                break
            number, self._mark = self._mark.line, Mark(self._mark.line + 1, self._mark.byte + len(value))
            if not value.isspace():
                lines.append(Line(value.rstrip(b"\r\n"), number, self._mark))
        return lines

    def remaining_lines(self, mark: Mark, *, limit: int | None) -> int:
        """Return how many whole lines lie between a place and the limit."""
        file = self._open()
        if file is None:
            return 0
        end = os.fstat(file.fileno()).st_size if limit is None else limit
        return _count_newlines(file.fileno(), mark.byte, end)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO | None:
        if self._file is None and self._path.exists():
            self._file = self._path.open("rb")
            self._file.seek(self._mark.byte)
        return self._file

    def _check_size(self, file: BinaryIO | None) -> None:
        size = 0 if file is None else os.fstat(file.fileno()).st_size
        if size < self._mark.byte:
            raise UnableToResume(
                f"{self._path} has {size} bytes, but {self._mark.byte} were read before: it was cut or replaced. "
                "Put it back, or start with an empty folder."
            )

    def _skip_late_newline(self, file: BinaryIO) -> None:
        # A last line without its newline was settled as whole; the newline that came later ends that line.
        start = max(0, self._mark.byte - 1)
        file.seek(start)
        around = file.read(self._mark.byte - start + 1)
        if len(around) == 2 and around[:1] != b"\n" and around[1:] == b"\n":
            self._mark = Mark(self._mark.line, self._mark.byte + 1)
        file.seek(self._mark.byte)


def last_lines(path: Path, *, length: int, count: int) -> list[bytes]:
    """Return the last `count` lines of the first `length` bytes of a file, in order, without reading what is before."""
    if count <= 0 or not path.exists():
        return []
    blocks: deque[bytes] = deque()
    found = 0
    with path.open("rb") as file:
        end = length
        while end > 0 and found <= count:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            blocks.appendleft(file.read(end - start))
            found += blocks[0].count(b"\n")
            end = start
    return b"".join(blocks).splitlines()[-count:]


def _count_newlines(descriptor: int, start: int, end: int) -> int:
    count = 0
    while start < end:
        block = os.pread(descriptor, min(_BLOCK_BYTES, end - start), start)
        if not block:
            break
        count += block.count(b"\n")
        start += len(block)
    return count
