import dataclasses
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaTimeoutError, LeaderNotAvailableError

from serving.settings import Secret, ServeSettings
from serving.transport.kafka_clients import (
    Timing,
    UnableToUseClient,
    ask_committed,
    ask_offsets,
    check_client,
    check_reachable,
    connection_of,
)
from tests.helpers.kafka_topics import Topics


def test_a_password_reaches_the_client_and_shows_nowhere() -> None:
    settings = ServeSettings(
        brokers=("b:9092",),
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="u",
        sasl_password=Secret("hunter2"),
    )
    connection = connection_of(settings, client_id="c")
    assert connection.options["sasl_plain_password"] == "hunter2"
    assert connection.options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert "hunter2" not in repr(connection) + str(connection)


def test_without_credentials_none_are_given() -> None:
    options = connection_of(ServeSettings(brokers=("b:9092",)), client_id="c").options
    assert options == {"bootstrap_servers": ["b:9092"], "client_id": "c", "security_protocol": "PLAINTEXT"}


def test_flush_and_offsets_end_before_the_broker_ends_the_transaction() -> None:
    timing = Timing()
    assert timing.delivery_timeout_ms + 1_000 + timing.offsets_timeout_ms <= timing.transaction_timeout_ms
    assert timing.request_timeout_ms < timing.session_timeout_ms
    assert timing.poll_ms >= 1_000


def test_a_client_without_the_private_parts_is_refused_by_name() -> None:
    producer = SimpleNamespace(_transaction_manager=SimpleNamespace(), _sender=SimpleNamespace(wakeup=print))
    with pytest.raises(UnableToUseClient, match=r"_transaction_manager\.begin_commit.*_sender\.force_close"):
        check_client(producer)


def test_brokers_that_take_no_connection_are_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        connection = Topics.connection(f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:"):
            check_reachable(connection, timing=dataclasses.replace(Timing(), bootstrap_timeout_ms=0))


def test_a_partition_without_a_leader_is_an_error_of_kafka_and_not_of_a_dictionary() -> None:
    here, gone = TopicPartition("t", 0), TopicPartition("t", 1)

    def client(partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: {here: 7}[partition] for partition in partitions}

    assert ask_offsets(client, [here]) == {here: 7}
    assert ask_offsets(client, []) == {}
    with pytest.raises(LeaderNotAvailableError, match="no leader"):
        ask_offsets(client, [here, gone])


class Coordinator:
    """Answers what a group has committed, and counts the requests; without an answer it times out."""

    def __init__(self, positions: dict[TopicPartition, int] | None) -> None:
        self._positions = positions
        self.asked: list[list[TopicPartition]] = []

    def fetch_committed_offsets(self, partitions: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, Any]:
        self.asked.append(partitions)
        if self._positions is None:
            raise KafkaTimeoutError()
        return {place: OffsetAndMetadata(self._positions[place], "", -1) for place in partitions[:2]}


def test_committed_positions_are_asked_for_in_one_request() -> None:
    places = [TopicPartition("t", number) for number in range(3)]
    coordinator = Coordinator({place: 10 + place.partition for place in places})
    found = ask_committed(SimpleNamespace(_coordinator=coordinator), reversed(places), timeout_ms=1)
    assert found == {places[0]: 10, places[1]: 11}
    assert coordinator.asked == [places]


def test_committed_positions_that_stay_unreadable_raise_the_alarm(caplog: pytest.LogCaptureFixture) -> None:
    places = [TopicPartition("t", number) for number in range(3)]
    coordinator = Coordinator(None)
    with pytest.raises(KafkaTimeoutError, match="unreadable for 7 ms"), caplog.at_level("ERROR"):
        ask_committed(SimpleNamespace(_coordinator=coordinator), places, timeout_ms=7)
    assert "miss committed positions" in caplog.text
    assert len(coordinator.asked) == 1
