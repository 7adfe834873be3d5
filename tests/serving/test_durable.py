"""What is written durably is whole."""

import os
from io import RawIOBase
from pathlib import Path

import pytest

from serving.durable import replace_durably, write_all


class Trickle(RawIOBase):
    """Take so many bytes at a time, and none at all from a size on."""

    def __init__(self, *, at_a_time: int, room: int) -> None:
        self.at_a_time, self.room, self.taken = at_a_time, room, b""

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        count = min(self.at_a_time, self.room - len(self.taken), len(data))
        self.taken += bytes(data[:count])
        return count


def test_what_a_file_takes_in_parts_is_written_whole() -> None:
    file = Trickle(at_a_time=3, room=100)
    write_all(file, b"ten bytes.")
    assert file.taken == b"ten bytes."


def test_a_file_that_takes_no_more_is_told() -> None:
    with pytest.raises(OSError, match="7 of 10 bytes"):
        write_all(Trickle(at_a_time=3, room=7), b"ten bytes.")


def test_a_file_is_synced_before_it_takes_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.json"
    path.write_bytes(b"old")
    synced: list[tuple[bool, bytes]] = []

    def note(descriptor: int) -> None:
        is_folder = Path(f"/proc/self/fd/{descriptor}").resolve() == tmp_path
        synced.append((is_folder, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", note)
    replace_durably(path, b"new")
    assert synced == [(False, b"old"), (True, b"new")]


def test_a_failed_sync_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.json"
    path.write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_durably(path, b"new")
    assert path.read_bytes() == b"old"
