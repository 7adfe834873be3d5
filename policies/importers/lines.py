"""Read the rows of a CSV, whatever log it holds."""

import csv
from pathlib import Path

from policies.errors import ContentRefused


class UnableToReadRows(ContentRefused):
    """A file is not a CSV in UTF-8."""


def read_rows(path: Path) -> list[list[str]]:
    """Return the cells of each line that is not empty.

    Raises:
        UnableToReadRows: the file is not in UTF-8, or a quoted cell does not end.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [row for row in csv.reader(file, strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnableToReadRows(f"{path}: expected a CSV in UTF-8, found {error}") from error
