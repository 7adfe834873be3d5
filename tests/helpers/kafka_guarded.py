"""Guarded workers in the test's own process, quick to give up, and what their tests share."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Final

from kafka import KafkaProducer

from serving.contract import Batch
from serving.transport.kafka import KafkaTransport
from serving.transport.kafka_clients import Connection, Timing
from serving.transport.kafka_life import Faults
from serving.transport.kafka_member import Member
from serving.transport.kafka_open import life_by
from serving.transport.librdkafka import LibrdkafkaLife
from tests.contracts.transport_suite import answer, settle_all
from tests.helpers.kafka_topics import Topics

QUICK: Final = Timing(
    transaction_timeout_ms=8_000,
    session_timeout_ms=2_000,
    heartbeat_ms=200,
    delivery_timeout_ms=1_200,
    request_timeout_ms=1_000,
    offsets_timeout_ms=3_000,
    commit_timeout_ms=4_000,
)
HASTY: Final[dict[str, Any]] = {
    "delivery_timeout_ms": 1_200,
    "request_timeout_ms": 1_000,
    "transaction_timeout_ms": 8_000,
}
"""The same for the naive loop's producer, and below for its consumer."""
BRIEF: Final[dict[str, Any]] = {"session_timeout_ms": 2_000, "heartbeat_interval_ms": 200}

ALWAYS: Final = 1_000_000
"""A count of faults that no test uses up."""


def member_of(transport: object) -> Member:
    """Return the present life of a worker by kafka-python."""
    assert isinstance(transport, KafkaTransport)
    assert isinstance(transport._life, Member)
    return transport._life


def producers_of(transport: object) -> list[KafkaProducer]:
    """Return the producers of a worker's present life, those of partitions in the order of their names."""
    opened = member_of(transport).producers._opened
    return [opened[place].producer for place in sorted(opened, key=str)]


CLIENTS: Final = ("python", "librdkafka")


def life_of(transport: object) -> Member | LibrdkafkaLife:
    """Return the present life of a worker by either library."""
    assert isinstance(transport, KafkaTransport)
    assert isinstance(transport._life, Member | LibrdkafkaLife)
    return transport._life


def guarded(
    topics: Topics,
    brokers: str,
    *,
    name: str = "guarded",
    timing: Timing = QUICK,
    faults: Faults | None = None,
    client: str = "python",
    **more: Any,
) -> KafkaTransport:
    """Open a guarded worker that reaches the broker by an address, through one of the client libraries."""
    settings = topics.settings(instance=name, timing=timing, **more)
    connection = Connection(brokers=(brokers,), client_id=name)
    return KafkaTransport(
        dataclasses.replace(settings, connection=connection),
        partitions=topics.partitions,
        begin_life=life_by(client),
        faults=faults or (lambda step: None),
    )


def answers(batch: Batch) -> list[Any]:
    """Decide each message of a batch."""
    return [answer(message) for message in batch.messages]


def finish(*transports: KafkaTransport) -> None:
    """Work to the end of the input, and leave."""
    for transport in transports:
        settle_all(transport)
        transport.close()


def wait_until(is_so: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    """Wait for a condition."""
    give_up = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up, f"not so after {timeout_s} s"
        time.sleep(0.02)
