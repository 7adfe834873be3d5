from typing import Any

import pytest

from serving.transport.kafka import KafkaTransport
from serving.transport.kafka_clients import Timing
from tests.contracts.transport_suite import requests
from tests.helpers.kafka_guarded import member_of, wait_until
from tests.helpers.kafka_topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

PATIENT = Timing(transaction_timeout_ms=4_000, at_once_ms=200, gather_ms=2_000)
"""For a machine that is busy with other things."""


@pytest.fixture
def topics(bootstrap: str) -> Topics:
    return Topics(bootstrap, partition_count=1)


def fetched_ahead(topics: Topics, **more: Any) -> KafkaTransport:
    """Open a worker whose client has fetched two messages ahead, after which two more have come."""
    topics.feed(requests(2))
    worker = topics.open(is_finite=False, timing=PATIENT, **more)
    fetcher = member_of(worker).consumer._fetcher

    def has_fetched() -> bool:
        fetcher.send_fetches()
        return bool(fetcher._completed_fetches)

    wait_until(has_fetched)
    topics.feed(requests(2))
    return worker


def test_a_batch_holds_also_what_came_after_the_client_had_fetched_ahead(topics: Topics) -> None:
    """Without a second look the last two would wait in the topic until this batch is committed."""
    worker = fetched_ahead(topics)
    offsets = [message.source.offset for message in worker.poll().messages]
    worker.close()
    assert offsets == [0, 1, 2, 3]


def test_a_second_look_takes_no_more_than_a_batch_may_hold(topics: Topics) -> None:
    worker = fetched_ahead(topics, max_batch=3)
    offsets = [[message.source.offset for message in worker.poll().messages] for _ in range(2)]
    worker.close()
    assert offsets == [[0, 1, 2], [3]]


def test_while_messages_come_the_lag_is_told_without_asking_the_broker(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question would wait behind the fetch that is under way, for half a second where nothing comes."""
    topics.feed(requests(5))
    worker = topics.open(is_finite=False, max_batch=2)
    consumer = member_of(worker).consumer
    asked: list[object] = []
    ends = consumer.end_offsets

    def ask(places: Any) -> Any:
        asked.append(places)
        return ends(places)

    monkeypatch.setattr(consumer, "end_offsets", ask)
    flowing = [(len(worker.poll().messages), *worker.lag().values()) for _ in range(3)]
    silent = asked[:]
    worker.poll()
    at_rest = worker.lag()
    worker.close()
    assert (flowing, silent) == ([(2, 5), (2, 5), (1, 5)], [])
    assert (list(at_rest.values()), len(asked)) == ([5], 1)


def test_messages_carry_the_time_that_their_records_have(topics: Topics) -> None:
    topics.feed(requests(2), timestamp_ms=1_790_000_000_123)
    worker = topics.open()
    batch = worker.poll()
    worker.close()
    assert {message.time_ms for message in batch.messages} == {batch.oldest_ms} == {1_790_000_000_123}


def test_a_full_batch_says_that_there_is_more(topics: Topics) -> None:
    topics.feed(requests(6))
    worker = topics.open(max_batch=4)
    assert [worker.poll().has_more for _ in range(2)] == [True, False]
    worker.close()
