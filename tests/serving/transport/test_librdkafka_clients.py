"""Options, refusals and lost connections of librdkafka's clients; no broker is asked."""

import builtins
import sys
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from policies.errors import Unable
from serving.transport.kafka_access import HiddenText
from serving.transport.kafka_clients import Connection, Timing
from serving.transport.kafka_life import LifeOver, Refused
from serving.transport.kafka_member import Member
from serving.transport.kafka_open import ClientMissing, life_by
from serving.transport.librdkafka import LibrdkafkaLife
from serving.transport.librdkafka_clients import Heard, consumer_options, options_of, producer_options, read_metadata

CONNECTION = Connection(brokers=("127.0.0.1:1",), client_id="me")


def test_a_client_is_chosen_by_its_name() -> None:
    assert (life_by("python"), life_by("librdkafka")) == (Member, LibrdkafkaLife)


def test_a_client_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = builtins.__import__

    def lack(name: str, *more: Any) -> Any:
        if name.startswith("confluent_kafka"):
            raise ModuleNotFoundError("No module named 'confluent_kafka'", name="confluent_kafka")
        return find(name, *more)

    monkeypatch.setattr(builtins, "__import__", lack)
    for name in [name for name in sys.modules if name.startswith("serving.transport.librdkafka")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ClientMissing, match=r"pip install 'penstock\[librdkafka\]'") as caught:
        life_by("librdkafka")
    assert isinstance(caught.value, Unable)


def test_security_has_the_names_of_the_library_and_shows_no_password() -> None:
    security = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "me",
        "sasl_plain_password": HiddenText("hunter2"),
        "ssl_cafile": "ca.pem",
        "ssl_certfile": "me.pem",
        "ssl_keyfile": "me.key",
    }
    connection = Connection(brokers=("b:1",), client_id="c", security=security)
    assert options_of(connection) == {
        "bootstrap.servers": "b:1",
        "client.id": "c",
        "security.protocol": "SASL_SSL",
        "sasl.mechanisms": "SCRAM-SHA-512",
        "sasl.username": "me",
        "sasl.password": "hunter2",
        "ssl.ca.location": "ca.pem",
        "ssl.certificate.location": "me.pem",
        "ssl.key.location": "me.key",
    }
    assert "hunter2" not in repr(connection)


def test_the_library_takes_all_options() -> None:
    heard = Heard()
    timing = Timing()
    producer = Producer(producer_options(CONNECTION, transactional_id="t", timing=timing), logger=heard)
    Consumer(
        consumer_options(CONNECTION, group="g", timing=timing, assignor="cooperative-sticky"), logger=heard
    ).close()
    producer.close()


def test_a_consumer_reads_what_is_committed_and_commits_nothing_by_itself() -> None:
    options = consumer_options(CONNECTION, group="g", timing=Timing(), assignor="range")
    names = ("isolation.level", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset")
    assert [options[name] for name in names] == ["read_committed", False, False, "error"]


@pytest.mark.parametrize(
    ("line", "is_lost"),
    [
        ("b:1/1: Disconnected: connection closed by peer (after 1348ms in state UP)", True),
        ("b:1/1: 2 request(s) timed out: disconnect (average rtt 1.2ms) (after 9ms in state UP)", True),
        ("b:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)", False),
    ],
)
def test_a_connection_that_carried_requests_is_lost_and_one_that_was_never_made_is_not(
    line: str, is_lost: bool
) -> None:
    heard = Heard()
    heard.log(20, "%s [%s] %s", "FAIL", "me", line)
    assert bool(heard.lost) is is_lost


def test_other_lines_of_the_log_mean_nothing() -> None:
    heard = Heard()
    heard.log(30, "%s [%s] %s", "CONFWARN", "me", "in state UP)")
    heard.log(20, "a line without words")
    assert heard.lost == []


def test_a_refusal_by_the_brokers_is_told_from_an_outage() -> None:
    heard = Heard()
    heard.error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    heard.check()
    heard.error(KafkaError(KafkaError._AUTHENTICATION, "wrong password (after 3ms in state AUTH_REQ)"))
    with pytest.raises(Refused, match="wrong password"):
        heard.check()
    assert heard.lost == []


def test_metadata_of_no_member_is_not_stable() -> None:
    consumer = Consumer(consumer_options(CONNECTION, group="g", timing=Timing(), assignor="range"), logger=Heard())
    assert read_metadata(consumer.consumer_group_metadata()) == (-1, "")
    consumer.close()


def test_metadata_of_another_form_is_refused() -> None:
    with pytest.raises(LifeOver, match="CGMDv2"):
        read_metadata(b"CGMDv3:\x00\x00\x00\x00g\x00m\x00")
