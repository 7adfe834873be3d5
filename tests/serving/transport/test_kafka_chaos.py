"""Workers die, are paused and come back while requests stream in; a reader outside finds one result of each request."""

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from serving.verify import verify
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_feeder import Feeder
from tests.helpers.kafka_judge import Source, counting, ends_of, verdict
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workers import Workers, working
from tests.helpers.lineups import artifact_of, lineup

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

COUNT = 100_000
RATE = 6_000.0
"""Requests per second that come: few enough that each kill meets work under way, many enough to be done soon."""
NAMES = ("a", "b", "c")


def befall(workers: Workers) -> None:
    """Kill each worker once, and pause one for longer than its session, each time amid the stream."""
    for name, committed in (("a", 10_000), ("b", 55_000), ("c", 80_000)):
        found = workers.await_committed(committed, timeout_s=60)
        assert found < COUNT, "the kill comes too late to meet work"
        workers.kill(name)
        workers.start(name)
        if name == "a":
            workers.await_committed(30_000, timeout_s=60)
            workers.send("b", signal.SIGSTOP)  # its partitions go to the others
            time.sleep(7.5)
            workers.send("b", signal.SIGCONT)


def test_each_of_100000_requests_has_one_result_whatever_dies(bootstrap: str, tmp_path: Path) -> None:
    topics = Topics(bootstrap, partition_count=6, domain="ad_load")
    feeder = Feeder(topics, WORKLOADS["ad_load"]().messages(COUNT), rate=RATE)
    with working(topics, artifact=artifact_of("ad_load").folder, logs=tmp_path) as workers:
        for name in NAMES:
            workers.start(name)
        feeder.start()
        befall(workers)
        feeder.join()
        workers.await_committed(COUNT, timeout_s=60)
        ended = [workers.end(name) for name in NAMES]
        logs = {name: workers.log(name) for name in NAMES}

    results: Counter[Source] = Counter()
    verified = verify(counting(topics, "decisions", results), lineups=[lineup("ad_load")])
    found = verdict(results, ends=ends_of(topics))
    assert (found.requests, found.missing, found.double) == (COUNT, 0, 0), logs
    assert topics.read("dead-letters") == []
    assert set(ended) == {0}, logs
    assert (verified.decisions, verified.different, verified.bitwise) == (COUNT, 0, COUNT)
