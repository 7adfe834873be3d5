"""The doctor at a real broker, and where none listens."""

import json
import threading
import time
from typing import Any, cast

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import ClusterAuthorizationFailedError

from serving.doctor import Finding
from serving.transport.kafka_clients import Connection
from serving.transport.kafka_doctor import CHECKS, Names, check_brokers, look_with
from serving.transport.kafka_patient import Patient
from tests.helpers.kafka_broker import make_topics
from tests.helpers.kafka_hanging import abort_hanging, leave_hanging, leaving_unverified
from tests.helpers.kafka_secured import Secured
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workloads import at, decided_topics, run
from tests.helpers.lineups import artifact_of
from tests.helpers.listening import listening

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

DOMAIN = "ad_load"


def test_doctor_finds_nothing_wrong_and_then_what_is_wrong(bootstrap: str, capsys: pytest.CaptureFixture[str]) -> None:
    topics = decided_topics(bootstrap, 10, domain=DOMAIN)
    words = ["doctor", *at(topics), "--artifact", str(artifact_of(DOMAIN).folder)]
    code, found = run(capsys, *words)
    assert [finding for finding in found["findings"] if finding["state"] != "ok"] == []
    assert code == 0

    make_topics(bootstrap, {topics.name("outcomes"): 3})
    code, found = run(capsys, *words)
    wrong = [finding for finding in found["findings"] if finding["state"] == "wrong"]
    assert (code, [finding["check"] for finding in wrong]) == (4, ["topics"])
    assert "not co-partitioned" in wrong[0]["detail"]
    code, found = run(capsys, "doctor", *at(topics, "--domain", "absent"))
    assert code == 4
    assert f"missing: {topics.prefix}.absent.requests" in json.dumps(found)


def test_doctor_says_that_no_broker_listens(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run(capsys, "doctor", "--brokers", "127.0.0.1:1", "--json")
    assert code == 4
    assert [finding["detail"] for finding in found["findings"] if finding["state"] == "wrong"] == [
        "127.0.0.1:1 takes no connection"
    ]


def test_doctor_finds_a_transaction_that_stays_open_and_clocks_that_are_apart_either_way(bootstrap: str) -> None:
    topics = decided_topics(bootstrap, 4, domain=DOMAIN)
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topics.prefix}-open")
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topics.name("decisions"), b"{}", partition=0).get(10)
        here, later, before = (look(topics, ahead_s=ahead_s) for ahead_s in (0.0, 120.0, -120.0))
        producer.abort_transaction()
    finally:
        producer.close(5)
    assert here == []
    transactions = [one for one in later if one.check == "transactions"]
    clocks = {name: [one.detail for one in found if one.check == "clock"] for name, found in states_of(later, before)}
    assert [one.check for one in later] == ["clock", "transactions"]
    assert transactions[0].detail.startswith("open: ")
    assert f"transactional id {topics.prefix}-open" in transactions[0].detail
    assert "s behind ours" in clocks["later"][0]
    assert ["ahead of ours" in clocks["before"][0], "s ahead of this machine" in clocks["before"][1]] == [True, True]


def look(topics: Topics, *, ahead_s: float) -> list[Finding]:
    """Return what is not right by a clock that is ahead."""
    group = f"{topics.prefix}-group"
    names = Names(prefix=topics.prefix, domains=[DOMAIN], group=group, transactional_id=f"{group}-a")
    connection = Connection(brokers=(topics.bootstrap,), client_id="test-doctor")
    found = check_brokers(connection, names, seconds=lambda: time.time() + ahead_s)
    return [finding for finding in found if finding.state != "ok"]


def states_of(later: list[Finding], before: list[Finding]) -> list[tuple[str, list[Finding]]]:
    return [("later", later), ("before", before)]


def test_doctor_finds_what_hangs_although_its_coordinator_holds_it_to_be_over(secured: Secured) -> None:
    topics = decided_topics(secured.bootstrap, 4, domain=DOMAIN)
    place = TopicPartition(topics.name("decisions"), 1)
    with leaving_unverified(secured.bootstrap):
        leave_hanging(secured.bootstrap, place)
    found = [one for one in look(topics, ahead_s=90.0) if one.check == "transactions"]
    (end,) = [row.offset + 2 for row in topics.read("decisions") if row.partition == 1][-1:]
    assert [one.detail.split(",")[0] for one in found] == [f"hangs: {place.topic}/1 from offset {end}"]
    command = f"abort --topic {place.topic} --partition 1 --start-offset {end}"
    assert found[0].remedy is not None
    assert command in found[0].remedy
    abort_hanging(secured.bootstrap, topics=[place.topic], older_than_s=0.0)
    assert [one for one in look(topics, ahead_s=90.0) if one.check == "transactions"] == []


def test_a_broker_that_answers_nothing_is_found_without_waiting_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.transport.kafka_access.STEP_S", 0.05)
    held = threading.Event()
    with listening(lambda channel: held.wait(5)) as broker:
        connection = Connection(brokers=(broker,), client_id="test-doctor")
        names = Names(prefix="p", domains=[DOMAIN], group="g", transactional_id="g-a")
        (found,) = check_brokers(connection, names, seconds=time.time)
        held.set()
    assert (found.state, found.detail) == ("wrong", f"{broker} does not answer")


class Refusing:
    """A client whose brokers allow nothing and tell little."""

    def describe_configs(self, resources: object) -> None:
        raise ClusterAuthorizationFailedError


def test_what_is_not_allowed_is_found_and_what_is_not_told_is_unknown() -> None:
    part = {"partition_index": 0, "error_code": 0, "leader_id": -1, "isr_nodes": [1], "replica_nodes": [1, 2]}
    names = [f"p.{DOMAIN}.{last}" for last in ("requests", "decisions", "shadow", "dead-letters")]
    topics = {name: {"partitions": [part], "authorized_operations": ["DESCRIBE"]} for name in names}
    patient: Any = Patient(
        admin=Refusing(), reader=cast("Any", None), prefix="p", domains=[DOMAIN], group="g", transactional_id="g-a",
        topics=topics, seconds=time.time,
    )  # fmt: skip
    found = look_with({name: CHECKS[name] for name in ("leaders", "cleanup")}, patient)
    assert [(finding.check, finding.state) for finding in found] == [
        ("leaders", "wrong"), ("leaders", "wrong"), ("cleanup", "unknown"),
    ]  # fmt: skip
    assert all(finding.remedy for finding in found if finding.state == "wrong")
