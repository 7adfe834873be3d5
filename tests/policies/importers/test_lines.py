"""Rows of a CSV, or a refusal that names the file."""

from pathlib import Path

import pytest

from policies.importers.lines import UnableToReadRows, read_rows


def test_rows_are_read_without_empty_lines_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\n\n1,"x, y"\n')
    assert read_rows(path) == [["a", "b"], ["1", "x, y"]]


@pytest.mark.parametrize("data", [b"a,b\n\xff,1\n", b'a,b\n"1,2\n'])
def test_what_is_no_csv_is_refused_for_its_content(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(data)
    with pytest.raises(UnableToReadRows, match=r"log\.csv: expected a CSV in UTF-8"):
        read_rows(path)
