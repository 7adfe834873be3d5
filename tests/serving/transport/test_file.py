import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.events import Source
from serving.contract import Committed, Kind, Result, Transport
from serving.durable import replace_durably
from serving.transport import file as module
from serving.transport.file import FileTransport, FolderBusy, FolderRefused, no_faults, read_offsets
from serving.transport.lines import UnableToResume
from tests.contracts.transport_suite import CrashError, Faults, TransportSuite, answer, requests, settle_all

NAMES: dict[Kind, str] = {"decision": "decisions", "dead_letter": "dead-letters", "shadow": "shadow"}


class Echo(msgspec.Struct):
    source: Source


def read_results(folder: Path, kind: Kind) -> list[Result]:
    """Read what a reader may: as much of a file as is committed."""
    path = folder / f"{NAMES[kind]}.jsonl"
    length = read_offsets(folder / "penstock-offsets.decide.json").lengths[NAMES[kind]]
    lines = path.read_bytes()[:length].splitlines()
    return [Result(kind=kind, value=v, key=b"", source=msgspec.json.decode(v, type=Echo).source) for v in lines]


class TestFileTransport(TransportSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a test has no power cut, and a sync takes long
        (tmp_path / "requests.jsonl").touch()

    def feed(self, values: Sequence[bytes]) -> None:
        with (self.folder / "requests.jsonl").open("ab") as file:
            file.writelines(value + b"\n" for value in values)

    def start(self, *, faults: Faults | None, max_batch: int) -> Transport:
        return FileTransport(self.folder, max_batch=max_batch, faults=faults or no_faults)

    def results(self, kind: Kind) -> Sequence[Result]:
        return read_results(self.folder, kind)

    def break_next_commit(self, transport: Transport) -> None:
        def fail_once(path: Path, data: bytes) -> None:
            self.monkeypatch.setattr(module, "replace_durably", replace_durably)
            raise OSError(28, "No space left on device")

        self.monkeypatch.setattr(module, "replace_durably", fail_once)


Start = Callable[..., FileTransport]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start workers and close them at the end of the test."""
    started = []

    def start_one(folder: Path, **settings: Any) -> FileTransport:
        started.append(FileTransport(folder, **settings))
        return started[-1]

    yield start_one
    for transport in started:
        transport.close()


def folder_with(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "requests.jsonl").write_bytes(content)
    return tmp_path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_results_torn_by_a_power_cut_are_cut_off_at_the_next_start(start: Start, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"\n".join(requests(6)))
    first = start(folder, max_batch=3)
    settle_all(first)
    first.close()
    whole = {name: (folder / f"{name}.jsonl").read_bytes() for name in NAMES.values()}
    (folder / "decisions.jsonl").write_bytes(whole["decisions"] + b'{"half": "a li')
    settle_all(start(folder))
    assert {name: (folder / f"{name}.jsonl").read_bytes() for name in NAMES.values()} == whole


def test_a_commit_whose_answer_was_lost_is_still_a_commit(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = start(folder_with(tmp_path, b"{}\n"))
    batch = transport.poll()

    def replace_and_fail(path: Path, data: bytes) -> None:
        replace_durably(path, data)
        raise OSError("the folder could not be synced")

    monkeypatch.setattr(module, "replace_durably", replace_and_fail)
    assert isinstance(transport.settle(batch, [answer(message) for message in batch.messages]), Committed)
    assert transport.poll().is_end
    assert len(lines_of(tmp_path / "decisions.jsonl")) == 1


ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from serving.contract import Committed, Result, Rewound
from serving.transport.file import FileTransport

def settle(tag):
    batch = transport.poll()
    values = [b'"%s%d%s"' % (tag, message.source.offset, b"." * 500) for message in batch.messages]
    results = [Result("decision", v, b"", m.source) for v, m in zip(values, batch.messages)]
    return type(transport.settle(batch, results))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
transport = FileTransport(folder, max_batch=2)
assert settle(b"first") is Committed
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
room = (folder / "decisions.jsonl").stat().st_size + 700
resource.setrlimit(resource.RLIMIT_FSIZE, (room, unlimited[1]))
assert settle(b"torn") is Rewound
assert settle(b"torn") is Rewound
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
assert settle(b"again") is Committed
assert settle(b"again") is Committed
transport.close()
"""
"""A process that may write no larger file than so, in the middle of the second of two lines, until it may again."""


def test_a_full_disk_tears_no_line_and_doubles_none(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"\n".join(requests(6)))
    command, root = [sys.executable, "-c", ON_A_FULL_DISK, str(folder)], Path(__file__).parents[3]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    found = [line.strip(b'".') for line in lines_of(folder / "decisions.jsonl")]
    assert found == [b"first0", b"first1", b"again2", b"again3", b"again4", b"again5"]
    lengths = read_offsets(folder / "penstock-offsets.decide.json").lengths
    assert lengths["decisions"] == (folder / "decisions.jsonl").stat().st_size


def test_a_torn_last_line_is_awaited_while_following(start: Start, tmp_path: Path) -> None:
    waited: list[float] = []
    path = folder_with(tmp_path, b'{"a":1}\n{"b"') / "requests.jsonl"
    transport = start(tmp_path, is_following=True, wait=waited.append, poll_interval_s=0.25)
    assert [message.value for message in transport.poll().messages] == [b'{"a":1}']
    assert transport.poll().messages == ()
    assert waited == [0.25]
    with path.open("ab") as file:
        file.write(b":2}\n")
    assert [message.value for message in transport.poll().messages] == [b'{"b":2}']


def test_a_torn_last_line_is_a_line_where_the_file_grows_no_more(start: Start, tmp_path: Path) -> None:
    transport = start(folder_with(tmp_path, b'{"a":1}\n{"b"'))
    assert [message.value for message in transport.poll().messages] == [b'{"a":1}', b'{"b"']
    assert transport.poll().is_end


def test_the_late_newline_of_a_settled_last_line_is_no_line(start: Start, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b'{"a":1}')
    first = start(folder)
    settle_all(first)
    first.close()
    with (folder / "requests.jsonl").open("ab") as file:
        file.write(b'\n{"b":2}\n')
    assert [m.source.offset for batch in settle_all(start(folder)) for m in batch.messages] == [1]


def test_a_missing_input_is_awaited_while_following(start: Start, tmp_path: Path) -> None:
    transport = start(tmp_path, is_following=True, wait=lambda seconds: None)
    assert transport.poll().messages == ()
    folder_with(tmp_path, b"{}\n")
    assert len(transport.poll().messages) == 1


def test_blank_lines_are_no_messages_but_keep_their_numbers(start: Start, tmp_path: Path) -> None:
    transport = start(folder_with(tmp_path, b"\n{}\r\n  \n[]\n"))
    found = [(message.value, message.source.offset) for message in transport.poll().messages]
    assert found == [(b"{}", 1), (b"[]", 3)]


def test_a_missing_input_is_refused_where_it_is_not_awaited(start: Start, tmp_path: Path) -> None:
    with pytest.raises(FolderRefused, match=r"requests\.jsonl"):
        start(tmp_path)


def test_results_of_other_origin_are_never_cut(start: Start, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"{}\n")
    (folder / "decisions.jsonl").write_bytes(b"precious\n")
    with pytest.raises(FolderRefused, match="Move them away"):
        start(folder)
    assert (folder / "decisions.jsonl").read_bytes() == b"precious\n"


def test_a_shortened_result_file_is_noticed(start: Start, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"{}\n")
    first = start(folder)
    settle_all(first)
    first.close()
    (folder / "decisions.jsonl").write_bytes(b"")
    with pytest.raises(UnableToResume, match="were committed"):
        start(folder)


def test_a_shortened_input_is_noticed_at_start_and_while_following(start: Start, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"{}\n{}\n")
    transport = start(folder, is_following=True, wait=lambda seconds: None)
    batch = transport.poll()
    transport.settle(batch, [answer(message) for message in batch.messages])
    (folder / "requests.jsonl").write_bytes(b"{}\n")
    with pytest.raises(UnableToResume, match="were read before"):
        transport.poll()
    transport.close()
    with pytest.raises(UnableToResume, match="were read before"):
        start(folder)


def test_damaged_offsets_are_refused_by_name(start: Start, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"{}\n")
    (folder / "penstock-offsets.decide.json").write_bytes(b"{")
    with pytest.raises(UnableToResume, match=r"penstock-offsets\.decide\.json"):
        start(folder)


def test_a_second_worker_on_one_folder_is_refused(start: Start, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"{}\n")
    first = start(folder)
    with pytest.raises(FolderBusy):
        start(folder)
    first.close()
    start(folder).close()


def test_the_join_reads_no_further_than_what_the_decide_loop_committed(start: Start, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"{}\n{}\n")

    def crash(step: str) -> None:
        if step == "before_commit":
            raise CrashError

    deciding = start(folder, faults=crash)
    batch = deciding.poll()
    with pytest.raises(CrashError):
        deciding.settle(batch, [answer(message) for message in batch.messages])
    assert len(lines_of(folder / "decisions.jsonl")) == 2
    joining = start(folder, group="join")
    assert joining.poll().messages == ()
    deciding.close()
    settle_all(start(folder))
    assert [message.source.topic for message in joining.poll().messages] == ["decisions", "decisions"]


def test_held_lines_are_found_again_by_their_bytes(start: Start, tmp_path: Path) -> None:
    values = [b'{"n":%d}' % (10**n) for n in range(6)]
    folder = folder_with(tmp_path, b"\n".join(values) + b"\n")
    first = start(folder, max_batch=2)
    place = ("requests", 0)
    for _ in range(3):
        first.settle(first.poll(), [], positions={place: 1})
    first.settle(first.poll(), [], positions={place: 3})
    first.close()
    assert [message.value for message in start(folder).poll().messages] == values[3:]


def test_a_result_with_a_line_break_is_a_programming_error(start: Start, tmp_path: Path) -> None:
    transport = start(folder_with(tmp_path, b"{}\n"))
    batch = transport.poll()
    broken = Result(kind="decision", value=b"{\n}", key=b"", source=batch.messages[0].source)
    with pytest.raises(ValueError, match="line break"):
        transport.settle(batch, [broken])
