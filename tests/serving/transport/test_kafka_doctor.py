"""The doctor at a real broker, and where none listens."""

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.errors import ClusterAuthorizationFailedError

from serving.transport.kafka_clients import Connection
from serving.transport.kafka_doctor import CHECKS, check_brokers, look_with
from tests.helpers.kafka_broker import make_topics
from tests.helpers.kafka_topics import TIMING
from tests.helpers.kafka_workloads import at, decided_topics, run
from tests.helpers.lineups import artifact_of

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


def test_doctor_finds_a_transaction_that_hangs_and_a_clock_that_is_behind(bootstrap: str) -> None:
    topics = decided_topics(bootstrap, 4, domain=DOMAIN)
    connection = Connection(brokers=(bootstrap,), client_id="test-doctor")
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topics.prefix}-open")
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topics.name("decisions"), b"{}", partition=0).get(10)
        states = {
            ahead_s: {
                finding.check: finding.state
                for finding in check_brokers(
                    connection, prefix=topics.prefix, domains=[DOMAIN], group=f"{topics.prefix}-group",
                    timing=TIMING, now_s=time.time() + ahead_s,
                )
            }
            for ahead_s in (120.0, -120.0)
        }  # fmt: skip
        producer.abort_transaction()
    finally:
        producer.close(5)
    assert {check: state for check, state in states[120.0].items() if state != "ok"} == {"transactions": "wrong"}
    assert {check: state for check, state in states[-120.0].items() if state != "ok"} == {"clock": "wrong"}


class Refusing:
    """A client whose brokers allow nothing and tell little."""

    def describe_configs(self, resources: object) -> None:
        raise ClusterAuthorizationFailedError


def test_what_is_not_allowed_is_found_and_what_is_not_told_is_unknown() -> None:
    part = {"partition_index": 0, "error_code": 0, "leader_id": -1, "isr_nodes": [1], "replica_nodes": [1, 2]}
    names = [f"p.{DOMAIN}.{last}" for last in ("requests", "decisions", "shadow", "dead-letters")]
    topics = {name: {"partitions": [part], "authorized_operations": ["DESCRIBE"]} for name in names}
    patient: Any = SimpleNamespace(prefix="p", domains=[DOMAIN], topics=topics, admin=Refusing())
    checks = {name: CHECKS[name] for name in ("leaders", "permissions", "cleanup")}
    found = look_with(checks, patient)
    assert [(finding.check, finding.state) for finding in found] == [
        ("leaders", "wrong"), ("leaders", "wrong"), *[("permissions", "wrong")] * 4, ("cleanup", "unknown"),
    ]  # fmt: skip
    assert all(finding.remedy for finding in found if finding.state == "wrong")
