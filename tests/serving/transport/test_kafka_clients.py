import dataclasses
import socket
from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.errors import LeaderNotAvailableError

from serving.settings import Secret, ServeSettings
from serving.transport.kafka_clients import (
    Timing,
    UnableToUseClient,
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
