"""Read back what a worker's places have come to: the last committed results, found from the end of their topic.

Results are spread over partitions by request id, so that those of one input place are found by the source that each
carries. Reading starts some way before the end and begins farther back until enough were found.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, Generic, final

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from policies.events import Source
from serving.contract import Kept, Kind, Place, Recalled, Result
from serving.log import log
from serving.transport.kafka_clients import Connection, Timing, ask_offsets, close_consumer, open_reader
from serving.transport.kafka_life import LifeOver, Refused
from serving.transport.kafka_rights import why_refused

_SLACK: Final = 1.5
_EXTRA: Final = 1_000
"""Offsets beside those of results: each transaction leaves a marker in each partition."""


class _Echo(msgspec.Struct, gc=False):
    source: Source


_ECHO: Final[msgspec.json.Decoder[_Echo]] = msgspec.json.Decoder(_Echo)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Say which results are looked for: how many of each place, all of one input topic, from an offset on."""

    kind: Kind
    topic: str
    counts: Mapping[Place, int]
    since: int = 0
    place_count: int


def read_back(
    wanted: Wanted, *, keep: Callable[[Result], Kept], connection: Connection, timing: Timing
) -> Recalled[Kept]:
    """Return the last committed results of one kind for each input place, oldest first, in one scan for all.

    Transactions of other workers that are under way hold back what may be read; they are waited for as long as one may
    take, and then the results are said to be incomplete.

    Raises:
        Refused: the brokers do not let this worker read them.
        LifeOver: the brokers cannot be reached.
    """
    most = max(wanted.counts.values(), default=0)
    if most < 1:
        return Recalled(found={place: [] for place in wanted.counts}, is_complete=True)
    try:
        return _read_back(wanted, keep, most, connection, timing)
    except AuthorizationError as error:
        raise Refused(f"what was decided is read back at a start: {why_refused(error)}") from error
    except (KafkaError, OSError) as error:
        raise LifeOver(f"what was decided could not be read back: {type(error).__name__}: {error}") from error


def _read_back(
    wanted: Wanted, keep: Callable[[Result], Kept], most: int, connection: Connection, timing: Timing
) -> Recalled[Kept]:
    ends = _log_ends(wanted.topic, connection, timing)
    reader = open_reader(connection, isolation_level="read_committed", timing=timing)
    try:
        reader.assign(list(ends))
        begins = ask_offsets(reader.beginning_offsets, ends)
        span = int(most * wanted.place_count / max(len(ends), 1) * _SLACK) + _EXTRA
        while True:
            starts = {partition: max(begins[partition], end - span) for partition, end in ends.items()}
            scan = _Scan(wanted, keep)
            is_complete = _read(reader, starts, ends, scan, timing)
            if scan.has_enough or starts == begins or not is_complete:
                return Recalled(found=scan.last(), is_complete=is_complete)
            span *= 4
    finally:
        close_consumer(reader)


@final
class _Scan(Generic[Kept]):
    """Keep what is wanted of the records that are read."""

    def __init__(self, wanted: Wanted, keep: Callable[[Result], Kept]) -> None:
        self._wanted, self._keep = wanted, keep
        self._found: dict[Place, list[tuple[int, Kept]]] = {place: [] for place in wanted.counts}

    @property
    def has_enough(self) -> bool:
        return all(len(self._found[place]) >= count for place, count in self._wanted.counts.items())

    def add(self, rows: Sequence[Any]) -> None:
        for row in rows:
            source = _ECHO.decode(row.value).source
            place = self._found.get((source.topic, source.partition))
            if place is not None and source.offset >= self._wanted.since:
                result = Result(self._wanted.kind, row.value, row.key or b"", source, tuple(row.headers))
                place.append((source.offset, self._keep(result)))

    def last(self) -> dict[Place, list[Kept]]:
        """Return the last ones of each place, oldest first."""
        for rows in self._found.values():
            rows.sort(key=_OFFSET)
        return {
            place: [kept for _, kept in rows[max(0, len(rows) - self._wanted.counts[place]) :]]
            for place, rows in self._found.items()
        }


_OFFSET: Final = itemgetter(0)


def _log_ends(topic: str, connection: Connection, timing: Timing) -> dict[TopicPartition, int]:
    """Return where each partition ends, transactions under way included."""
    reader = open_reader(connection, isolation_level="read_uncommitted", timing=timing)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(reader.partitions_for_topic(topic))]
        return ask_offsets(reader.end_offsets, partitions)
    finally:
        close_consumer(reader)


def _read(
    reader: KafkaConsumer,
    starts: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    scan: _Scan[Any],
    timing: Timing,
) -> bool:
    """Read from starts to ends, and say whether an open transaction hid nothing."""
    for partition, start in starts.items():
        reader.seek(partition, start)
    give_up = time.monotonic() + timing.transaction_timeout_ms / 1000 + 5.0
    while any(reader.position(partition) < end for partition, end in ends.items()):
        records = reader.poll(timeout_ms=200, max_records=5_000)
        for rows in records.values():
            scan.add(rows)
        if records:
            give_up = time.monotonic() + timing.transaction_timeout_ms / 1000 + 5.0
        elif time.monotonic() > give_up:
            topics = ", ".join(sorted({partition.topic for partition in ends}))
            log("leave results unread", level="error", topic=topics, reason="an open transaction hides them")
            return False
    return True
