"""Transactions that hang: open at a partition, while their coordinator holds them to be over.

Apache Kafka 4.3.1 leaves such after SIGKILL and restart with a commit or abort under way: the coordinator goes on to a
complete state and no marker is written. What was written stays invisible and committed positions unreadable, for ever.
The remedy is the administrator's (KIP-664): find them, and write the abort markers.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import AbortTransactionSpec, ConfigResource, ConfigResourceType

POSITIONS: Final = "__consumer_offsets"


def abort_hanging(brokers: str, *, topics: Sequence[str], older_than_s: float) -> list[Any]:
    """Abort what hangs in some topics and among the committed positions, and return what it was."""
    admin = KafkaAdminClient(bootstrap_servers=brokers, request_timeout_ms=10_000)
    try:
        found = _hanging(admin, [*topics, POSITIONS], older_than_s)
        for spec in found:
            admin.abort_transaction(spec)
        return found
    finally:
        admin.close()


def _hanging(admin: Any, topics: Sequence[str], older_than_s: float) -> list[Any]:
    described = admin.describe_topics(list(topics))
    places = [TopicPartition(t["name"], p["partition_index"]) for t in described for p in t["partitions"]]
    under_way = {
        row.producer_id
        for rows in admin.list_transactions().values()
        for row in rows
        if row.state.value not in ("Empty", "CompleteCommit", "CompleteAbort", "Dead")
    }
    before_ms = (time.time() - older_than_s) * 1000
    return [
        # The client's own default for the coordinator's epoch, -1, is refused by the broker as outdated.
        AbortTransactionSpec(place, row.producer_id, row.producer_epoch, max(0, row.coordinator_epoch))
        for place, state in admin.describe_producers(places).items()
        for row in state.active_producers
        if row.current_transaction_start_offset >= 0
        and row.last_timestamp < before_ms
        and row.producer_id not in under_way
    ]


@contextmanager
def leaving_unverified(brokers: str) -> Iterator[None]:
    """Let a broker take records of transactions that their coordinator knows nothing of, as it did before KIP-890."""
    admin = KafkaAdminClient(bootstrap_servers=brokers)
    try:
        _verify(admin, "false")
        try:
            yield
        finally:
            _verify(admin, "true")
    finally:
        admin.close()


def _verify(admin: Any, value: str) -> None:
    settings = {"transaction.partition.verification.enable": value}
    admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", settings)])


def leave_hanging(brokers: str, place: TopicPartition) -> None:
    """Write in a transaction that its coordinator has never heard of, and go away."""
    producer = KafkaProducer(bootstrap_servers=brokers, transactional_id=f"{place.topic}-hanging", max_block_ms=10_000)
    producer.init_transactions()
    producer.begin_transaction()
    producer.partitions_for(place.topic)
    producer._transaction_manager._partitions_in_transaction.add(place)
    producer.send(place.topic, b"{}", partition=place.partition).get(10)
    producer._sender.force_close()
    producer._sender.join(5.0)
    producer._closed = True
