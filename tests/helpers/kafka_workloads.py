"""A worker that decides a workload's requests on a broker, in this process, for tests of the verbs around it."""

import json
import logging
from typing import Any

import pytest
from kafka import KafkaProducer

from penstock.main import main
from serving.decide import decide
from serving.receive import receive
from serving.record import record
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_topics import Topics
from tests.helpers.lineups import lineup


def decide_all(topics: Topics, *, domain: str) -> None:
    """Decide what waits, with the workload's artifact, and leave the group."""
    line = lineup(domain)
    transport = topics.open(max_batch=100)
    try:
        while not (batch := transport.poll()).is_end:
            received = receive(batch.messages, known_domains=line.domains)
            results = record(received, decide(received, line, now=0), catalogue=line.identity, now=0)
            transport.settle(batch, results)
    finally:
        transport.close()


def at(topics: Topics, *extra: str) -> list[str]:
    """Return the flags that name a test's topics and group."""
    where = ["--brokers", topics.bootstrap, "--prefix", topics.prefix, "--group", f"{topics.prefix}-group"]
    return [*where, "--json", *extra]


def decided_topics(bootstrap: str, count: int, *, domain: str) -> Topics:
    """Return topics on which a worker has decided some requests, one of them ill formed."""
    topics = Topics(bootstrap, domain=domain)
    messages = WORKLOADS[domain]().messages(count)
    topics.feed([*messages[1:], b"{"])
    send(topics, "requests", messages[:1], in_transaction=f"{topics.prefix}-producer")
    decide_all(topics, domain=domain)
    return topics


def send(topics: Topics, last: str, values: list[bytes], *, in_transaction: str | None = None) -> None:
    """Append values to partition 0 of a topic."""
    name = {} if in_transaction is None else {"transactional_id": in_transaction}
    producer = KafkaProducer(bootstrap_servers=topics.bootstrap, **name)
    try:
        if in_transaction is not None:
            producer.init_transactions()
            producer.begin_transaction()
        for value in values:
            producer.send(topics.name(last), value, partition=0)
        if in_transaction is not None:
            producer.commit_transaction()
    finally:
        producer.close(5)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Run a verb and return its exit code and result."""
    capsys.readouterr()
    code = main(list(words))
    printed = capsys.readouterr()
    logging.getLogger("penstock.serving").handlers.clear()  # the stream that it logs to ends with the capture
    assert printed.out, printed.err
    result: dict[str, Any] = json.loads(printed.out)["result"]
    return code, result
