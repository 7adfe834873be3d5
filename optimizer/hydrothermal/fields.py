"""Reading the files of a case: numbers, names and links as they must be, or an error that names file and field."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from policies.errors import ContentRefused

DENORMAL: Final = 1e-300
"""Numbers closer to zero than this stand for zero: tools write what lies in memory they never set."""

_TEXTS: Final = frozenset({"name", "source_id", "type"})


class CaseRefused(ContentRefused):
    """The files of a case do not describe a system that can be modeled."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Read one object of a JSON file; errors say the file, where in it, and the field."""

    file: str
    where: str
    values: Mapping[str, Any]

    def number(
        self, name: str, *, least: float = -math.inf, most: float = math.inf, missing: float | None = None
    ) -> float:
        """Return a finite number within [least, most]; `missing` stands for an absent field where it is given.

        Raises:
            CaseRefused: the field is absent, no number, or outside.
        """
        if name not in self.values and missing is not None:
            return missing
        value = self._present(name, "a number")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.refused(name, "a finite number", value)
        clean = without_denormal(float(value))
        if not least <= clean <= most:
            raise self.refused(name, _range(least, most), value)
        return clean

    def whole(self, name: str) -> int:
        """Return a whole number.

        Raises:
            CaseRefused: the field is absent or no whole number.
        """
        value = self._present(name, "a whole number")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refused(name, "a whole number", value)
        return value

    def items(self, name: str) -> list[Any]:
        """Return a list.

        Raises:
            CaseRefused: the field is absent or no list.
        """
        value = self._present(name, "a list")
        if not isinstance(value, list):
            raise self.refused(name, "a list", value)
        return value

    def text(self, name: str, *, missing: str) -> str:
        """Return a text without the blanks around it, `missing` where it is absent or empty.

        Raises:
            CaseRefused: the field is no text.
        """
        value = self.values.get(name, "")
        if not isinstance(value, str):
            raise self.refused(name, "a text", value)
        return value.strip() or missing

    def check_kinds(self) -> None:
        """Look at every field, the unused ones included: a text where the format has numbers is a broken export.

        Raises:
            CaseRefused: a field that is not a name holds a text.
        """
        for name, value in self.values.items():
            if isinstance(value, str) and name not in _TEXTS:
                raise self.refused(name, "a number", value)

    def refused(self, name: str, expected: str, found: object) -> CaseRefused:
        """Return the error that a field is not what was expected."""
        return CaseRefused(f"{self.file}: {self.where}{name}: expected {expected}, found {found!r}")

    def _present(self, name: str, kind: str) -> Any:
        if name not in self.values:
            raise CaseRefused(f"{self.file}: {self.where}{name}: expected {kind}, the field is missing")
        return self.values[name]


def read_object(path: Path) -> Entry:
    """Read a JSON file that holds one object.

    Raises:
        CaseRefused: it is not there, not JSON, or something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CaseRefused(f"{path.name}: expected the file in {path.parent}, found none") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise CaseRefused(f"{path.name}: expected JSON, found what cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise CaseRefused(f"{path.name}: expected an object, found {type(values).__name__}")
    return Entry(file=path.name, where="", values=values)


def entries_of(parent: Entry, name: str) -> Iterator[tuple[str, Entry]]:
    """Yield key and entry of each object in a field that maps numbers to objects, in the order of the numbers.

    Raises:
        CaseRefused: the field is absent, or holds something else.
    """
    table = parent._present(name, "an object")
    if not isinstance(table, dict) or not all(key.isdecimal() for key in table):
        raise parent.refused(name, "an object whose keys are whole numbers", type(table).__name__)
    for key in sorted(table, key=int):
        if not isinstance(table[key], dict):
            raise parent.refused(f"{name}[{key}]", "an object", table[key])
        entry = Entry(file=parent.file, where=f"{name}[{key}].", values=table[key])
        entry.check_kinds()
        yield key, entry


def read_numbers(path: Path, *, skip_rows: int = 0, skip_columns: int = 0) -> NDArray[np.float64]:
    """Read a table of finite numbers, float64 [rows, columns]; blank lines and a byte order mark are passed over.

    Raises:
        CaseRefused: the file is absent or empty, a row has another length, or a cell is no finite number.
    """
    rows = [row[skip_columns:] for row in read_cells(path)[skip_rows:]]
    if not rows or not rows[0]:
        raise CaseRefused(f"{path.name}: expected rows of numbers, found none")
    return np.array([_numbers(path, at, row, len(rows[0])) for at, row in enumerate(rows, start=1 + skip_rows)])


def read_cells(path: Path, *, separator: str = ",") -> list[list[str]]:
    """Read the cells of a table as texts.

    Raises:
        CaseRefused: the file is absent.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise CaseRefused(f"{path.name}: expected the file in {path.parent}, found none") from error
    rows = csv.reader(text.splitlines(), delimiter=separator)
    return [row for row in rows if any(cell.strip() for cell in row)]


def without_denormal(value: float) -> float:
    """Return the number, or zero where it is one that only memory never set can hold.

    >>> without_denormal(9.2e-316), without_denormal(-2.5)
    (0.0, -2.5)
    """
    return 0.0 if abs(value) < DENORMAL else value


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names that tell apart: one that comes again gets the number of its place.

    >>> unique_names(["BUL", "CAR", "BUL"])
    ('BUL', 'CAR', 'BUL#3')
    """
    seen: set[str] = set()
    unique: list[str] = []
    for place, name in enumerate(names, start=1):
        unique.append(f"{name}#{place}" if name in seen else name)
        seen.add(unique[-1])
    return tuple(unique)


def _numbers(path: Path, row: int, cells: Sequence[str], width: int) -> list[float]:
    if len(cells) != width:
        raise CaseRefused(f"{path.name}: row {row}: expected {width} columns as in the first row, found {len(cells)}")
    return [_number(path, row, column, cell) for column, cell in enumerate(cells, start=1)]


def _number(path: Path, row: int, column: int, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CaseRefused(f"{path.name}: row {row}, column {column}: expected a finite number, found {cell!r}")
    return without_denormal(value)


def _range(least: float, most: float) -> str:
    if math.isinf(most):
        return f"at least {least:g}"
    return f"at most {most:g}" if math.isinf(least) else f"a number from {least:g} to {most:g}"
