import pytest

from serving.transport.kafka_results import Wanted, read_back
from tests.contracts.transport_suite import requests, settle_all
from tests.helpers.kafka_topics import TIMING, Topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]


def test_reading_begins_farther_back_until_enough_is_found(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topics = Topics(bootstrap)
    topics.feed([value for value in requests(60) if b"bad" not in value])
    transport = topics.open(max_batch=5)
    settle_all(transport)
    transport.close()
    monkeypatch.setattr("serving.transport.kafka_results._EXTRA", 1)
    place = (topics.name("requests"), 1)
    wanted = Wanted(kind="decision", topic=topics.name("decisions"), place=place, count=20, since=3, place_count=2)
    found = read_back(wanted, connection=Topics.connection(bootstrap), timing=TIMING)
    assert [result.source.offset for result in found] == list(range(4, 24))
    assert {(result.source.topic, result.source.partition) for result in found} == {place}
