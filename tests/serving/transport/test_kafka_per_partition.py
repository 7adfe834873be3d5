"""A transaction per partition: a producer's epoch fences where the group's word does not."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serving.contract import Committed, Place, Rewound
from serving.transport import kafka_member
from serving.transport.kafka import KafkaTransport
from serving.transport.kafka_guard import transact
from serving.transport.kafka_life import ProducerReplaced
from serving.transport.kafka_member import Member
from tests.contracts.transport_suite import requests, settle_all
from tests.helpers.kafka_guarded import answers, finish, member_of, producers_of, wait_until
from tests.helpers.kafka_judge import judge
from tests.helpers.kafka_topics import TIMING, Topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return Topics(bootstrap)


def opened(topics: Topics, **more: Any) -> KafkaTransport:
    return topics.open(is_per_partition=True, **more)


def leave(transport: KafkaTransport) -> Member:
    """Take a worker out of its group as a session that timed out does, and return the life that holds a batch."""
    member = member_of(transport)
    member.consumer._net.run(member.consumer._coordinator.maybe_leave_group_async)
    return member


def believe(monkeypatch: pytest.MonkeyPatch, member: Member) -> None:
    """Switch off every check of the group's metadata, and let it be taken late, as the naive loop does."""
    late = member.present()
    assert not late.is_stable
    monkeypatch.setattr(member, "membership", late)
    monkeypatch.setattr(member, "present", lambda: late)
    monkeypatch.setattr(kafka_member, "why_stale", lambda polled, now: None)


def places_of(transport: KafkaTransport) -> Sequence[Place]:
    return transport.places()


def take_part(worker: KafkaTransport, until: Callable[[], bool]) -> None:
    """Poll, so that the group can settle, until something is so; nothing is to be read."""

    def look() -> bool:
        assert worker.poll().messages == ()
        return until()

    wait_until(look, timeout_s=30.0)


@contextlib.contextmanager
def two_workers(topics: Topics, *, names: Sequence[str]) -> Iterator[tuple[KafkaTransport, KafkaTransport]]:
    """Open two workers on partitions that hold nothing; the second has one when the first has one."""
    first = opened(topics, instance=names[0], is_finite=False)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(opened, topics, instance=names[1], is_finite=False)
        take_part(first, opening.done)
        second = opening.result()
        while len(places_of(first)) != 1 or len(places_of(second)) != 1:
            polling = pool.submit(second.poll)
            assert first.poll().messages == polling.result().messages == ()
    yield first, second
    second.close()
    first.close()


def test_a_batch_is_of_one_partition_and_what_was_fetched_beside_it_comes_next(topics: Topics) -> None:
    topics.feed(requests(6))
    worker = opened(topics, max_batch=100)
    batches = settle_all(worker)
    worker.close()
    assert [{message.source.partition for message in batch.messages} for batch in batches] == [{0}, {1}]
    assert judge(topics).is_clean


def test_what_is_kept_for_its_turn_is_lag(topics: Topics) -> None:
    topics.feed(requests(6))
    worker = opened(topics, max_batch=100)
    batch = worker.poll()
    worker.settle(batch, answers(batch))
    assert worker.lag() == {(topics.name("requests"), 0): 0, (topics.name("requests"), 1): 3}
    finish(worker)
    assert judge(topics).is_clean


def test_what_is_kept_is_void_after_a_change_of_group(topics: Topics, monkeypatch: pytest.MonkeyPatch) -> None:
    topics.feed(requests(6))
    worker = opened(topics, max_batch=100, is_finite=False)
    first = worker.poll()
    worker.settle(first, answers(first))
    member, changes = member_of(worker), worker.assignment()
    now = member.present()
    monkeypatch.setattr(member, "membership", now._replace(changes=now.changes - 1))
    second = worker.poll()
    assert worker.assignment() == changes + 1
    assert [message.source.offset for message in second.messages] == [0, 1, 2]
    assert isinstance(worker.settle(second, answers(second)), Committed)
    worker.close()
    assert judge(topics).is_clean


def test_h4_a_zombie_that_believes_late_metadata_is_fenced_all_the_same(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics.feed(requests(6))
    zombie = opened(topics, instance="a", max_batch=100)
    batch = zombie.poll()
    member = leave(zombie)
    finish(opened(topics, instance="b"))
    believe(monkeypatch, member)
    settled = zombie.settle(batch, answers(batch))
    assert isinstance(settled, Rewound)
    assert settled.reason.startswith("fenced")
    finish(zombie)
    assert judge(topics).results == 6
    assert judge(topics).is_clean


def test_h4_late_metadata_cannot_commit(topics: Topics) -> None:
    """With one producer per worker the very same transaction commits: see the guard's tests."""
    topics.feed(requests(6))
    zombie = opened(topics, instance="a")
    batch = zombie.poll()
    member = leave(zombie)
    finish(opened(topics, instance="b"))
    source = batch.messages[0].source
    positions = {(source.topic, source.partition): 1}
    producer, identity = member.producers.of(positions)
    late: dict[str, Any] = {"membership": member.present(), "identity": identity, "timing": TIMING}
    with pytest.raises(ProducerReplaced):
        transact(producer, [], positions=positions, marker="", faults=lambda step: None, **late)
    zombie.close()
    assert judge(topics).is_clean


def test_h16_a_successor_ends_what_is_under_way_and_decides_it_alone(topics: Topics) -> None:
    topics.feed(requests(6))
    successors: list[KafkaTransport] = []

    def be_away(step: str) -> None:
        if step == "before_commit" and not successors:
            leave(stopped)
            successors.append(opened(topics, instance="b"))
            finish(successors[0])

    stopped = opened(topics, instance="a", faults=be_away)
    batch = stopped.poll()
    assert isinstance(stopped.settle(batch, answers(batch)), Rewound)
    finish(stopped)
    assert judge(topics).results == 6
    assert judge(topics).is_clean


def test_partitions_move_singly_and_those_that_stay_keep_their_producer(topics: Topics) -> None:
    first = opened(topics, instance="a", is_finite=False)
    both = dict(zip(places_of(first), producers_of(first), strict=True))
    first.close()
    assert [producer._closed for producer in both.values()] == [True, True]
    with two_workers(topics, names="ab") as (first, second):
        (stayed,), (moved,) = places_of(first), places_of(second)
        assert {stayed, moved} == set(both)
        (kept,) = producers_of(first)
        second.close()
        take_part(first, lambda: len(places_of(first)) == 2)
        again = dict(zip(places_of(first), producers_of(first), strict=True))
        assert again[stayed] is kept
        assert not kept._closed


def test_workers_of_one_name_share_the_group_as_any_two_do(topics: Topics) -> None:
    with two_workers(topics, names="aa") as workers:
        topics.feed(requests(6))
        for worker in workers:
            batch = worker.poll()
            assert len(batch.messages) == 3
            assert isinstance(worker.settle(batch, answers(batch)), Committed)
    assert judge(topics).is_clean
