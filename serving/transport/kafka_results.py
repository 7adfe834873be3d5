"""Read back what a worker's places have come to: the last committed results, found from the end of their topic.

Results are spread over partitions by request id, so that those of one input place are found by the source that each
carries. Reading starts some way before the end and begins farther back until enough were found.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from policies.events import Source
from serving.contract import Kind, Place, Result
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
    """Say which results are looked for."""

    kind: Kind
    topic: str
    place: Place
    count: int
    since: int
    place_count: int


def read_back(wanted: Wanted, *, connection: Connection, timing: Timing) -> list[Result]:
    """Return the last committed results of one kind for one input place, at most `count`, oldest first.

    Transactions of other workers that are under way hold back what may be read; they are waited for as long as one may
    take.

    Raises:
        Refused: the brokers do not let this worker read them.
        LifeOver: the brokers cannot be reached.
    """
    if wanted.count < 1:
        return []
    try:
        return _read_back(wanted, connection, timing)
    except AuthorizationError as error:
        raise Refused(f"what was decided is read back at a start: {why_refused(error)}") from error
    except (KafkaError, OSError) as error:
        raise LifeOver(f"what was decided could not be read back: {type(error).__name__}: {error}") from error


def _read_back(wanted: Wanted, connection: Connection, timing: Timing) -> list[Result]:
    ends = _log_ends(wanted.topic, connection, timing)
    reader = open_reader(connection, isolation_level="read_committed", timing=timing)
    try:
        reader.assign(list(ends))
        begins = ask_offsets(reader.beginning_offsets, ends)
        span = int(wanted.count * wanted.place_count / max(len(ends), 1) * _SLACK) + _EXTRA
        while True:
            starts = {partition: max(begins[partition], end - span) for partition, end in ends.items()}
            found = _read(reader, starts, ends, wanted, timing)
            if len(found) >= wanted.count or starts == begins:
                return sorted(found, key=lambda result: result.source.offset)[-wanted.count :]
            span *= 4
    finally:
        close_consumer(reader)


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
    wanted: Wanted,
    timing: Timing,
) -> list[Result]:
    for partition, start in starts.items():
        reader.seek(partition, start)
    found: list[Result] = []
    give_up = time.monotonic() + timing.transaction_timeout_ms / 1000 + 5.0
    while any(reader.position(partition) < end for partition, end in ends.items()):
        records = reader.poll(timeout_ms=200, max_records=5_000)
        for rows in records.values():
            found += _matching(rows, wanted)
        if records:
            give_up = time.monotonic() + timing.transaction_timeout_ms / 1000 + 5.0
        elif time.monotonic() > give_up:
            log("leave results unread", level="error", topic=wanted.topic, reason="an open transaction hides them")
            break
    return found


def _matching(rows: Sequence[Any], wanted: Wanted) -> list[Result]:
    found = []
    for row in rows:
        source = _ECHO.decode(row.value).source
        if (source.topic, source.partition) == wanted.place and source.offset >= wanted.since:
            found.append(Result(wanted.kind, row.value, row.key or b"", source, tuple(row.headers)))
    return found
