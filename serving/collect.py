"""The collector: records of decisions and outcomes become Parquet files, each record once, and files become feedback.

One file per (topic, partition, first offset) is written whole, then the position is committed. A crash between the two
has the same file written again under the same name. One process works on a folder, which it locks. The join over
collected files is the same fold as the stream's, without a window: the highest revision wins, however late it came.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple, Protocol, final

from policies.errors import Unable, UsageProblem
from policies.events import Decision, Outcome, Source, UnableToDecode, from_bytes
from policies.fold import Folded, Folding
from policies.record_files import Record, merge_files, place_folder, read_records, record_files, sweep, write_records
from policies.spec import PolicySpec
from serving.contract import Place, Positions
from serving.log import log
from serving.metrics import Metrics
from serving.transport.file import lock_path

FILE_BYTES: Final = 64 * 1024 * 1024
"""Keys and values of a file at most, before compression."""

_HOUR: Final = 3_600_000_000


class CollectionTorn(Unable):
    """The committed position of a partition and its files do not fit together."""


class RecordsLost(Unable):
    """Records were deleted from a topic before they were collected."""


class NothingCollected(UsageProblem):
    """There are no files to join."""


class Stream(Protocol):
    """Where records are collected from."""

    def begins(self) -> Positions:
        """Return the first offset that each place to collect still has; places that came since are among them."""

    def committed(self) -> Positions:
        """Return the committed position of each place that has one."""

    def seek(self, positions: Positions) -> None:
        """Read from here on."""

    def poll(self) -> Mapping[Place, Sequence[Record]]:
        """Return what has come, each place in order."""

    def commit(self, positions: Positions) -> None:
        """Keep positions."""

    def is_at_end(self) -> bool:
        """Say whether everything was read that was there at the start."""


class Limits(NamedTuple):
    """Say when a file is full: by rows, by bytes, or, when following, by the age of its first row.

    `look_s` is how often one that follows looks for new partitions.
    """

    rows: int = 50_000
    file_bytes: int = FILE_BYTES
    age_s: float = 60.0
    look_s: float = 30.0


@dataclass(kw_only=True)
class Collected:
    """Count what was collected."""

    records: Counter[str] = field(default_factory=Counter)
    files: int = 0
    merged: int = 0


@dataclass(kw_only=True)
class _Buffer:
    records: list[Record] = field(default_factory=list)
    size: int = 0
    since_s: float = 0.0


@final
class Collector:
    """Write what a stream brings into files of one folder."""

    def __init__(
        self, stream: Stream, folder: Path, *, limits: Limits, seconds: Callable[[], float], metrics: Metrics
    ) -> None:
        """Find where to go on.

        Raises:
            CollectionTorn, RecordsLost: one cannot go on without records missing or twice.
        """
        self._stream, self._folder, self._limits = stream, folder, limits
        self._seconds, self._metrics = seconds, metrics
        self._buffers: dict[Place, _Buffer] = {}
        self._next: dict[Place, int] = {}
        self.collected = Collected()
        self._look()

    def run(
        self,
        *,
        follow: bool,
        is_stopped: Callable[[], bool],
        note: Callable[[], None] = lambda: None,
        tend: Callable[[], int] = lambda: 0,
    ) -> Collected:
        """Collect to the current end, or until stopped; what was polled is written in either case.

        Args:
            follow: whether to go on beyond the current end.
            is_stopped: says whether to stop.
            note: called after each round, to show that it came round.
            tend: called in each round when following; merges some files and returns how many went.

        Raises:
            CollectionTorn, RecordsLost: one cannot go on without records missing or twice.
        """
        while not is_stopped() and (follow or not self._stream.is_at_end()):
            self.take(self._stream.poll())
            note()
            if follow:
                self._write_old()
                if self._seconds() - self._looked_s >= self._limits.look_s:
                    self._look()
                self.collected.merged += tend()
        for place in list(self._buffers):
            self._write(place)
        return self.collected

    def take(self, polled: Mapping[Place, Sequence[Record]]) -> None:
        """Keep records until a file is full, and write the full ones.

        Raises:
            RecordsLost: the place has lost records since the last ones.
        """
        for place, records in polled.items():
            self._check_loss(place, records[0].offset)
            self._next[place] = records[-1].offset + 1
            for record in records:
                buffer = self._buffers.get(place)
                if buffer is None:
                    buffer = self._buffers[place] = _Buffer(since_s=self._seconds())
                buffer.records.append(record)
                buffer.size += len(record.key or b"") + len(record.value or b"")
                if len(buffer.records) >= self._limits.rows or buffer.size >= self._limits.file_bytes:
                    self._write(place)

    def _look(self) -> None:
        """Find the places to collect, and where to begin in those that are new."""
        self._looked_s = self._seconds()
        new = {place: begin for place, begin in self._stream.begins().items() if place not in self._next}
        if not new:
            return
        committed = self._stream.committed()
        for place, begin in new.items():
            self._next[place] = where_to_resume(place, self._files(place), begin=begin, committed=committed.get(place))
        self._stream.seek(self._next)
        log("collect partitions", places=", ".join(f"{topic}/{partition}" for topic, partition in sorted(new)))

    def _write_old(self) -> None:
        oldest_s = self._seconds() - self._limits.age_s
        for place, buffer in list(self._buffers.items()):
            if buffer.since_s <= oldest_s:
                self._write(place)

    def _write(self, place: Place) -> None:
        """Write a file, and only then commit the position after it."""
        records = self._buffers.pop(place).records
        topic, partition = place
        write_records(records, folder=place_folder(self._folder, topic=topic, partition=partition))
        self._stream.commit({place: records[-1].offset + 1})
        self.collected.records[topic] += len(records)
        self.collected.files += 1
        self._metrics.counter("penstock_collected_records_total", topic).inc(len(records))

    def _check_loss(self, place: Place, first: int) -> None:
        """Tell offsets that hold no record, such as markers of transactions, from records that were deleted."""
        if first > self._next[place] and (begin := self._stream.begins()[place]) > self._next[place]:
            raise _lost(place, self._next[place], begin)

    def _files(self, place: Place) -> Path:
        return place_folder(self._folder, topic=place[0], partition=place[1])


def where_to_resume(place: Place, folder: Path, *, begin: int, committed: int | None) -> int:
    """Return the offset to collect from: the committed one, or where the files end when the broker has forgotten it.

    Args:
        place: what is collected.
        folder: of its files; leftovers of a merge are removed.
        begin: the first offset that the topic still has.
        committed: the committed position, if any.

    Raises:
        CollectionTorn: the position lies within a file, or before more than one.
        RecordsLost: the topic has lost records that were not collected.
    """
    sweep(folder)
    files = record_files(folder)
    position = (files[-1].last + 1 if files else begin) if committed is None else committed
    straddling = [file for file in files if file.first < position <= file.last]
    ahead = [file for file in files if file.first >= position]
    if straddling or len(ahead) > 1:  # one file ahead is what a crash leaves; it is written again
        torn = (straddling or ahead)[0]
        raise CollectionTorn(
            f"{place[0]}/{place[1]} is to be collected from offset {position}, but {torn.path} holds offsets "
            f"{torn.first} to {torn.last}; set the group's position to the end of the files, or collect into an "
            "empty folder"
        )
    if position < begin:
        raise _lost(place, position, begin)
    return position


def _lost(place: Place, position: int, begin: int) -> RecordsLost:
    return RecordsLost(
        f"{place[0]}/{place[1]} was to be collected from offset {position}, but begins at {begin} now: records were "
        "deleted before they were collected. Set the group's position where that loss is accepted"
    )


def compact(folder: Path, *, now: int) -> int:
    """Merge the files of each partition that begin in the same hour, once that hour is over; return how many went.

    The last file of each partition is left alone until another one follows.

    Args:
        folder: of the collector, which must not write at the same time.
        now: microseconds since 1970 in UTC.
    """
    return sum(_compact_place(place, now=now) for place in _place_folders(folder))


def _place_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.is_dir())


def _compact_place(place: Path, *, now: int) -> int:
    """Compact one partition, but for its last file.

    A crash may have left that one without its position, and then it is written again from where it begins: merged into
    another, it would be there twice.
    """
    sweep(place)
    gone = 0
    for hour, group in groupby(record_files(place)[:-1], key=lambda file: file.time // _HOUR):
        files = list(group)
        if (hour + 1) * _HOUR <= now and len(files) > 1:
            merge_files(files)
            gone += len(files) - 1
    return gone


@final
class Compaction:
    """Compact every hour while a collector goes on, one partition a round, so that nothing waits for long."""

    def __init__(
        self, folder: Path, *, now: Callable[[], int], seconds: Callable[[], float], every_s: float = 3600.0
    ) -> None:
        """Begin at the first step.

        Args:
            folder: of the collector.
            now: microseconds since 1970 in UTC.
            seconds: a monotonic clock.
            every_s: how long after the beginning of one round the next one begins.
        """
        self._folder, self._now, self._seconds, self._every_s = folder, now, seconds, every_s
        self._next_s = seconds()
        self._due: list[Path] = []

    def step(self) -> int:
        """Compact the next partition that is due, and return how many files went."""
        if self._seconds() >= self._next_s:
            self._next_s = self._seconds() + self._every_s
            self._due = _place_folders(self._folder)
        if not self._due:
            return 0
        place = self._due.pop(0)
        gone = _compact_place(place, now=self._now())
        if gone:
            log("merge files", topic=place.parent.name, partition=int(place.name), merged=gone)
        return gone


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Hold what the collected files fold to, and how many of their records could not be read."""

    folded: Folded
    unreadable: int


def join(folder: Path, *, stem: str, spec: PolicySpec, as_of: int) -> Joined:
    """Fold all collected decisions of a domain with all its outcomes.

    Args:
        folder: of the collector.
        stem: prefix and domain, the first parts of the topics' names.
        spec: of the domain.
        as_of: microseconds since 1970 in UTC; rewards whose horizon is over by then take their default.

    Raises:
        NothingCollected: there are no decisions.
        UnableToFold, UnableToReadRecords: a record contradicts the spec, or a file is none.
    """
    folding = Folding(spec)
    unreadable = decisions = 0
    for source, record in _records(folder, f"{stem}.decisions"):
        try:
            folding.add([from_bytes(record.value or b"", Decision)])
            decisions += 1
        except UnableToDecode as error:
            unreadable += 1
            log("skip record", level="warning", topic=source.topic, offset=source.offset, reason=str(error))
    for source, record in _records(folder, f"{stem}.outcomes"):
        try:
            folding.add(outcomes=[(from_bytes(record.value or b"", Outcome), source)])
        except UnableToDecode as error:
            unreadable += 1
            log("skip record", level="warning", topic=source.topic, offset=source.offset, reason=str(error))
    if not decisions:
        raise NothingCollected(f"expected files of decisions at {folder / f'{stem}.decisions'}, found none")
    return Joined(folded=folding.result(as_of=as_of), unreadable=unreadable)


def _records(folder: Path, topic: str) -> Iterator[tuple[Source, Record]]:
    places = sorted(
        (path for path in (folder / topic).glob("*") if path.name.isdigit()), key=lambda path: int(path.name)
    )
    for place in places:
        for record in read_records(place):
            yield Source(topic=topic, partition=int(place.name), offset=record.offset), record


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder to this process.

    Raises:
        FolderBusy: another process collects into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = lock_path(folder / ".penstock-collect.lock")
    try:
        yield
    finally:
        os.close(descriptor)
