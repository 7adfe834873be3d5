"""The contract of every transport by librdkafka, and what its guard sees: on a real broker."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from serving.contract import Committed, Kind, Result, Rewound, Transport
from serving.transport.kafka import KafkaTransport, NameTaken, OffsetLost
from serving.transport.kafka_life import CommitUnanswered
from serving.transport.librdkafka import LibrdkafkaLife
from serving.transport.librdkafka_clients import Heard, close_producer, open_producer
from tests.contracts.transport_suite import CrashError, Faults, TransportSuite, answer, requests, settle_all
from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_guarded import QUICK, answers, finish, life_of, wait_until
from tests.helpers.kafka_judge import judge, open_transactions
from tests.helpers.kafka_topics import TIMING, Topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

ROOT = Path(__file__).parent.parent.parent.parent


class TestLibrdkafkaTransport(TransportSuite):
    @pytest.fixture(autouse=True)
    def _topics(self, bootstrap: str) -> None:
        self.topics = Topics(bootstrap)

    def feed(self, values: Sequence[bytes]) -> None:
        self.topics.feed(values)

    def start(self, *, faults: Faults | None, max_batch: int) -> Transport:
        return self.topics.open(faults=faults, max_batch=max_batch, client="librdkafka")

    def results(self, kind: Kind) -> Sequence[Result]:
        return self.topics.results(kind)

    def break_next_commit(self, transport: Transport) -> None:
        life_by_librdkafka(transport)._heard.lost.append("a connection")


def life_by_librdkafka(transport: object) -> LibrdkafkaLife:
    life = life_of(transport)
    assert isinstance(life, LibrdkafkaLife)
    return life


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return Topics(bootstrap)


@pytest.fixture
def pausable(broker: KafkaBroker) -> Iterator[KafkaBroker]:
    """Hand out the broker, and let it go on at the end whatever the test came to."""
    yield broker
    broker.resume()


def opened(topics: Topics, **more: Any) -> KafkaTransport:
    return topics.open(client="librdkafka", **more)


def test_while_messages_come_the_lag_is_told_without_asking_the_broker(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question would wait behind the fetch that is under way; what a fetch told is known at once."""
    topics.feed(requests(5))
    worker = opened(topics, is_finite=False, max_batch=2)
    life, asked = life_by_librdkafka(worker), []
    ask = life._ask_watermarks

    def counted(place: tuple[str, int]) -> tuple[int, int]:
        asked.append(place)
        return ask(place)

    monkeypatch.setattr(life, "_ask_watermarks", counted)
    flowing = [(len(worker.poll().messages), sum(worker.lag().values())) for _ in range(3)]
    silent = asked[:]
    worker.poll()
    at_rest = worker.lag()
    worker.close()
    assert (flowing, silent) == ([(2, 5), (2, 5), (1, 5)], [])
    assert (sum(at_rest.values()), sorted(asked)) == (5, sorted(at_rest))


def test_metadata_of_the_poll_has_the_generation_that_the_broker_gave(topics: Topics) -> None:
    """The form of the metadata is the library's own: were it another, no worker could start."""
    first = opened(topics, instance="a", is_finite=False)
    found = life_by_librdkafka(first).present()
    assert (found.generation, found.is_stable) == (1, True)
    assert found.member.startswith("test-a-")
    first.close()


def test_a_second_worker_takes_over_its_share_and_all_of_it_when_the_first_leaves(topics: Topics) -> None:
    topics.feed(requests(4))
    first = opened(topics, instance="a", is_finite=False)
    second: list[KafkaTransport] = [opened(topics, instance="b", is_finite=False)]
    rounds = 0
    while (len(first.places()), len(second[0].places())) != (1, 1):
        for transport in (first, second[0]):
            batch = transport.poll()
            transport.settle(batch, answers(batch))
        assert (rounds := rounds + 1) < 30
    first.close()
    wait_until(lambda: bool(second[0].poll().messages) or len(second[0].places()) == 2)
    second[0].close()
    finish(opened(topics))
    assert judge(topics).is_clean


def test_h4_a_batch_of_an_older_generation_is_refused_by_the_broker_itself(topics: Topics) -> None:
    topics.feed(requests(4))
    worker = opened(topics)
    batch = worker.poll()
    life = life_by_librdkafka(worker)
    assert life.membership is not None
    former = life.membership.metadata.replace(b"CGMDv2:\x01\0\0\0", b"CGMDv2:\x07\0\0\0")
    assert former != life.membership.metadata
    stale = life.membership._replace(metadata=former)
    life.membership = stale
    life.present = lambda: stale  # type: ignore[method-assign]  # past our own check
    assert isinstance(worker.settle(batch, answers(batch)), Rewound)
    assert life_of(worker) is not life
    finish(worker)
    assert judge(topics).is_clean


def test_h8_a_commit_whose_answer_was_lost_is_found_committed(topics: Topics) -> None:
    topics.feed(requests(3))
    worker = opened(topics)
    batch = worker.poll()
    life = life_by_librdkafka(worker)
    commit = life._commit

    def lose_the_answer() -> None:
        commit()
        life._heard.lost.append("the answer was lost")

    life._commit = lose_the_answer  # type: ignore[method-assign]
    assert isinstance(worker.settle(batch, answers(batch)), Committed)
    finish(worker)
    assert judge(topics).is_clean


def test_h9_a_commit_without_an_answer_ends_the_worker(pausable: KafkaBroker, topics: Topics) -> None:
    def pause_before_the_commit(step: str) -> None:
        if step == "before_commit":
            pausable.pause()

    topics.feed(requests(3))
    worker = opened(topics, timing=QUICK, faults=pause_before_the_commit)
    batch = worker.poll()
    with pytest.raises(CommitUnanswered):
        worker.settle(batch, answers(batch))
    pausable.resume()
    worker.close()
    finish(opened(topics))
    assert judge(topics).is_clean


@pytest.mark.parametrize("is_closed", [True, False])
def test_h15_an_abandoned_producer_stays_silent(pausable: KafkaBroker, topics: Topics, is_closed: bool) -> None:
    """Even one that is not let go of: it commits only within a call."""
    producer = open_producer(
        topics.settings().connection, transactional_id=f"{topics.prefix}-x", timing=QUICK, heard=Heard()
    )
    producer.list_topics(timeout=5)
    pausable.pause()
    producer.begin_transaction()
    producer.produce(topics.name("decisions"), b"{}", partition=0)
    with pytest.raises(KafkaException, match="1 message"):
        producer.commit_transaction(0.5)
    if is_closed:
        close_producer(producer)
    pausable.resume()
    give_up = time.monotonic() + 2.0
    while not (found := topics.read("decisions")) and time.monotonic() < give_up:
        pass
    close_producer(producer)
    assert found == []


def test_h16_a_successor_waits_for_positions_that_are_under_way(topics: Topics) -> None:
    def crash(step: str) -> None:
        if step == "before_commit":
            raise CrashError(step)

    topics.feed(requests(6))
    stopped = opened(topics, instance="a", faults=crash)
    batch = stopped.poll()
    with pytest.raises(CrashError):
        stopped.settle(batch, answers(batch))
    life_by_librdkafka(stopped).consumer.close()  # leaves the group with its transaction open
    began = time.monotonic()
    successor = opened(topics, instance="b")
    assert time.monotonic() - began > 2.0  # as the broker ends the transaction after its four seconds
    finish(successor)
    stopped.close()
    assert judge(topics).is_clean


def test_a_namesake_fences_the_first_which_says_so(topics: Topics) -> None:
    topics.feed(requests(3))
    first = opened(topics, instance="a")
    batch = first.poll()
    settings = topics.settings(instance="a")
    namesake = open_producer(
        settings.connection, transactional_id=settings.transactional_id, timing=TIMING, heard=Heard()
    )
    with pytest.raises(NameTaken, match="--instance"):
        first.settle(batch, answers(batch))
    first.close()
    close_producer(namesake)
    assert topics.read("decisions") == []


def test_a_position_that_retention_has_passed_is_a_loud_failure(topics: Topics) -> None:
    topics.feed(requests(8))
    worker = opened(topics, max_batch=2)
    batch = worker.poll()
    worker.settle(batch, answers(batch))
    worker.close()
    admin = KafkaAdminClient(bootstrap_servers=topics.bootstrap)
    admin.delete_records({TopicPartition(topics.name("requests"), number): 4 for number in range(2)})
    admin.close()
    with pytest.raises(OffsetLost, match="deleted before they were decided"):
        settle_all(opened(topics))


def test_headers_keys_and_tombstones_pass_as_by_the_other_client(topics: Topics) -> None:
    producer = KafkaProducer(bootstrap_servers=topics.bootstrap)
    headers = [("ce_id", b"1"), ("secret", b"x")]
    producer.send(topics.name("requests"), None, key=b"k", headers=headers, partition=0).get(10)
    producer.close(1)
    worker = opened(topics)
    batch = worker.poll()
    (message,) = batch.messages
    assert (message.value, message.key, message.headers) == (b"", b"k", (("ce_id", b"1"),))
    found = answer(message)
    worker.settle(batch, [Result("decision", found.value, b"key", found.source, message.headers)])
    worker.close()
    (row,) = topics.read("decisions")
    assert (row.key, tuple(row.headers)) == (b"key", (("ce_id", b"1"),))


def test_a_batch_keeps_to_its_byte_budget(topics: Topics) -> None:
    topics.feed([b'{"request_id":"%d","pad":"%s"}' % (n, b"x" * 1000) for n in range(9)])
    worker = opened(topics, batch_bytes=2_500, max_batch=100)
    batches = settle_all(worker)
    worker.close()
    assert max(sum(len(m.value) for m in batch.messages) for batch in batches) <= 2_500
    found = Counter(str(result.source) for result in topics.results("decision"))
    assert (len(found), set(found.values())) == (9, {1})


def test_the_same_key_goes_to_the_same_partition_as_by_the_other_client(topics: Topics) -> None:
    topics.feed(requests(2))
    for client in ("python", "librdkafka"):
        worker = topics.open(client=client)
        batch = worker.poll()
        shadows = [Result("shadow", b"{}", b"same key", m.source) for m in batch.messages]
        worker.settle(batch, [*answers(batch), *shadows])
        worker.close()
        topics.feed(requests(2))
    assert len({row.partition for row in topics.read("shadow")}) == 1


def test_h2_a_pause_longer_than_the_transaction_is_survived(broker: KafkaBroker) -> None:
    topics = Topics(broker.bootstrap)
    topics.feed(requests(4))
    command = [sys.executable, "-m", "tests.helpers.kafka_pausable", "librdkafka", topics.bootstrap, topics.prefix]
    worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert worker.stdout is not None
    try:
        assert worker.stdout.readline() == "sent\n"
        worker.send_signal(signal.SIGSTOP)
        wait_until(lambda: not open_transactions(broker.bootstrap), timeout_s=40.0)
        worker.send_signal(signal.SIGCONT)
        assert worker.wait(timeout=60) == 0
    finally:
        worker.kill()
        worker.communicate()
    assert judge(topics).is_clean
