"""Loss and doubling: each hazard provoked on a real broker, where the guarded transport holds and the naive loop fails.

The hazards are told in docs/reference/kafka-hazards.md. A control that stops failing is news of the client, not noise.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from kafka.errors import KafkaError, ProducerFencedError

from serving.contract import Committed, Rewound
from serving.transport.kafka import KafkaTransport
from serving.transport.kafka_life import CommitUnanswered
from tests.contracts.transport_suite import requests
from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_guarded import ALWAYS, BRIEF, HASTY, answers, finish, guarded, life_of, wait_until
from tests.helpers.kafka_judge import judge
from tests.helpers.kafka_proxy import FaultProxy
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_versions import transaction_version
from tests.helpers.naive_kafka_loop import NaiveLoop

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]


RecordProperty = Callable[[str, object], None]


@pytest.fixture
def topics(broker: KafkaBroker) -> Topics:
    return Topics(broker.bootstrap)


def test_the_proxy_alone_harms_nothing(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(6))
    finish(guarded(topics, proxy.address, client=client))
    assert judge(topics).results == 6
    assert judge(topics).is_clean
    assert proxy.seen["EndTxn"] >= 1


def test_h1_a_send_without_outcome_is_not_committed(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(4))
    transport = guarded(topics, proxy.address, client=client)
    batch = transport.poll()
    proxy.add("Produce", "answer", error=6, count=ALWAYS)
    assert isinstance(transport.settle(batch, answers(batch)), Rewound)
    proxy.calm()
    finish(transport)
    assert judge(topics).is_clean


def test_h1_the_naive_loop_loses_what_it_committed(topics: Topics, proxy: FaultProxy) -> None:
    topics.feed(requests(4))
    loop = NaiveLoop(topics, brokers=proxy.address, producer=HASTY)
    records = loop.poll(count=4)
    proxy.add("Produce", "answer", error=6, count=ALWAYS)
    loop.decide(records)
    proxy.calm()
    loop.drain()
    loop.close()
    assert judge(topics).missing == 4


def test_h2_a_new_epoch_within_a_transaction_is_noticed(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(4))
    transport = guarded(topics, proxy.address, client=client)
    batch = transport.poll()
    fault = proxy.add("Produce", "answer", error=45, seconds=0.6)
    assert isinstance(transport.settle(batch, answers(batch)), Rewound)
    assert fault.hits == 1
    finish(transport)
    assert judge(topics).is_clean


def test_h2_the_naive_loop_commits_nothing_and_says_that_it_did(
    topics: Topics, proxy: FaultProxy, record_property: RecordProperty
) -> None:
    """Before `transaction.version` 2 the new epoch is refused, so that it is told, and its next start decides them."""
    topics.feed(requests(4))
    loop = NaiveLoop(topics, brokers=proxy.address, producer=HASTY)
    records = loop.poll(count=4)
    proxy.add("Produce", "answer", error=45, seconds=0.6)
    if transaction_version() == 2:
        record_property("seen", "commit returns; 4 of 4 missing")
        loop.decide(records)
        loop.drain()
        loop.close()
        assert judge(topics).missing == 4
    else:
        record_property("seen", "commit raises ProducerFenced; 0 missing after a restart")
        with pytest.raises(ProducerFencedError):
            loop.decide(records)
        loop.close()
        restarted = NaiveLoop(topics, brokers=topics.bootstrap, name="restarted")
        assert restarted.turn(count=4, turns=60) == 4
        restarted.close()
        assert judge(topics).is_clean


def lose_session(proxy: FaultProxy, *, client: str) -> None:
    """Keep heartbeats of a client from the broker for longer than its session, until the proxy is calm again."""
    proxy.add("Heartbeat", "hold", client=client, seconds=2.5, count=ALWAYS)


def test_h4_a_worker_that_was_away_commits_nothing(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(6))
    zombie = guarded(topics, proxy.address, name="zombie", client=client)
    batch = zombie.poll()
    assert len(batch.messages) == 6
    lose_session(proxy, client="zombie")
    successor = guarded(topics, topics.bootstrap, name="successor", client=client)
    finish(successor)
    proxy.calm()
    member = life_of(zombie)
    wait_until(lambda: not member.present().is_stable)
    assert isinstance(zombie.settle(batch, answers(batch)), Rewound)
    finish(zombie)
    assert judge(topics).is_clean


def test_h4_the_naive_loop_that_was_away_decides_twice(topics: Topics, proxy: FaultProxy) -> None:
    topics.feed(requests(6))
    zombie = NaiveLoop(topics, brokers=proxy.address, name="zombie", consumer=BRIEF)
    records = zombie.poll(count=6)
    lose_session(proxy, client="zombie")
    successor = NaiveLoop(topics, brokers=topics.bootstrap, name="successor", consumer=BRIEF)
    assert successor.turn(count=6, turns=60) == 6
    proxy.calm()
    wait_until(lambda: zombie.consumer.group_metadata().generation_id < 0)
    zombie.decide(records)
    zombie.close()
    successor.close()
    assert judge(topics).double == 6


def test_h16_a_successor_waits_for_positions_under_way(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(6))
    opening: list[Future[KafkaTransport]] = []

    def be_away(step: str) -> None:
        if step == "before_commit" and not opening:
            lose_session(proxy, client="stopped")
            opening.append(pool.submit(guarded, topics, topics.bootstrap, name="successor", client=client))
            # Longer than the session, so that the successor is in the group and asks for the positions.
            with pytest.raises(TimeoutError):
                opening[0].result(timeout=4.0)
            proxy.calm()

    with ThreadPoolExecutor(1) as pool:
        stopped = guarded(topics, proxy.address, name="stopped", faults=be_away, client=client)
        batch = stopped.poll()
        assert isinstance(stopped.settle(batch, answers(batch)), Committed)
        finish(opening[0].result(timeout=30))
    stopped.close()
    assert judge(topics).is_clean


def test_h16_the_naive_successor_does_not_wait(topics: Topics, proxy: FaultProxy) -> None:
    topics.feed(requests(6))
    successors: list[NaiveLoop] = []

    def be_away(step: str) -> None:
        if step == "before_commit":
            lose_session(proxy, client="stopped")
            successors.append(NaiveLoop(topics, brokers=topics.bootstrap, name="successor", consumer=BRIEF))
            assert successors[0].turn(count=6, turns=60) == 6
            proxy.calm()

    stopped = NaiveLoop(topics, brokers=proxy.address, name="stopped", consumer=BRIEF, pause=be_away)
    stopped.decide(stopped.poll(count=6))
    stopped.close()
    successors[0].close()
    assert judge(topics).double == 6


def test_h8_a_commit_answered_too_late_is_found_committed(topics: Topics, proxy: FaultProxy, client: str) -> None:
    topics.feed(requests(4))
    transport = guarded(topics, proxy.address, client=client)
    batch = transport.poll()
    proxy.add("EndTxn", "delay", seconds=2.5)
    assert isinstance(transport.settle(batch, answers(batch)), Committed)
    finish(transport)
    assert judge(topics).is_clean


def test_h8_the_naive_loop_is_told_that_its_commit_failed(topics: Topics, proxy: FaultProxy) -> None:
    topics.feed(requests(4))
    loop = NaiveLoop(topics, brokers=proxy.address, producer=HASTY)
    records = loop.poll(count=4)
    proxy.add("EndTxn", "delay", seconds=2.5)
    with pytest.raises(KafkaError):
        loop.decide(records)
    retrying = NaiveLoop(topics, brokers=proxy.address, name="retrying")
    retrying.decide(records)
    loop.close()
    retrying.close()
    assert judge(topics).double == 4


@pytest.mark.chaos
def test_h9_a_commit_that_a_dead_broker_never_answers_has_a_deadline(
    broker: KafkaBroker, topics: Topics, client: str
) -> None:
    """The naive loop is still waiting when the broker has long been back; its thread is lost."""
    control = Topics(broker.bootstrap)
    for fed in (topics, control):
        fed.feed(requests(3))
    waiting, killed = threading.Event(), threading.Event()

    def kill(step: str) -> None:
        if step == "before_commit" and not killed.is_set():
            assert waiting.wait(20)
            broker.kill()
            killed.set()

    def wait_for_the_kill(step: str) -> None:
        if step == "before_commit":
            waiting.set()
            assert killed.wait(30)

    loop = NaiveLoop(control, brokers=broker.bootstrap, producer=HASTY, pause=wait_for_the_kill)
    stuck = threading.Thread(target=loop.decide, args=(loop.poll(count=3),), daemon=True)
    stuck.start()
    transport = guarded(topics, broker.bootstrap, faults=kill, client=client)
    batch = transport.poll()
    with pytest.raises(CommitUnanswered):
        transport.settle(batch, answers(batch))
    broker.start()
    transport.close()
    finish(guarded(topics, broker.bootstrap, client=client))
    assert judge(topics).is_clean
    stuck.join(timeout=10.0)
    assert stuck.is_alive()
