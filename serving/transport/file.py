"""A folder as transport: requests.jsonl and outcomes.jsonl go in, results appear beside them, exactly once.

A commit is one atomic step. Results are appended and synced first; then `penstock-offsets.GROUP.json`, which holds the
input positions *and* the committed length of every output, is replaced by rename. Whatever a crash leaves beyond those
lengths is cut off at the next start. A reader that follows an output reads no further than its committed length.
"""

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Final, TypeAlias, final

import msgspec

from policies.errors import Unable, UsageProblem
from policies.events import Source
from serving.contract import Batch, Committed, Kind, Message, Place, Positions, Result, Rewound, check_answers
from serving.durable import replace_durably, write_all
from serving.transport.cursor import STALE, Cursor
from serving.transport.lines import LineReader, Mark, UnableToResume, last_lines

SCHEMA: Final = "penstock-offsets/1"

OUTPUTS_OF: Final[Mapping[str, Mapping[Kind, str]]] = {
    "decide": {"decision": "decisions", "shadow": "shadow", "dead_letter": "dead-letters"},
    "join": {"feedback": "feedback", "estimate": "estimates", "dead_letter": "join-dead-letters"},
}
"""For each group, the file (without `.jsonl`) that each kind of result is kept in."""

INPUTS_OF: Final[Mapping[str, tuple[str, ...]]] = {"decide": ("requests",), "join": ("decisions", "outcomes")}

Faults: TypeAlias = Callable[[str], None]
"""Called at each step of a poll and a commit; a test raises from it to crash there."""


class FolderRefused(UsageProblem):
    """A folder is missing, lacks its input, or holds results that were not written by this transport."""


class FolderBusy(Unable):
    """Another process works on the folder."""


class Offsets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag=SCHEMA):
    """Hold what is committed: where to read on in each input, and how long each output is."""

    positions: dict[str, Mark]
    lengths: dict[str, int]


def no_faults(step: str) -> None:
    """Let everything pass."""
    del step


@final
class FileTransport:
    """Read the inputs of a group (`decide` or `join`) from a folder and keep its results there.

    With `is_following`, inputs are awaited and read as they grow, and `wait` is called with `poll_interval_s` when
    there is nothing new; otherwise their end is the end. One process at a time: a lock says so.

    Raises:
        FolderRefused: there is no folder, no first input, or results that this transport did not write.
        FolderBusy: another process holds the folder.
        UnableToResume: a file is shorter than what was committed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        group: str = "decide",
        max_batch: int = 256,
        is_following: bool = False,
        wait: Callable[[float], object] | None = None,
        poll_interval_s: float = 0.1,
        faults: Faults = no_faults,
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, found {max_batch}")
        if is_following and wait is None:
            raise ValueError("a transport that follows needs `wait`, for example the `wait` of a stop event")
        self._folder, self._group, self._max_batch = folder, group, max_batch
        self._is_following, self._wait, self._poll_interval_s = is_following, wait, poll_interval_s
        self._faults = faults
        self._inputs, self._outputs = INPUTS_OF[group], OUTPUTS_OF[group]
        self._check_folder()
        self._lock: int | None = lock_path(folder / f".penstock-{group}.lock")
        self._files: dict[Kind, FileIO] = {}
        self._readers = {name: LineReader(self._path(name)) for name in self._inputs}
        self._marks: dict[str, list[Mark]] = {}
        try:
            self._offsets = self._read_offsets()
            self._cursor = Cursor(_positions(self._offsets))
            self._recover()
        except BaseException:
            self.close()
            raise

    def poll(self) -> Batch:
        """Return up to `max_batch` lines, shared between the inputs, each in order."""
        self._faults("poll")
        messages: list[Message] = []
        after: dict[Place, int] = {}
        for others, name in zip(reversed(range(len(self._inputs))), self._inputs, strict=True):
            room = -((len(messages) - self._max_batch) // (others + 1))
            if room and (part := self._read(name, room)):
                messages += part
                after[name, 0] = part[-1].source.offset + 1
        if messages:
            return Batch(messages=tuple(messages), token=self._cursor.take(after))
        if self._is_following and self._wait is not None:
            self._wait(self._poll_interval_s)
        return Batch(messages=(), is_end=not self._is_following)

    def settle(
        self, batch: Batch, results: Sequence[Result], *, positions: Positions | None = None
    ) -> Committed | Rewound:
        """Append the results, sync them, then replace the offsets; see the contract."""
        if positions is None:
            check_answers(batch, results)
        if self._cursor.is_stale(batch):
            return Rewound(reason=STALE)
        targets = self._cursor.targets(batch, positions)
        parts = _as_lines(results)
        fresh = self._offsets_after(targets, parts)
        try:
            self._write(parts, fresh)
        except OSError as error:
            self._recover()
            if self._offsets != fresh:
                return Rewound(reason=f"could not write to {self._folder}: {error}")
            return Committed(positions=targets)
        self._offsets = fresh
        self._cursor.commit(batch, targets)
        self._forget_marks()
        self._faults("after_commit")
        return Committed(positions=targets)

    def close(self) -> None:
        """Close all files and give the folder back; what is not committed is cut off at the next start."""
        for reader in self._readers.values():
            reader.close()
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def recent_results(self, kind: Kind, *, place: Place, count: int, since: int = 0) -> Sequence[Result]:
        """Return the last committed results of one kind for one input place, oldest first; keys are not kept."""
        name = self._outputs[kind]
        lines = last_lines(self._path(name), length=self._offsets.lengths[name], count=count)
        found = (Result(kind=kind, value=line, key=b"", source=_ECHO.decode(line).source) for line in lines)
        return [r for r in found if (r.source.topic, r.source.partition) == place and r.source.offset >= since]

    def places(self) -> Sequence[Place]:
        """Return the one place of each input."""
        return [(name, 0) for name in self._inputs]

    def assignment(self) -> int:
        """Return 0: the places never change hands."""
        return 0

    def committed(self) -> Positions:
        """Return the committed position of each input, in lines."""
        return dict(self._cursor.committed)

    def lag(self) -> Mapping[Place, int]:
        """Return how many whole lines lie beyond the committed position of each input."""
        return {
            (name, 0): reader.remaining_lines(self._offsets.positions[name], limit=self._limit(name))
            for name, reader in self._readers.items()
        }

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"

    def _offsets_path(self, group: str) -> Path:
        return self._folder / f"penstock-offsets.{group}.json"

    def _check_folder(self) -> None:
        if not self._folder.is_dir():
            raise FolderRefused(f"expected a folder at {self._folder}; make it and put requests.jsonl in it")
        first = self._path(self._inputs[0])
        if not self._is_following and not first.exists():
            raise FolderRefused(f"expected {first.name} in {self._folder}, found none")

    def _recover(self) -> None:
        """Go to what is committed, cutting off everything beyond it."""
        self._offsets = self._read_offsets()
        for kind, name in self._outputs.items():
            if kind not in self._files:
                self._files[kind] = self._path(name).open("ab", buffering=0)  # a buffer would outlive a rewind
            _cut(self._files[kind], self._offsets.lengths[name], path=self._path(name))
        self._marks = {name: [] for name in self._inputs}
        for name, reader in self._readers.items():
            reader.seek(self._offsets.positions[name])
        self._cursor.rewind(_positions(self._offsets))

    def _read_offsets(self) -> Offsets:
        path = self._offsets_path(self._group)
        if path.exists():
            return read_offsets(path)
        used = [self._path(name).name for name in self._outputs.values() if _size(self._path(name))]
        if used:
            raise FolderRefused(
                f"{self._folder} holds {', '.join(used)} but no {path.name}: they were not written by this transport "
                "and would be cut. Move them away."
            )
        offsets = Offsets(
            positions={name: Mark() for name in self._inputs}, lengths=dict.fromkeys(self._outputs.values(), 0)
        )
        replace_durably(path, msgspec.json.encode(offsets))
        return offsets

    def _limit(self, name: str) -> int | None:
        """Return how much of an input may be read: where another group writes it, what that one has committed."""
        for group, outputs in OUTPUTS_OF.items():
            path = self._offsets_path(group)
            if group != self._group and name in outputs.values() and path.exists():
                return read_offsets(path).lengths[name]
        return None

    def _read(self, name: str, count: int) -> list[Message]:
        lines = self._readers[name].read(count, limit=self._limit(name), is_whole=not self._is_following)
        self._marks[name] += [line.after for line in lines]
        return [Message(value=line.value, source=Source(topic=name, partition=0, offset=line.number)) for line in lines]

    def _offsets_after(self, targets: Positions, parts: Mapping[Kind, bytes]) -> Offsets:
        marks = {name: self._mark_of(name, line) for (name, _), line in targets.items()}
        grown = {name: self._offsets.lengths[name] + len(parts.get(kind, b"")) for kind, name in self._outputs.items()}
        return Offsets(positions=self._offsets.positions | marks, lengths=grown)

    def _mark_of(self, name: str, line: int) -> Mark:
        """Return the place before a line: after the last line read that precedes it."""
        best = self._offsets.positions[name]
        for mark in self._marks[name]:
            if mark.line > line:
                break
            best = mark
        return best

    def _forget_marks(self) -> None:
        for name, marks in self._marks.items():
            line = self._offsets.positions[name].line
            self._marks[name] = [mark for mark in marks if mark.line > line]

    def _write(self, parts: Mapping[Kind, bytes], fresh: Offsets) -> None:
        self._faults("before_write")
        for kind, data in parts.items():
            write_all(self._files[kind], data)
            self._faults("written")
        for kind in parts:
            os.fsync(self._files[kind].fileno())
        self._faults("before_commit")
        if fresh != self._offsets:
            replace_durably(self._offsets_path(self._group), msgspec.json.encode(fresh))
        self._faults("committed")


class _Echo(msgspec.Struct, gc=False):
    source: Source


_ECHO: Final = msgspec.json.Decoder(_Echo)


def read_offsets(path: Path) -> Offsets:
    """Read what a group has committed in a folder.

    Raises:
        UnableToResume: the file is not what the transport writes.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Offsets)
    except msgspec.DecodeError as error:
        raise UnableToResume(f"{path} does not hold offsets ({error}); put it back, or empty the folder") from error


def _positions(offsets: Offsets) -> Positions:
    return {(name, 0): mark.line for name, mark in offsets.positions.items()}


def _as_lines(results: Sequence[Result]) -> dict[Kind, bytes]:
    values: dict[Kind, list[bytes]] = {}
    for result in results:
        values.setdefault(result.kind, []).append(result.value)
    parts: dict[Kind, bytes] = {}
    for kind, rows in values.items():
        parts[kind] = b"\n".join(rows) + b"\n"
        if parts[kind].count(b"\n") != len(rows):
            raise ValueError(f"a {kind} holds a line break; a result is one line")
    return parts


def _cut(file: FileIO, length: int, *, path: Path) -> None:
    size = os.fstat(file.fileno()).st_size
    if size < length:
        raise UnableToResume(
            f"{path} has {size} bytes, but {length} were committed: it was cut or replaced. Put it back, or start "
            "with an empty folder."
        )
    if size > length:
        os.ftruncate(file.fileno(), length)
        os.fsync(file.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def lock_path(path: Path) -> int:
    """Lock a file, made where it is missing, and return its descriptor: closing it gives the lock back.

    Raises:
        FolderBusy: another process holds the lock.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise FolderBusy(f"another process works on {path.parent}; stop it, or use another folder") from error
    return descriptor
