"""Hazards of the client, each provoked on a real broker: the guard holds, and the documented loop fails there."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, NotLeaderForPartitionError
from kafka.structs import ConsumerGroupMetadata

from policies.events import Source
from serving.contract import Batch, Committed, Rewound
from serving.transport.kafka import KafkaTransport, NameTaken, OffsetLost
from serving.transport.kafka_clients import Timing, close_producer, open_producer
from serving.transport.kafka_guard import Membership, transact, why_stale
from serving.transport.kafka_life import CommitUnanswered
from tests.contracts.transport_suite import CrashError, answer, requests, settle_all
from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_guarded import member_of
from tests.helpers.kafka_topics import TIMING, Topics
from tests.helpers.kafka_versions import transaction_version

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

QUICK = Timing(
    transaction_timeout_ms=8_000,
    delivery_timeout_ms=1_200,
    request_timeout_ms=1_000,
    offsets_timeout_ms=3_000,
    commit_timeout_ms=1_500,
)


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return Topics(bootstrap)


@pytest.fixture
def pausable(broker: KafkaBroker) -> Iterator[KafkaBroker]:
    """Hand out the broker, and let it go on at the end whatever the test came to."""
    yield broker
    broker.resume()


def answers(batch: Batch) -> list[Any]:
    return [answer(message) for message in batch.messages]


def sources(topics: Topics) -> Counter[str]:
    return Counter(str(r.source) for kind in ("decision", "dead_letter") for r in topics.results(kind))


def committed_offset(topics: Topics, partition: int, *, group: str | None = None) -> int | None:
    consumer = KafkaConsumer(
        bootstrap_servers=topics.bootstrap, group_id=group or f"{topics.prefix}-group", enable_auto_commit=False
    )
    try:
        found: int | None = consumer.committed(TopicPartition(topics.name("requests"), partition), timeout_ms=10_000)
        return found
    finally:
        consumer.close()


def raw_producer(topics: Topics, name: str, **settings: Any) -> KafkaProducer:
    producer = KafkaProducer(bootstrap_servers=topics.bootstrap, transactional_id=f"{topics.prefix}-{name}", **settings)
    producer.init_transactions()
    return producer


def offsets(topics: Topics, positions: dict[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    name = topics.name("requests")
    return {TopicPartition(name, number): OffsetAndMetadata(offset, "", -1) for number, offset in positions.items()}


def refuse_sends(producer: KafkaProducer) -> None:
    """Answer every send NOT_LEADER_OR_FOLLOWER, as a broker does while leaders move; all else goes through."""
    sender = producer._sender

    def refuse(batches_by_node: dict[int, list[Any]]) -> dict[int, Any]:
        for node, batches in batches_by_node.items():
            sender._failed_produce(batches, node, NotLeaderForPartitionError())
        return {}

    sender._create_produce_requests = refuse


def test_h1_a_send_that_timed_out_is_not_committed(topics: Topics) -> None:
    topics.feed(requests(4))
    transport = topics.open(timing=QUICK)
    batch = transport.poll()
    refuse_sends(member_of(transport).producer)
    settled = transport.settle(batch, answers(batch))
    assert isinstance(settled, Rewound)
    assert sources(topics) == {}
    settle_all(transport)
    transport.close()
    assert set(sources(topics).values()) == {1}
    assert len(sources(topics)) == 4


def test_h1_the_documented_loop_commits_without_the_record(topics: Topics) -> None:
    producer = raw_producer(topics, "naive", delivery_timeout_ms=1_200, request_timeout_ms=1_000)
    refuse_sends(producer)
    producer.begin_transaction()
    producer.send(topics.name("decisions"), b"{}", partition=0)
    producer.send_offsets_to_transaction(offsets(topics, {0: 2}), f"{topics.prefix}-group")
    producer.commit_transaction()
    producer.close(timeout=1)
    assert committed_offset(topics, 0) == 2
    assert topics.read("decisions") == []


@pytest.mark.parametrize("moment", ["sent", "before_commit", "commit sent"])
def test_h2_an_epoch_that_changes_within_a_transaction_rewinds_it(
    topics: Topics, monkeypatch: pytest.MonkeyPatch, moment: str, record_property: Callable[[str, object], None]
) -> None:
    topics.feed(requests(4))
    bumped: list[str] = []

    def bump(step: str) -> None:
        if step == moment and not bumped:
            bumped.append(step)
            member_of(transport).producer._transaction_manager.bump_producer_id_and_epoch()

    transport = topics.open(timing=QUICK, faults=bump)
    batch = transport.poll()
    manager = member_of(transport).producer._transaction_manager
    begin_commit = manager.begin_commit

    def bump_while_the_commit_waits() -> Any:
        result = begin_commit()
        bump("commit sent")
        return result

    monkeypatch.setattr(manager, "begin_commit", bump_while_the_commit_waits)
    if moment == "commit sent" and transaction_version() < 2:  # the broker refuses the epoch, as it does a namesake's
        record_property("seen", "the worker takes it for a namesake and ends; its next start: 0 missing, 0 double")
        with pytest.raises(NameTaken):
            transport.settle(batch, answers(batch))
        transport.close()
        transport = topics.open(timing=QUICK)
        settle_all(transport)
        transport.close()
        assert set(sources(topics).values()) == {1}
        return
    settled = transport.settle(batch, answers(batch))
    assert bumped == [moment]
    assert isinstance(settled, Committed if sources(topics) else Rewound)
    settle_all(transport)
    transport.close()
    assert set(sources(topics).values()) == {1}
    assert len(sources(topics)) == 4


def test_h3_positions_of_a_refused_transaction_never_come_back(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    topics.feed(requests(8))
    transport = topics.open(max_batch=4)
    first = transport.poll()
    assert isinstance(transport.settle(first, answers(first)), Committed)
    second = transport.poll()
    member = member_of(transport)
    assert member.membership is not None
    metadata = member.membership.metadata
    stale = member.membership._replace(metadata=metadata._replace(generation_id=metadata.generation_id - 1 or 99))
    monkeypatch.setattr(member, "membership", stale)
    monkeypatch.setattr(member, "present", lambda: stale)  # past our own check, so that it is the broker who refuses
    assert isinstance(transport.settle(second, answers(second)), Rewound)
    assert member_of(transport).producer is not member.producer
    settle_all(transport)
    transport.close()
    assert set(sources(topics).values()) == {1}
    assert len(sources(topics)) == 8


def test_h3_the_documented_loop_rewinds_a_partition(topics: Topics) -> None:
    group = f"{topics.prefix}-group"
    producer = raw_producer(topics, "naive")
    producer.begin_transaction()
    producer.send_offsets_to_transaction(offsets(topics, {0: 1, 1: 100}), group)
    producer.commit_transaction()
    producer.begin_transaction()
    with pytest.raises(KafkaError):
        producer.send_offsets_to_transaction(
            offsets(topics, {0: 5, 1: 50}), ConsumerGroupMetadata(group, 7, "nobody", None)
        )
    producer.abort_transaction()
    producer.begin_transaction()
    producer.send_offsets_to_transaction(offsets(topics, {0: 6}), group)
    producer.commit_transaction()
    producer.close(timeout=1)
    assert committed_offset(topics, 1) == 50


def leave(transport: KafkaTransport) -> Membership | None:
    """Take a worker out of its group as a session that timed out does: its generation is gone, it holds a batch."""
    member = member_of(transport)
    coordinator = member.consumer._coordinator
    member.consumer._net.run(coordinator.maybe_leave_group_async)
    return member.membership


def test_h4_a_zombie_is_refused_and_each_request_has_one_result(topics: Topics) -> None:
    topics.feed(requests(6))
    zombie = topics.open(instance="a")
    batch = zombie.poll()
    assert len(batch.messages) == 6
    leave(zombie)
    successor = topics.open(instance="b")
    settle_all(successor)
    successor.close()
    assert isinstance(zombie.settle(batch, answers(batch)), Rewound)
    settle_all(zombie)
    zombie.close()
    assert set(sources(topics).values()) == {1}
    assert len(sources(topics)) == 6


def test_h4_metadata_taken_late_fences_nobody(topics: Topics) -> None:
    topics.feed(requests(6))
    zombie = topics.open(instance="a")
    zombie.poll()
    leave(zombie)
    successor = topics.open(instance="b")
    settle_all(successor)
    member = member_of(zombie)
    late = member.present()
    assert member.membership is not None
    assert why_stale(member.membership, late) is not None
    transact(
        member.producer,
        [],
        positions={(topics.name("requests"), 0): 1},
        marker="",
        membership=late,
        identity=member.identity,
        timing=TIMING,
        faults=lambda step: None,
    )
    successor.close()
    zombie.close()
    assert committed_offset(topics, 0) == 1


def test_h8_a_commit_whose_answer_was_lost_is_found_committed(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    topics.feed(requests(3))
    transport = topics.open()
    batch = transport.poll()
    producer = member_of(transport).producer
    manager = producer._transaction_manager
    begin_commit = manager.begin_commit

    def lose_the_answer() -> Any:
        result = begin_commit()
        producer._sender.wakeup()
        result.wait(timeout_ms=5_000)
        raise KafkaError("the answer was lost")

    monkeypatch.setattr(manager, "begin_commit", lose_the_answer)
    assert isinstance(transport.settle(batch, answers(batch)), Committed)
    settle_all(transport)
    transport.close()
    assert set(sources(topics).values()) == {1}


def test_h9_a_commit_without_an_answer_ends_the_worker(pausable: KafkaBroker, topics: Topics) -> None:
    def pause_before_the_commit(step: str) -> None:
        if step == "before_commit":
            pausable.pause()

    topics.feed(requests(3))
    impatient = replace(QUICK, commit_timeout_ms=500)
    transport = topics.open(timing=impatient, faults=pause_before_the_commit)
    batch = transport.poll()
    with pytest.raises(CommitUnanswered):
        transport.settle(batch, answers(batch))
    pausable.resume()
    transport.close()
    settle_all(successor := topics.open())
    successor.close()
    assert set(sources(topics).values()) == {1}
    assert len(sources(topics)) == 3


def test_h13_a_worker_joins_once(topics: Topics) -> None:
    topics.feed(requests(1))
    transport = topics.open(is_finite=False)
    for _ in range(2):
        transport.poll()
    membership = member_of(transport).membership
    transport.close()
    assert membership is not None
    assert membership.metadata.generation_id == 1


@pytest.mark.parametrize("is_guarded", [True, False])
def test_h15_only_a_forced_producer_stays_silent(pausable: KafkaBroker, topics: Topics, is_guarded: bool) -> None:
    connection = topics.settings().connection
    producer = open_producer(connection, transactional_id=f"{topics.prefix}-x", timing=TIMING)
    producer.partitions_for(topics.name("decisions"))
    pausable.pause()
    producer.begin_transaction()
    producer.send(topics.name("decisions"), b"{}", partition=0)
    producer._transaction_manager.begin_commit()
    if is_guarded:
        close_producer(producer)
    else:
        with pytest.raises(KafkaTimeoutError):
            producer.close(timeout=0)
    pausable.resume()
    # The abandoned sender is given the time that it needs to commit by itself; a reader sees whether it did.
    give_up = time.monotonic() + 2.0
    while not (found := topics.read("decisions")) and time.monotonic() < give_up:
        pass
    close_producer(producer)
    assert len(found) == (0 if is_guarded else 1)


def test_h16_a_successor_waits_for_positions_that_are_under_way(topics: Topics) -> None:
    def crash(step: str) -> None:
        if step == "before_commit":
            raise CrashError(step)

    topics.feed(requests(6))
    stopped = topics.open(instance="a", faults=crash)
    batch = stopped.poll()
    with pytest.raises(CrashError):
        stopped.settle(batch, answers(batch))
    stopped.close()
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(topics.open, instance="b")
        with pytest.raises(TimeoutError):
            opening.result(timeout=1.5)
        close_producer(
            open_producer(
                topics.settings().connection,
                transactional_id=topics.settings(instance="a").transactional_id,
                timing=TIMING,
            )
        )
        successor = opening.result(timeout=10)
    settle_all(successor)
    successor.close()
    assert set(sources(topics).values()) == {1}
    assert len(sources(topics)) == 6


def test_a_namesake_fences_the_first_which_says_so(topics: Topics) -> None:
    topics.feed(requests(3))
    first = topics.open(instance="a")
    batch = first.poll()
    producer = open_producer(
        topics.settings().connection, transactional_id=topics.settings(instance="a").transactional_id, timing=TIMING
    )
    with pytest.raises(NameTaken, match="--instance"):
        first.settle(batch, answers(batch))
    first.close()
    close_producer(producer)
    assert sources(topics) == {}


def test_a_position_that_retention_has_passed_is_a_loud_failure(topics: Topics) -> None:
    from kafka import KafkaAdminClient

    topics.feed(requests(8))
    transport = topics.open(max_batch=2)
    batch = transport.poll()
    transport.settle(batch, answers(batch))
    transport.close()
    admin = KafkaAdminClient(bootstrap_servers=topics.bootstrap)
    admin.delete_records({TopicPartition(topics.name("requests"), number): 4 for number in range(2)})
    admin.close()
    with pytest.raises(OffsetLost, match="deleted before they were decided"):
        settle_all(topics.open())


def test_headers_of_cloud_events_and_traces_pass_through_and_others_do_not(topics: Topics) -> None:
    headers = [("ce_id", b"1"), ("traceparent", b"00-a-b-01"), ("secret", b"x")]
    topics.feed(requests(1), headers=headers)
    transport = topics.open()
    batch = transport.poll()
    assert batch.messages[0].headers == (("ce_id", b"1"), ("traceparent", b"00-a-b-01"))
    first = batch.messages[0]
    result = answer(first)
    result = type(result)(result.kind, result.value, b"key", result.source, first.headers)
    transport.settle(batch, [result])
    transport.close()
    row = topics.read("decisions")[0]
    assert row.key == b"key"
    assert tuple(row.headers) == first.headers


def test_a_batch_keeps_to_its_byte_budget(topics: Topics) -> None:
    topics.feed([b'{"request_id":"%d","pad":"%s"}' % (n, b"x" * 1000) for n in range(9)])
    transport = topics.open(batch_bytes=2_500, max_batch=100)
    batches = settle_all(transport)
    transport.close()
    assert max(sum(len(m.value) for m in batch.messages) for batch in batches) <= 2_500
    assert len(sources(topics)) == 9


def test_a_tombstone_and_an_empty_key_are_messages_too(topics: Topics) -> None:
    producer = KafkaProducer(bootstrap_servers=topics.bootstrap)
    producer.send(topics.name("requests"), None, key=b"k", partition=0).get(10)
    producer.close(1)
    transport = topics.open()
    batch = transport.poll()
    transport.close()
    assert batch.messages[0].value == b""
    assert batch.messages[0].source == Source(topic=topics.name("requests"), partition=0, offset=0)
