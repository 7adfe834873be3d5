"""The audit on a real broker: what a worker left there, and what was put there or lost beside it."""

import json
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
from kafka import KafkaAdminClient, TopicPartition

from penstock.main import main
from serving.audit import audit
from serving.transport.kafka_books import KafkaBooks
from serving.transport.kafka_clients import Timing
from serving.transport.kafka_reader import reading
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_broker import add_partitions
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workloads import at, decide_all, decided_topics, run, send

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

DOMAIN = "ad_load"


def test_audit_finds_each_committed_request_answered_once(bootstrap: str, capsys: pytest.CaptureFixture[str]) -> None:
    topics = decided_topics(bootstrap, 200, domain=DOMAIN)
    code, found = run(capsys, "audit", *at(topics))
    # The producer of one request was transactional: its marker is an offset that needs no result.
    assert (code, found["requests"], found["results"], found["missing"], found["double"]) == (0, 201, 201, 0, 0)
    assert found["lag"] <= 1

    first = topics.read("decisions")[0]
    send(topics, "decisions", [first.value])
    code, found = run(capsys, "audit", *at(topics))
    source = json.loads(first.value)["source"]
    assert (code, found["double"], found["missing"], found["first_double"]) == (3, 1, 0, [source])


def test_audit_names_what_a_loop_without_transactions_has_lost(
    bootstrap: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = Topics(bootstrap, domain=DOMAIN)
    topics.feed(WORKLOADS[DOMAIN]().messages(10))
    assert main(["audit", *at(topics)]) == 2  # the group has committed nothing
    transport = topics.open()
    batch = transport.poll()
    transport.settle(batch, [], positions=dict.fromkeys(transport.places(), 2))
    transport.close()
    code, found = run(capsys, "audit", *at(topics))
    assert (code, found["missing"], found["requests"], found["lag"]) == (3, 4, 4, 6)
    assert [(one["partition"], one["offset"]) for one in found["first_missing"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_audit_begins_where_results_are_left_after_retention(
    bootstrap: str, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = decided_topics(bootstrap, 20, domain=DOMAIN)
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_records({TopicPartition(topics.name("decisions"), 0): 3})
    finally:
        admin.close()
    code, found = run(capsys, "audit", *at(topics))
    assert (code, found["requests"], found["missing"]) == (0, 0, 0)


def test_audit_follows_with_metrics_until_it_is_stopped(bootstrap: str) -> None:
    topics = decided_topics(bootstrap, 20, domain=DOMAIN)
    send(topics, "decisions", [topics.read("decisions")[0].value])
    words = ["audit", *at(topics), "--follow", "--metrics-port", "0"]
    main_call = "import sys; from penstock.main import main; sys.exit(main(sys.argv[1:]))"
    shown = f'penstock_audit_double_total{{topic="{topics.name("requests")}"}} 1.0'
    with subprocess.Popen(
        [sys.executable, "-c", main_call, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            url = process.stderr.readline().removeprefix("metrics: ").strip()
            give_up = time.monotonic() + 20
            while shown not in urlopen(url, timeout=5).read().decode():
                assert time.monotonic() < give_up
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            printed, _ = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 3
    assert json.loads(printed)["result"]["double"] == 1


def test_audit_follows_partitions_that_are_added(bootstrap: str, capsys: pytest.CaptureFixture[str]) -> None:
    topics = decided_topics(bootstrap, 20, domain=DOMAIN)
    first, count = topics.read("decisions")[0], topics.partition_count
    rounds = iter(range(3))

    def wait() -> bool:
        number = next(rounds)
        if number == 0:
            add_partitions(bootstrap, dict.fromkeys(topics.partitions, count + 1))
            grown = Topics(bootstrap, domain=DOMAIN, prefix=topics.prefix, partition_count=count + 1)
            asked = WORKLOADS[DOMAIN]().messages(50)[21:]
            grown.feed(asked)
            decide_all(grown, domain=DOMAIN)
        elif number == 1:
            again = json.loads(first.value) | {
                "source": {"topic": topics.name("requests"), "partition": 2, "offset": 0}
            }
            send(topics, "decisions", [json.dumps(again).encode()])
        return number == 2

    connection = Topics.connection(bootstrap)
    with reading(connection, timing=Timing()) as reader:
        books = KafkaBooks(reader, prefix=topics.prefix, domains=[DOMAIN], group=f"{topics.prefix}-group")
        found = audit(books, wait=wait)
    assert (found.requests, found.missing, found.double) == (50, 0, 1)
    assert [(one.partition, one.offset) for one in found.first_double] == [(2, 0)]
