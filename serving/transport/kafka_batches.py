"""The batches of a transaction, filled here and handed to kafka-python's producer whole.

The client appends one record at a time and keeps a future for each: for the hundreds of records of a transaction that
is most of what sending costs. All records of a batch have one fate, which the batch itself tells. A batch is the
client's own; only its bytes are written here, and a test holds them equal to those that the client writes.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from kafka import KafkaProducer, TopicPartition
from kafka.errors import IllegalStateError, KafkaTimeoutError
from kafka.producer.producer_batch import FinalState, ProducerBatch
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder

from serving.contract import Place

BATCH_BYTES: Final = 512 * 1024
"""Results of one partition that travel as one batch: one round trip for a whole transaction in the usual case."""

PRODUCER_PARTS: Final = (
    "_transaction_manager.maybe_add_partition_to_transaction",
    "_accumulator._appends_in_progress.increment",
    "_accumulator._batches",
    "_accumulator._closed",
    "_accumulator._incomplete.add",
    "_accumulator._tp_lock",
)
"""What of a producer is private and used here."""

BUILDER_PARTS: Final = ("_buffer", "_first_timestamp", "_last_offset", "_max_timestamp", "_num_records")
"""What of the client's builder of batches is private and used here."""

_MAGIC: Final = 2
_UNCOMPRESSED: Final = 0
_HEADER_BYTES: Final = DefaultRecordBatchBuilder.header_size_in_bytes()
_NO_ATTRIBUTES_NO_DELAY: Final = b"\0\0"


class Record(NamedTuple):
    """One result, ready to be sent."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def append_records(producer: KafkaProducer, records: Sequence[Record]) -> list[ProducerBatch]:
    """Hand records of one transaction to the producer's buffer, and return the batches that hold them."""
    rows_by_place: defaultdict[Place, list[Record]] = defaultdict(list)
    for record in records:
        rows_by_place[record[:2]].append(record)
    for topic in {topic for topic, _ in rows_by_place}:
        producer.partitions_for(topic)  # waits for the topic's leaders where they are not known yet
    batches = []
    for place, rows in rows_by_place.items():
        partition = TopicPartition(*place)
        producer._transaction_manager.maybe_add_partition_to_transaction(partition)
        for builder in fill_builders(rows, timestamp_ms=int(time.time() * 1000)):
            batch = ProducerBatch(partition, builder)
            _hand_over(producer._accumulator, batch)
            batches.append(batch)
    return batches


def check_written(batch: ProducerBatch) -> None:
    """Raise where a batch is not known to be written, after a flush.

    A batch that the broker finds too large is split by the client, and is itself never finished.

    Raises:
        KafkaError: it failed, or has no outcome.
    """
    if batch.final_state is FinalState.SUCCEEDED:
        return
    if not batch.is_done:
        raise KafkaTimeoutError("a batch has no outcome after the flush")
    _, _, failure_of = batch.produce_future.value
    raise failure_of(0)


def fill_builders(
    rows: Sequence[Record], *, timestamp_ms: int, batch_bytes: int = BATCH_BYTES
) -> Iterator[MemoryRecordsBuilder]:
    """Write records of one partition into as few batches as hold them.

    Source: Apache Kafka, message format version 2 (org.apache.kafka.common.record.DefaultRecord).
    """
    buffer, count = bytearray(_HEADER_BYTES), 0
    for row in rows:
        body = _body(row, count)
        if count and len(buffer) + len(body) + len(_varint(len(body))) > batch_bytes:
            yield _builder(buffer, count, timestamp_ms)
            buffer, count = bytearray(_HEADER_BYTES), 0
            body = _body(row, 0)
        buffer += _varint(len(body))
        buffer += body
        count += 1
    if count:
        yield _builder(buffer, count, timestamp_ms)


def new_builder() -> MemoryRecordsBuilder:
    """Return an empty builder of the client."""
    return MemoryRecordsBuilder(_MAGIC, _UNCOMPRESSED, BATCH_BYTES)


def _body(row: Record, number: int) -> bytes:
    """Return a record of a batch without its length."""
    _, _, key, value, headers = row
    tail = _headers(headers) if headers else b"\0"
    size = _varint(len(value))
    return b"".join((_NO_ATTRIBUTES_NO_DELAY, _varint(number), _varint(len(key)), key, size, value, tail))


def _headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    parts = [_varint(len(headers))]
    for name, value in headers:
        encoded = name.encode()
        parts += (_varint(len(encoded)), encoded, _varint(len(value)), value)
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _varint(number: int) -> bytes:
    r"""Return a number that is not negative as Kafka writes it: doubled, seven bits a byte, the lowest first.

    >>> _varint(0), _varint(64)
    (b'\x00', b'\x80\x01')
    """
    found, left = bytearray(), number << 1
    while left > 0x7F:
        found.append(0x80 | left & 0x7F)
        left >>= 7
    found.append(left)
    return bytes(found)


def _builder(buffer: bytearray, count: int, timestamp_ms: int) -> MemoryRecordsBuilder:
    """Put written records into a builder of the client, which adds the header as it is sent."""
    builder = new_builder()
    inner: Any = builder._builder
    inner._buffer = buffer
    inner._first_timestamp = inner._max_timestamp = timestamp_ms
    inner._last_offset, inner._num_records = count - 1, count
    builder._next_offset = count
    return builder


def _hand_over(accumulator: Any, batch: ProducerBatch) -> None:
    """Do what the accumulator's own `append` does for a new batch."""
    accumulator._appends_in_progress.increment()
    try:
        with accumulator._tp_lock(batch.topic_partition):
            if accumulator._closed:
                raise IllegalStateError("the producer is closed")
            accumulator._batches[batch.topic_partition].append(batch)
            accumulator._incomplete.add(batch)
    finally:
        accumulator._appends_in_progress.decrement()
