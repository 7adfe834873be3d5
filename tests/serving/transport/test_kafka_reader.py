from collections.abc import Mapping
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import LeaderNotAvailableError

from serving.transport.kafka import UnableToReachBrokers
from serving.transport.kafka_clients import Connection, Timing
from serving.transport.kafka_reader import TopicReader, find_domains, reaching
from serving.transport.kafka_topics import TopicsMissing

TOPICS = {"p.shop.requests", "p.shop.decisions", "p.b.requests", "q.c.requests"}


class SlowToLearn:
    """A client that leaves out partitions whose leader it does not know, as the real one does."""

    def __init__(self, *, learns_after: int) -> None:
        self._left = learns_after

    def end_offsets(self, places: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._left -= 1
        if self._left >= 0:
            raise KeyError(places[-1])
        return dict.fromkeys(places, 7)


def reader_on(client: Any, *, patience_ms: int) -> TopicReader:
    reader = TopicReader.__new__(TopicReader)
    reader._log, reader._timing = client, Timing(bootstrap_timeout_ms=patience_ms)
    return reader


def test_domains_are_found_by_their_topics_or_taken_as_named() -> None:
    assert find_domains(TOPICS, prefix="p", last="requests") == ["b", "shop"]
    assert find_domains(TOPICS, prefix="p", last="requests", named=["shop"]) == ["shop"]
    with pytest.raises(TopicsMissing, match=r"p\.b\.decisions"):
        find_domains(TOPICS, prefix="p", last="decisions", named=["shop", "b"])
    with pytest.raises(TopicsMissing, match=r"r\.DOMAIN\.requests"):
        find_domains(TOPICS, prefix="r", last="requests")


def test_ends_are_asked_for_until_every_leader_is_known() -> None:
    places = [("a", 0), ("b", 1)]
    reader = reader_on(SlowToLearn(learns_after=2), patience_ms=60_000)
    assert reader.ends(places) == {("a", 0): 7, ("b", 1): 7}
    with pytest.raises(LeaderNotAvailableError, match="'b'"):
        reader_on(SlowToLearn(learns_after=9), patience_ms=0).ends(places)


def test_brokers_that_do_not_answer_are_named() -> None:
    with pytest.raises(UnableToReachBrokers, match="h:1"), reaching(Connection(brokers=("h:1",), client_id="c")):
        raise ConnectionError
