"""The collector on a real broker."""

import json
from pathlib import Path

import pytest

from policies.events import Outcome, to_bytes
from policies.record_files import read_records
from tests.helpers.kafka_broker import make_topics
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
