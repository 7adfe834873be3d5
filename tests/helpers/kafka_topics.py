"""Topics of one test: their own prefix, fed and read by clients that know nothing of the transport."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from policies.events import Source
from serving.contract import Kind, Result
from serving.transport.kafka import KafkaTransport
from serving.transport.kafka_clients import Connection, Timing
from serving.transport.kafka_life import Faults, WorkerSettings
from serving.transport.kafka_open import life_by
from tests.helpers.kafka_broker import make_topics

NAMES: dict[Kind, str] = {"decision": "decisions", "dead_letter": "dead-letters", "shadow": "shadow"}
LASTS = ("requests", "decisions", "dead-letters", "shadow")
TIMING = Timing(transaction_timeout_ms=4_000, poll_ms=1_000)


def new_prefix() -> str:
    """Return a prefix of topics that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}"


class Echo(msgspec.Struct):
    """The part of a result that says what it answers."""

    source: Source


class Topics:
    """The topics of one domain on a broker, under a prefix that no other test has."""

    def __init__(
        self, bootstrap: str, *, partition_count: int = 2, domain: str = "demo", prefix: str | None = None
    ) -> None:
        """Make the topics, unless a prefix is given: then they are there."""
        self.bootstrap, self.partition_count, self.domain = bootstrap, partition_count, domain
        self.prefix = prefix or new_prefix()
        self.partitions = {self.name(last): partition_count for last in LASTS}
        self._next = 0
        if prefix is None:
            make_topics(bootstrap, self.partitions)

    @staticmethod
    def connection(bootstrap: str) -> Connection:
        return Connection(brokers=(bootstrap,), client_id="test")

    def name(self, last: str) -> str:
        return f"{self.prefix}.{self.domain}.{last}"

    def feed(self, values: Sequence[bytes], **record: Any) -> None:
        """Append requests, spread over the partitions in turn."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5, batch_size=200_000)
        try:
            for value in values:
                producer.send(self.name("requests"), value, partition=self._next % self.partition_count, **record)
                self._next += 1
            producer.flush(30)
        finally:
            producer.close(5)

    def read(self, last: str, *, isolation_level: str = "read_committed") -> list[Any]:
        """Read a topic from end to end, each partition in order."""
        return list(self.rows(last, isolation_level=isolation_level))

    def rows(self, last: str, *, isolation_level: str = "read_committed") -> Iterator[Any]:
        """Read a topic from end to end, keeping nothing."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level=isolation_level,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        try:
            yield from _read_all(consumer, self.name(last), self.partition_count)
        finally:
            consumer.close()

    def results(self, kind: Kind) -> list[Result]:
        """Return the committed results of one kind."""
        return [
            Result(
                kind=kind, value=row.value, key=row.key or b"", source=msgspec.json.decode(row.value, type=Echo).source
            )
            for row in self.read(NAMES[kind])
        ]

    def settings(self, *, instance: str = "a", timing: Timing = TIMING, **more: Any) -> WorkerSettings:
        more.setdefault("is_finite", True)
        return WorkerSettings(
            connection=Connection(brokers=(self.bootstrap,), client_id=f"test-{instance}"),
            prefix=self.prefix,
            domains=(self.domain,),
            group=f"{self.prefix}-group",
            transactional_id=f"{self.prefix}-group-{instance}",
            timing=timing,
            **more,
        )

    def open(self, *, faults: Faults | None = None, client: str = "python", **more: Any) -> KafkaTransport:
        """Open a worker on the topics."""
        return KafkaTransport(
            self.settings(**more),
            partitions=self.partitions,
            begin_life=life_by(client),
            faults=faults or (lambda step: None),
        )


def _read_all(consumer: KafkaConsumer, topic: str, partition_count: int) -> Iterator[Any]:
    partitions = [TopicPartition(topic, number) for number in range(partition_count)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    while any(consumer.position(partition) < end for partition, end in ends.items()):
        for rows in consumer.poll(timeout_ms=100, max_records=5_000).values():
            yield from rows
