from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.record_files import (
    Record,
    UnableToReadRecords,
    merge_files,
    read_records,
    record_files,
    sweep,
    write_records,
)


def records(*offsets: int, value: bytes = b"{}") -> list[Record]:
    return [Record(offset, 1_000 + offset, b"k", value) for offset in offsets]


def offsets(folder: Path) -> list[int]:
    return [record.offset for record in read_records(folder)]


@settings(max_examples=8, deadline=None)
@given(
    values=st.lists(
        st.tuples(
            st.none() | st.binary(max_size=9),
            st.none() | st.binary(max_size=9),
            st.lists(st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), max_size=2),
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]],
) -> None:
    folder = tmp_path_factory.mktemp("records")
    written = [Record(n * 2, n, key, value, tuple(headers)) for n, (key, value, headers) in enumerate(values)]
    write_records(written, folder=folder)
    assert list(read_records(folder)) == written


def test_a_file_is_named_by_its_first_offset_and_written_again_replaces_itself(tmp_path: Path) -> None:
    path = write_records(records(7, 9), folder=tmp_path)
    assert path.name == "00000000000000000007.parquet"
    assert write_records(records(7, 9, 10), folder=tmp_path) == path
    assert offsets(tmp_path) == [7, 9, 10]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_file_is_described_by_its_first_and_last_offset(tmp_path: Path) -> None:
    path = write_records(records(7, 9), folder=tmp_path)
    assert record_files(tmp_path) == [(path, 7, 9, 1_007)]


def test_files_are_merged_into_the_first(tmp_path: Path) -> None:
    for group in ((0, 1), (2, 4), (5,)):
        write_records(records(*group), folder=tmp_path)
    merge_files(record_files(tmp_path)[:2])
    assert [(file.first, file.last) for file in record_files(tmp_path)] == [(0, 4), (5, 5)]
    assert offsets(tmp_path) == [0, 1, 2, 4, 5]


def test_a_merge_that_was_cut_short_changes_nothing_for_a_reader(tmp_path: Path) -> None:
    write_records(records(0, 1), folder=tmp_path)
    left = write_records(records(2, 4), folder=tmp_path)
    kept = left.read_bytes()
    merge_files(record_files(tmp_path))
    left.write_bytes(kept)
    assert offsets(tmp_path) == [0, 1, 2, 4]
    sweep(tmp_path)
    assert not left.exists()


def test_files_that_overlap_are_refused(tmp_path: Path) -> None:
    write_records(records(0, 1, 2), folder=tmp_path)
    write_records(records(2, 3), folder=tmp_path)
    with pytest.raises(UnableToReadRecords, match="begins at offset 2"):
        offsets(tmp_path)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000000000000000000.parquet").write_bytes(b"nothing")
    with pytest.raises(UnableToReadRecords, match="no file of records"):
        record_files(tmp_path)
