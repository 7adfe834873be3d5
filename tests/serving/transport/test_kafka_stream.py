"""The collector on a real broker."""

import json
import time
from pathlib import Path

import pytest
from kafka import KafkaProducer
from prometheus_client import CollectorRegistry

from policies.events import Outcome, to_bytes
from policies.record_files import read_records
from serving.collect import Collector, Limits
from serving.metrics import Metrics
from serving.transport.kafka_clients import Timing
from serving.transport.kafka_reader import reading
from serving.transport.kafka_stream import KafkaStream
from tests.helpers.kafka_broker import add_partitions, make_topics
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workloads import at, decided_topics, run, send
from tests.helpers.lineups import artifact_of

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

DOMAIN = "ad_load"


def test_collect_keeps_each_record_once_and_joins(
    bootstrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = decided_topics(bootstrap, 60, domain=DOMAIN)
    make_topics(bootstrap, {topics.name("outcomes"): 2})
    (reward, *_) = artifact_of(DOMAIN).spec.rewards
    request_ids = [json.loads(row.value)["request"]["request_id"] for row in topics.read("decisions")]
    outcomes = [
        Outcome(request_id=one, domain=DOMAIN, time=1, rewards={reward.name: reward.upper}) for one in request_ids[:20]
    ]
    send(topics, "outcomes", [to_bytes(outcome) for outcome in outcomes])
    log = tmp_path / "log.parquet"
    words = ["collect", *at(topics), "--out", str(tmp_path), "--rows-per-file", "7", "--compact", "--join", str(log),
             "--artifact", str(artifact_of(DOMAIN).folder)]  # fmt: skip

    code, found = run(capsys, *words)
    assert (code, sum(found["records"].values()), found["join"]["rows"]) == (0, 80, 60)
    send(topics, "outcomes", [to_bytes(outcomes[0])])
    code, found = run(capsys, *words)
    assert (code, found["records"], found["files"]) == (0, {topics.name("outcomes"): 1}, 1)
    for last in ("decisions", "outcomes"):
        expected = sorted((row.partition, row.offset, row.value) for row in topics.read(last))
        kept = [
            (partition, record.offset, record.value)
            for partition in (0, 1)
            for record in read_records(tmp_path / topics.name(last) / str(partition))
        ]
        assert kept == expected
    code, found = run(capsys, "evaluate", str(log), "--target", "same=logged", "--reward", reward.name, "--json")
    assert code == 0


def test_collect_takes_up_partitions_that_are_added_while_it_follows(bootstrap: str, tmp_path: Path) -> None:
    topics = Topics(bootstrap, domain=DOMAIN, partition_count=1)
    names = [topics.name("decisions"), topics.name("outcomes")]
    send(topics, "decisions", [b"before"])
    metrics = Metrics(CollectorRegistry())
    with reading(Topics.connection(bootstrap), timing=Timing()) as reader:
        stream = KafkaStream(reader, topics=names, group=f"{topics.prefix}-collect")
        collector = Collector(
            stream, tmp_path, limits=Limits(rows=1, look_s=0.0), seconds=time.monotonic, metrics=metrics
        )
        add_partitions(bootstrap, {names[0]: 2})
        make_topics(bootstrap, {names[1]: 1})
        grown = Topics(bootstrap, domain=DOMAIN, prefix=topics.prefix, partition_count=2)
        producer = KafkaProducer(bootstrap_servers=grown.bootstrap)
        for name, partition in ((names[0], 1), (names[1], 0), (names[0], 0)):
            producer.send(name, b"after", partition=partition).get(10)
        producer.close(5)
        give_up = time.monotonic() + 30.0
        collected = collector.run(
            follow=True, is_stopped=lambda: collector.collected.files == 4 or time.monotonic() > give_up
        )
        assert stream.committed() == {(names[0], 0): 2, (names[0], 1): 1, (names[1], 0): 1}
    assert dict(collected.records) == {names[0]: 3, names[1]: 1}
    assert [one.value for one in read_records(tmp_path / names[0] / "1")] == [b"after"]
