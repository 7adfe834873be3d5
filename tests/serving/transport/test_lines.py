from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.transport import lines as module
from serving.transport.lines import LineReader, Mark, last_lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.jsonl"


def test_the_last_lines_are_found_over_any_number_of_blocks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [b"x" * (n % 7) + b"!" for n in range(50)]
    path.write_bytes(b"\n".join(whole) + b"\n")
    for block_bytes in (1, 3, 16, 4096):
        monkeypatch.setattr(module, "_BLOCK_BYTES", block_bytes)
        for count in (1, 2, 49, 50, 51):
            assert last_lines(path, length=path.stat().st_size, count=count) == whole[-count:]


def test_the_last_lines_end_at_the_length(path: Path) -> None:
    path.write_bytes(b"one\ntwo\nthr")
    assert last_lines(path, length=8, count=5) == [b"one", b"two"]


@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_a_file_that_grows_in_any_pieces_gives_the_same_lines(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    content = b"".join(b'{"n":%d}\n' % n for n in range(8))
    path = tmp_path_factory.mktemp("grow") / "some.jsonl"
    reader = LineReader(path)
    found = []
    with path.open("wb", buffering=0) as file:
        bounds = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
        for start, stop in pairwise(bounds):
            file.write(content[start:stop])
            found += reader.read(100, is_whole=False)
    reader.close()
    assert [line.value for line in found] == content.splitlines()
    assert [line.number for line in found] == list(range(8))


def test_reading_can_begin_again_at_any_mark(path: Path) -> None:
    path.write_bytes(b"one\n\nthree\nfour\n")
    reader = LineReader(path)
    marks = [Mark(), *(line.after for line in reader.read(10, is_whole=True))]
    for place, mark in enumerate(marks):
        reader.seek(mark)
        values = [line.value for line in reader.read(10, is_whole=True)]
        assert values == [b"one", b"three", b"four"][place:]
    reader.close()


def test_a_limit_hides_what_lies_beyond(path: Path) -> None:
    path.write_bytes(b"one\ntwo\n")
    reader = LineReader(path)
    assert [line.value for line in reader.read(10, limit=4, is_whole=True)] == [b"one"]
    assert reader.remaining_lines(Mark(), limit=4) == 1
    reader.close()
