"""Hazards of a client that stays as it is after an error, or waits for ever: provoked, guarded, and with a control."""

import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from serving.contract import Committed, Rewound
from serving.transport.kafka_clients import close_producer
from tests.contracts.transport_suite import requests
from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_guarded import ALWAYS, BRIEF, HASTY, answers, finish, guarded, life_of, member_of, wait_until
from tests.helpers.kafka_judge import judge
from tests.helpers.kafka_proxy import FaultProxy
from tests.helpers.kafka_topics import Topics
from tests.helpers.naive_kafka_loop import NaiveLoop

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]


@pytest.fixture
def topics(broker: KafkaBroker) -> Topics:
    return Topics(broker.bootstrap)


def test_h3_positions_of_a_refused_transaction_are_gone(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(12))
    transport = guarded(topics, proxy.address, client=client)
    batch = transport.poll()
    proxy.add("TxnOffsetCommit", "answer", error=22)
    before = life_of(transport)
    assert isinstance(transport.settle(batch, answers(batch)), Rewound)
    assert life_of(transport).producer is not before.producer
    finish(transport)
    assert judge(topics).is_clean


def share(loops: list[NaiveLoop]) -> None:
    """Poll until each loop has one partition, and have each read from what is committed."""

    def is_shared() -> bool:
        list(pool.map(lambda loop: loop.consumer.poll(timeout_ms=1_000), loops))
        return all(len(loop.consumer.assignment()) == 1 for loop in loops)

    with ThreadPoolExecutor(len(loops)) as pool:
        wait_until(is_shared)
    for loop in loops:
        loop.rewind()


def test_h3_the_naive_loop_rewinds_a_partition_of_another_worker(topics: Topics, proxy: FaultProxy) -> None:
    topics.feed(requests(12))
    refused = NaiveLoop(topics, brokers=proxy.address, name="refused", consumer=BRIEF)
    records = refused.poll(count=12)
    proxy.add("TxnOffsetCommit", "answer", error=22)
    with pytest.raises(KafkaError):
        refused.decide(records)
    refused.producer.abort_transaction()
    topics.feed(requests(12))
    other = NaiveLoop(topics, brokers=topics.bootstrap, name="other", consumer=BRIEF)
    share([refused, other])
    other.drain()
    refused.drain()
    refused.close()
    other.close()
    last = NaiveLoop(topics, brokers=topics.bootstrap, name="last", consumer=BRIEF)
    wait_until(lambda: last.turn() > 0)
    last.drain()
    last.close()
    assert judge(topics).double == 6


def test_h5_a_worker_decides_again_after_sends_have_timed_out(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(4))
    transport = guarded(topics, proxy.address, client=client)
    batch = transport.poll()
    proxy.add("Produce", "answer", error=19, count=ALWAYS)
    assert isinstance(transport.settle(batch, answers(batch)), Rewound)
    proxy.calm()
    again = transport.poll()
    assert isinstance(transport.settle(again, answers(again)), Committed)
    transport.close()
    assert judge(topics).is_clean


def test_h5_a_plain_producer_whose_send_timed_out_never_sends_again(topics: Topics, proxy: FaultProxy) -> None:
    def send(producer: KafkaProducer) -> None:
        producer.send(topics.name("decisions"), b"{}", partition=0).get(3)

    settings = {"bootstrap_servers": proxy.address, "delivery_timeout_ms": 1_200, "request_timeout_ms": 1_000}
    producer = KafkaProducer(**settings)
    send(producer)
    proxy.add("Produce", "answer", error=19, count=ALWAYS)
    with pytest.raises(KafkaError):
        send(producer)
    proxy.calm()
    for _ in range(2):
        with pytest.raises(KafkaTimeoutError):
            send(producer)
    fresh = KafkaProducer(**settings)
    send(fresh)
    fresh.close(timeout=2)
    close_producer(producer)


_DESERIALIZING: str = """
    import json, sys
    from kafka import KafkaConsumer
    consumer = KafkaConsumer(sys.argv[2], bootstrap_servers=sys.argv[1], auto_offset_reset="earliest",
                             value_deserializer=json.loads, group_id=sys.argv[2])
    found = 0
    while found < 3:
        for rows in consumer.poll(timeout_ms=500).values():
            found += len(rows)
    print("before", flush=True)
    try:
        consumer.poll(timeout_ms=500)
    except Exception:
        print("raised", flush=True)
    consumer.poll(timeout_ms=500)
    print("returned", flush=True)
"""


def test_h6_a_message_that_is_no_json_is_a_message(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed([b'{"request_id":"0"}', b"\xff", b'{"request_id":"2"}'])
    transport = guarded(topics, proxy.address, client=client)
    seen = [m.value for m in transport.poll().messages]
    transport.close()
    assert sorted(seen) == [b'{"request_id":"0"}', b'{"request_id":"2"}', b"\xff"]


def test_h6_a_consumer_whose_deserializer_raised_never_returns_from_poll(broker: KafkaBroker) -> None:
    topics = Topics(broker.bootstrap, partition_count=1)
    good = b'{"request_id":"0"}'
    topics.feed([good, good, good, good, good, b"\xff", good, good])
    command = [sys.executable, "-c", textwrap.dedent(_DESERIALIZING), topics.bootstrap, topics.name("requests")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == ["before\n", "raised\n"]
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=4.0)  # eight times the timeout of the poll
    finally:
        child.kill()
        child.communicate()


def subscribed(topics: Topics) -> KafkaConsumer:
    """Subscribe as the documentation does, before anything is known of the topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=topics.bootstrap, group_id=f"{topics.prefix}-group", enable_auto_commit=False
    )
    consumer.subscribe([topics.name("requests")])
    return consumer


def test_h7_a_worker_that_joined_has_partitions(topics: Topics, client: str) -> None:
    topics.feed(requests(2))
    transport = guarded(topics, topics.bootstrap, client=client)
    assert len(transport.places()) == 2
    transport.close()


def test_h7_a_consumer_that_polls_briefly_never_gets_partitions(topics: Topics) -> None:
    """On a quiet machine each consumer is stuck so, on a busy one some of them are: one in six is enough to show it."""
    assert any(_is_stuck(topics) for _ in range(6))


def _is_stuck(topics: Topics) -> bool:
    consumer = subscribed(topics)
    give_up = time.monotonic() + 3.0
    while time.monotonic() < give_up and not consumer.assignment():
        consumer.poll(timeout_ms=2)
    is_stuck = not consumer.assignment()
    consumer.close(autocommit=False)
    return is_stuck


def test_h10_an_error_that_cannot_be_aborted_is_got_over(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(4))
    transport = guarded(topics, proxy.address, client=client)
    batch = transport.poll()
    proxy.add("Produce", "answer", error=45)
    assert isinstance(transport.settle(batch, answers(batch)), Rewound)
    finish(transport)
    assert judge(topics).is_clean


def test_h10_the_naive_loop_cannot_abort(topics: Topics, proxy: FaultProxy) -> None:
    topics.feed(requests(4))
    loop = NaiveLoop(topics, brokers=proxy.address, producer=HASTY)
    loop.producer.begin_transaction()
    proxy.add("Produce", "answer", error=45)
    with pytest.raises(KafkaError):
        loop.producer.send(loop.decisions, b"{}", partition=0).get(10)
    with pytest.raises(KafkaError, match="Invalid transition"):
        loop.producer.abort_transaction()
    loop.close()


@pytest.mark.chaos  # what it holds against each other are times
def test_h12_a_broker_that_is_still_busy_costs_a_few_milliseconds(
    topics: Topics, proxy: FaultProxy, client: str
) -> None:
    """The least of five transactions each, since other work on the machine only ever adds to it."""
    topics.feed(requests(5))
    transport = guarded(topics, proxy.address, max_batch=1, client=client)
    loop = NaiveLoop(Topics(topics.bootstrap), brokers=proxy.address)
    guarded_s, naive_s = [], []
    for _ in range(5):
        batch = transport.poll()
        proxy.add("AddPartitionsToTxn", "answer", error=51)
        began = time.monotonic()
        assert isinstance(transport.settle(batch, answers(batch)), Committed)
        guarded_s.append(time.monotonic() - began)
        proxy.add("AddPartitionsToTxn", "answer", error=51)
        began = time.monotonic()
        loop.producer.begin_transaction()
        loop.producer.send(loop.decisions, b"{}", partition=0)
        loop.producer.commit_transaction()
        naive_s.append(time.monotonic() - began)
    transport.close()
    loop.close()
    assert min(guarded_s) < 0.1 <= min(naive_s)


@pytest.mark.chaos  # a matter of time at the start, not of results
def test_h13_a_worker_joins_once(topics: Topics) -> None:
    worker = guarded(topics, topics.bootstrap)
    found = member_of(worker).consumer.group_metadata().generation_id
    worker.close()
    assert found == 1


def test_h13_a_consumer_that_subscribes_at_once_joins_twice(topics: Topics) -> None:
    topics.feed(requests(2))
    consumer = subscribed(topics)

    def has_joined_twice() -> bool:
        consumer.poll(timeout_ms=1_000)
        return bool(consumer.group_metadata().generation_id == 2)

    wait_until(has_joined_twice)
    consumer.close(autocommit=False)


def hold_back(proxy: FaultProxy, *, seconds: float) -> None:
    """Let the next results reach the broker so much later, by another way, and none before that."""
    proxy.add("Produce", "late", seconds=seconds)
    proxy.add("Produce", "answer", error=6, count=ALWAYS)


def test_h17_results_that_come_late_join_no_later_transaction(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(4))
    transport = guarded(topics, proxy.address, client=client)
    batch = transport.poll()
    hold_back(proxy, seconds=2.0)
    assert isinstance(transport.settle(batch, answers(batch)), Rewound)
    proxy.calm()
    proxy.add("Produce", "hold", seconds=0.8)
    finish(transport)
    wait_until(lambda: proxy.late == 1)
    assert judge(topics).is_clean


def test_h17_the_naive_loop_commits_a_record_that_it_aborted(topics: Topics, proxy: FaultProxy) -> None:
    patient = {"delivery_timeout_ms": 2_500, "request_timeout_ms": 2_000}
    loop = NaiveLoop(topics, brokers=proxy.address, producer=patient)
    loop.producer.begin_transaction()
    hold_back(proxy, seconds=3.5)
    with pytest.raises(KafkaError):
        loop.producer.send(loop.decisions, b"aborted", partition=0).get(10)
    loop.producer.abort_transaction()
    proxy.calm()
    proxy.add("Produce", "hold", seconds=1.5)
    loop.producer.begin_transaction()
    loop.producer.send(loop.decisions, b"kept", partition=0).get(10)
    assert proxy.late == 1
    loop.producer.commit_transaction()
    loop.close()
    assert [row.value for row in topics.read("decisions")] == [b"aborted", b"kept"]
