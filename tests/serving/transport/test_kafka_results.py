from dataclasses import replace
from typing import Any

import pytest

from policies.events import Source
from serving.contract import Recalled
from serving.transport import kafka_results
from serving.transport.kafka_clients import close_producer, open_producer
from serving.transport.kafka_results import Wanted, read_back
from tests.contracts.transport_suite import requests, settle_all
from tests.helpers.kafka_topics import TIMING, Topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]


def decided(bootstrap: str, count: int) -> Topics:
    """Return topics on which a worker has decided some requests, some of them dead letters."""
    topics = Topics(bootstrap)
    topics.feed([value for value in requests(count) if b"bad" not in value])
    transport = topics.open(max_batch=5)
    settle_all(transport)
    transport.close()
    return topics


def wanted(topics: Topics, counts: dict[int, int], *, since: int = 0) -> Wanted:
    name = topics.name("requests")
    return Wanted(
        kind="decision",
        topic=topics.name("decisions"),
        counts={(name, partition): count for partition, count in counts.items()},
        since=since,
        place_count=2,
    )


def read(topics: Topics, sought: Wanted) -> Recalled[Source]:
    connection = Topics.connection(topics.bootstrap)
    return read_back(sought, keep=lambda result: result.source, connection=connection, timing=TIMING)


def test_reading_begins_farther_back_until_enough_is_found(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = decided(bootstrap, 60)
    monkeypatch.setattr("serving.transport.kafka_results._EXTRA", 1)
    found = read(topics, wanted(topics, {1: 20}, since=3))
    place = (topics.name("requests"), 1)
    assert {at: [source.offset for source in sources] for at, sources in found.found.items()} == {
        place: list(range(4, 24))
    }
    assert {(source.topic, source.partition) for source in found.found[place]} == {place}
    assert found.is_complete


def test_one_scan_finds_the_results_of_all_places(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = decided(bootstrap, 60)
    scans, read_on = [], kafka_results._read

    def scan(*what: Any) -> bool:
        scans.append(what)
        return read_on(*what)

    monkeypatch.setattr(kafka_results, "_read", scan)
    found = read(topics, wanted(topics, {0: 5, 1: 24}))
    offsets = [[source.offset for source in sources] for sources in found.found.values()]
    assert offsets == [list(range(19, 24)), list(range(24))]
    assert len(scans) == 1


def test_what_an_open_transaction_hides_is_said_to_be_missing(bootstrap: str) -> None:
    topics = decided(bootstrap, 10)
    name = f"{topics.prefix}-open"
    hiding = open_producer(topics.settings().connection, transactional_id=name, timing=TIMING)
    hiding.begin_transaction()
    for partition in range(2):
        hiding.send(topics.name("decisions"), b'{"source":{}}', partition=partition)
    hiding.flush(10)
    sought, hasty = wanted(topics, {0: 4, 1: 4}), replace(TIMING, transaction_timeout_ms=-4_500)
    connection = Topics.connection(bootstrap)
    try:
        found = read_back(sought, keep=lambda result: result.source, connection=connection, timing=hasty)
    finally:
        close_producer(hiding)
    assert not found.is_complete
    assert [len(sources) for sources in found.found.values()] == [4, 4]
