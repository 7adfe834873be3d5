"""What crosses the border: Kafka's records become messages, and results become records."""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, Final

from policies.events import Source
from serving.contract import Kind, Message, Result
from serving.log import log
from serving.transport.kafka_batches import Record
from serving.transport.kafka_topics import choose_partitions, split_topic

ROOM: Final = 1_000_000 + 16 * 1024
"""Bytes of key, value and headers of a result at most: what a broker takes as one record, less the batch around it."""

REDRIVEN: Final = "penstock-redriven"
"""The header that counts how often a message came back from the dead letters."""

_CARRIED: Final = frozenset({"traceparent", "tracestate", REDRIVEN})


def to_message(row: Any) -> Message:
    """Wrap a record, undecoded; one without a value is an empty message."""
    headers = row.headers
    return Message(
        row.value or b"",
        Source(topic=row.topic, partition=row.partition, offset=row.offset),
        row.key,
        carried(headers) if headers else (),
        row.timestamp,
    )


def carried(headers: Sequence[tuple[str, bytes | None]]) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that results pass on."""
    return tuple((n, v) for n, v in headers if v is not None and (n.startswith("ce_") or n in _CARRIED))


def fitting(rows: Sequence[Message], *, room: int) -> Sequence[Message]:
    """Return the first messages whose values have room together."""
    for number, row in enumerate(rows):
        room -= len(row.value)
        if room < 0:
            return rows[:number]
    return rows


def to_records(
    results: Sequence[Result], *, prefix: str, names: Mapping[Kind, str], partitions: Mapping[str, int]
) -> list[Record]:
    """Address results: the topic of their kind beside the one they answer, the partition of their key.

    Args:
        results: of one batch; one that follows from many messages names no topic as its source, and has its domain
            as key.
        prefix: the first part of the topics' names.
        names: the last part of the topic's name for each kind.
        partitions: how many each topic has.
    """
    records: list[Record] = []
    for topic, rows in _by_topic(results, prefix, names).items():
        keys = [row.key for row in rows]
        chosen = choose_partitions(keys, partition_count=partitions[topic])
        fields = zip(repeat(topic), chosen, keys, [row.value for row in rows], [list(row.headers) for row in rows])
        # What `Record(...)` does, without a call of Python for each: there are as many as decisions.
        records += map(tuple.__new__, repeat(Record), fields)
    return records


def _by_topic(results: Sequence[Result], prefix: str, names: Mapping[Kind, str]) -> Mapping[str, Sequence[Result]]:
    """Return results by the topic that they go to, each in a form that a broker takes."""
    found: dict[str, list[Result]] = {}
    rows_by_origin: dict[tuple[str, Kind], list[Result]] = {}
    for result in results:
        origin = result.source.topic, result.kind
        rows = rows_by_origin.get(origin)
        if rows is None:
            stem, _ = split_topic(origin[0])
            rows = found.setdefault(f"{stem or f'{prefix}.{result.key.decode()}'}.{names[origin[1]]}", [])
            if stem:
                rows_by_origin[origin] = rows
        is_small = len(result.value) + len(result.key) <= ROOM and not result.headers
        rows.append(result if is_small else _fit(result))
    return found


def _fit(result: Result) -> Result:
    """Leave out headers, then the key, of a result that a broker would not take with them."""
    size = len(result.value) + len(result.key)
    carried = sum(len(name) + len(value) + 10 for name, value in result.headers)
    if size + carried <= ROOM:
        return result
    log("drop headers", level="warning", topic=result.source.topic, offset=result.source.offset)
    return Result(result.kind, result.value, result.key if size <= ROOM else b"", result.source)
