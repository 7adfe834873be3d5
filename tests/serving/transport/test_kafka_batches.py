"""Batches filled here are those that the client would have filled itself."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.errors import IllegalStateError, KafkaTimeoutError, NotLeaderForPartitionError
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record.memory_records import MemoryRecordsBuilder

from serving.transport.kafka_batches import (
    Record,
    append_records,
    check_written,
    fill_builders,
)

TIME_MS = 1_780_000_000_000

headers = st.lists(st.tuples(st.text(max_size=70), st.binary(max_size=70)), max_size=3)
sizes = st.one_of(st.binary(max_size=200), st.integers(8_100, 8_300).map(bytes), st.integers(0, 70_000).map(bytes))
rows = st.lists(st.builds(Record, st.just("t"), st.just(0), st.binary(max_size=80), sizes, headers), max_size=90)


class Manager:
    """Stands for the part of a producer that knows what its transaction writes to."""

    def __init__(self) -> None:
        self.added: list[TopicPartition] = []

    def maybe_add_partition_to_transaction(self, partition: TopicPartition) -> None:
        self.added.append(partition)


def producer() -> SimpleNamespace:
    """Return a producer that is never drained: its accumulator is the client's own."""
    return SimpleNamespace(
        _accumulator=RecordAccumulator(), _transaction_manager=Manager(), partitions_for=lambda topic: {0, 1}
    )


def by_the_client(records: Sequence[Record], batch_bytes: int) -> list[bytes]:
    """Return the batches that the client itself makes of the records."""
    builders: list[MemoryRecordsBuilder] = []
    for row in records:
        if not builders or builders[-1].append(TIME_MS, row.key, row.value, row.headers) is None:
            builders.append(MemoryRecordsBuilder(2, 0, batch_bytes))
            builders[-1].append(TIME_MS, row.key, row.value, row.headers)
    return finished(builders)


def finished(builders: Sequence[MemoryRecordsBuilder]) -> list[bytes]:
    for builder in builders:
        builder.set_producer_state(4, 2, 17, True)
        builder.close()
    return [bytes(builder.buffer()) for builder in builders]


def batch() -> ProducerBatch:
    (filled,) = fill_builders([Record("t", 0, b"k", b"v", [])], timestamp_ms=TIME_MS)
    return ProducerBatch(TopicPartition("t", 0), filled)


@given(records=rows, batch_bytes=st.sampled_from([200, 16_384, 524_288]))
def test_filled_batches_hold_the_bytes_of_the_clients_own(records: list[Record], batch_bytes: int) -> None:
    filled = list(fill_builders(records, timestamp_ms=TIME_MS, batch_bytes=batch_bytes))
    assert sum(builder.next_offset() for builder in filled) == len(records)
    assert finished(filled) == by_the_client(records, batch_bytes)


def test_records_wait_in_one_batch_for_each_partition_until_they_are_drained() -> None:
    one = producer()
    records = [Record("t", number % 2, b"k", b"v", []) for number in range(5)]
    batches = append_records(one, records)
    assert [(batch.topic_partition.partition, batch.record_count) for batch in batches] == [(0, 3), (1, 2)]
    assert set(one._transaction_manager.added) == {batch.topic_partition for batch in batches}
    assert set(one._accumulator._incomplete.all()) == set(batches)
    assert all(list(one._accumulator._batches[batch.topic_partition]) == [batch] for batch in batches)
    assert one._accumulator._appends_in_progress.get() == 0


def test_a_closed_producer_takes_no_batch() -> None:
    one = producer()
    one._accumulator.close()
    with pytest.raises(IllegalStateError, match="closed"):
        append_records(one, [Record("t", 0, b"k", b"v", [])])
    assert not one._accumulator.has_incomplete


def test_a_batch_that_the_broker_took_is_written() -> None:
    done = batch()
    done.complete(7, -1)
    check_written(done)


def test_a_batch_that_failed_says_why() -> None:
    failed = batch()
    error = NotLeaderForPartitionError("moved")
    failed.complete_exceptionally(error, lambda _: error)
    with pytest.raises(NotLeaderForPartitionError, match="moved"):
        check_written(failed)


def test_an_aborted_batch_says_why() -> None:
    aborted = batch()
    aborted.abort(IllegalStateError("closed forcefully"))
    with pytest.raises(IllegalStateError, match="closed forcefully"):
        check_written(aborted)


def test_a_batch_that_the_client_has_split_is_not_written_whatever_becomes_of_its_parts() -> None:
    accumulator = RecordAccumulator()
    records = [Record("t", 0, b"k", b"v", []) for _ in range(4)]
    (filled,) = fill_builders(records, timestamp_ms=TIME_MS)
    filled.close()
    whole = ProducerBatch(TopicPartition("t", 0), filled)
    assert accumulator.split_and_reenqueue(whole) == 2
    for part in accumulator._batches[whole.topic_partition]:
        part.complete(0, -1)
    with pytest.raises(KafkaTimeoutError, match="no outcome"):
        check_written(whole)
