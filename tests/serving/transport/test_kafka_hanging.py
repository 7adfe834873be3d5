"""A transaction that hangs is found and aborted, and one that its coordinator knows is let be.

Such are made here as they came about before KIP-890: what a producer sent reaches the broker when its transaction is
long over. The broker of today asks the coordinator first; these tests forbid it to.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError
from kafka.structs import ConsumerGroupMetadata

from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_guarded import ALWAYS, wait_until
from tests.helpers.kafka_hanging import POSITIONS, abort_hanging
from tests.helpers.kafka_proxy import FaultProxy
from tests.helpers.kafka_topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

PATIENT: dict[str, Any] = {"delivery_timeout_ms": 2_500, "request_timeout_ms": 2_000}


@pytest.fixture
def topics(broker: KafkaBroker) -> Topics:
    return Topics(broker.bootstrap, partition_count=1)


@pytest.fixture
def credulous(broker: KafkaBroker) -> Iterator[None]:
    """Let the broker take a transaction's records without asking its coordinator whether it is under way."""
    configure(broker.bootstrap, "false")
    yield
    configure(broker.bootstrap, "true")


def configure(bootstrap: str, value: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        name = {"transaction.partition.verification.enable": value}
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", name)])
    finally:
        admin.close()


def opened(topics: Topics, brokers: str, name: str) -> KafkaProducer:
    """Open a producer, and a transaction of it."""
    producer = KafkaProducer(bootstrap_servers=brokers, transactional_id=f"{topics.prefix}-{name}", **PATIENT)
    producer.init_transactions()
    producer.begin_transaction()
    return producer


def leave_hanging_record(topics: Topics, proxy: FaultProxy) -> None:
    """Let a record arrive once its transaction has been aborted."""
    late = opened(topics, proxy.address, "late")
    proxy.add("Produce", "late", seconds=3.5)
    proxy.add("Produce", "answer", error=6, count=ALWAYS)
    with pytest.raises(KafkaError):
        late.send(topics.name("decisions"), b"late", partition=0).get(10)
    late.abort_transaction()
    proxy.calm()
    wait_until(lambda: proxy.late == 1)
    late.close(timeout=2)


def commit(topics: Topics, value: bytes) -> None:
    producer = opened(topics, topics.bootstrap, "other")
    producer.send(topics.name("decisions"), value, partition=0)
    producer.commit_transaction()
    producer.close(timeout=2)


def committed(topics: Topics) -> list[bytes]:
    return [row.value for row in topics.read("decisions")]


@pytest.mark.usefixtures("credulous")
def test_a_record_that_hangs_hides_what_follows_until_it_is_aborted(topics: Topics, proxy: FaultProxy) -> None:
    leave_hanging_record(topics, proxy)
    commit(topics, b"kept")
    assert committed(topics) == []
    (found,) = abort_hanging(topics.bootstrap, topics=[topics.name("decisions")], older_than_s=0.0)
    assert found.topic_partition == TopicPartition(topics.name("decisions"), 0)
    wait_until(lambda: committed(topics) == [b"kept"])
    assert abort_hanging(topics.bootstrap, topics=[topics.name("decisions")], older_than_s=0.0) == []


def test_a_broker_that_asks_the_coordinator_refuses_what_would_hang(topics: Topics, proxy: FaultProxy) -> None:
    leave_hanging_record(topics, proxy)
    commit(topics, b"kept")
    assert committed(topics) == [b"kept"]
    assert abort_hanging(topics.bootstrap, topics=[topics.name("decisions")], older_than_s=0.0) == []


@pytest.mark.usefixtures("credulous")
def test_positions_that_hang_are_unreadable_until_they_are_aborted(topics: Topics, proxy: FaultProxy) -> None:
    place, group = TopicPartition(topics.name("requests"), 0), f"{topics.prefix}-group"
    late = opened(topics, proxy.address, "late")
    proxy.add("TxnOffsetCommit", "late", seconds=1.0)
    proxy.add("TxnOffsetCommit", "answer", error=22)
    with pytest.raises(KafkaError):
        late.send_offsets_to_transaction({place: OffsetAndMetadata(7, "", -1)}, ConsumerGroupMetadata(group_id=group))
    late.abort_transaction()
    wait_until(lambda: proxy.late == 1)
    late.close(timeout=2)
    consumer = KafkaConsumer(
        bootstrap_servers=topics.bootstrap, group_id=group, enable_auto_commit=False, isolation_level="read_committed"
    )
    with pytest.raises(KafkaError):
        consumer.committed(place, timeout_ms=2_000)
    (found,) = abort_hanging(topics.bootstrap, topics=[topics.name("decisions")], older_than_s=0.0)
    assert found.topic_partition.topic == POSITIONS
    assert consumer.committed(place, timeout_ms=10_000) is None
    consumer.close(autocommit=False)


def test_a_transaction_that_is_under_way_is_let_be(topics: Topics) -> None:
    producer = opened(topics, topics.bootstrap, "open")
    producer.send(topics.name("decisions"), b"open", partition=0).get(10)
    assert abort_hanging(topics.bootstrap, topics=[topics.name("decisions")], older_than_s=0.0) == []
    producer.commit_transaction()
    producer.close(timeout=2)
    assert committed(topics) == [b"open"]
