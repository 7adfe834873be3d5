"""The loop that the client's documentation leads to: consume, decide, produce, commit the transaction.

It is the control of the hazards: where the guarded transport holds, this loop must fail, or the provocation proves
nothing. It trusts what the client returns, asks for the group's metadata when it commits, and after an error aborts and
goes back to what is committed.
"""

from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from serving.transport.kafka_records import to_message
from tests.contracts.transport_suite import answer
from tests.helpers.kafka_topics import Topics

Pause = Callable[[str], None]


def no_pause(step: str) -> None:
    """Go on."""


class NaiveLoop:
    """One worker of a group of its own kind; `turn` polls and decides one batch."""

    def __init__(
        self,
        topics: Topics,
        *,
        brokers: str,
        name: str = "naive",
        pause: Pause = no_pause,
        producer: dict[str, Any] | None = None,
        consumer: dict[str, Any] | None = None,
    ) -> None:
        self.topics, self.pause = topics, pause
        self.requests, self.decisions = topics.name("requests"), topics.name("decisions")
        self.group = f"{topics.prefix}-group"
        self.consumer = KafkaConsumer(
            self.requests,
            **{
                "bootstrap_servers": brokers,
                "client_id": name,
                "group_id": self.group,
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                **(consumer or {}),
            },
        )
        self.producer = KafkaProducer(
            **{
                "bootstrap_servers": brokers,
                "client_id": name,
                "transactional_id": f"{topics.prefix}-{name}",
                **(producer or {}),
            }
        )
        self.producer.init_transactions()

    def poll(self, *, count: int, turns: int = 60) -> dict[TopicPartition, list[Any]]:
        """Poll until so many requests are there, or no more come."""
        found: dict[TopicPartition, list[Any]] = {}
        for _ in range(turns):
            for place, rows in self.consumer.poll(timeout_ms=250, max_records=count).items():
                found.setdefault(place, []).extend(rows)
            if sum(map(len, found.values())) >= count:
                break
        return found

    def decide(self, records: dict[TopicPartition, list[Any]]) -> None:
        """Answer requests in one transaction.

        Raises:
            KafkaError: the client says that it did not go well.
        """
        self.producer.begin_transaction()
        for place, rows in records.items():
            for row in rows:
                self.producer.send(self.decisions, answer(to_message(row)).value, partition=place.partition)
        self.pause("sent")
        ends = {place: OffsetAndMetadata(rows[-1].offset + 1, "", -1) for place, rows in records.items()}
        self.producer.send_offsets_to_transaction(ends, self.consumer.group_metadata())
        self.pause("before_commit")
        self.producer.commit_transaction()

    def turn(self, *, count: int = 100, turns: int = 4) -> int:
        """Poll and decide; after an error abort and go back to what is committed. Return how many were decided."""
        records = self.poll(count=count, turns=turns)
        if not records:
            return 0
        try:
            self.decide(records)
        except KafkaError:
            self.producer.abort_transaction()
            self.rewind()
            return 0
        return sum(map(len, records.values()))

    def rewind(self) -> None:
        """Go back to what is committed."""
        for place in self.consumer.assignment():
            self.consumer.seek(place, self.consumer.committed(place) or 0)

    def drain(self) -> None:
        """Turn until nothing comes."""
        while self.turn():
            pass

    def close(self) -> None:
        self.consumer.close(autocommit=False)
        self.producer._sender.force_close()
        self.producer._sender.wakeup()
