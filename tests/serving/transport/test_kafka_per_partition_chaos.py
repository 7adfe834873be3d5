"""Workers with a transaction per partition die and are paused while requests stream in; each has one result."""

import signal
import threading
import time
from pathlib import Path

import pytest

from serving.verify import verify
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_judge import judge
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workers import Workers, working
from tests.helpers.lineups import artifact_of, lineup

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

COUNT = 20_000
SLICES = 20
NAMES = ("a", "b")


def stream(topics: Topics, messages: list[bytes]) -> threading.Thread:
    """Feed requests over some ten seconds, so that kills meet work under way."""

    def feed() -> None:
        step = len(messages) // SLICES
        for start in range(0, len(messages), step):
            topics.feed(messages[start : start + step])
            time.sleep(0.4)

    thread = threading.Thread(target=feed)
    thread.start()
    return thread


def befall(workers: Workers) -> None:
    """Kill one worker, pause the other for longer than its session, and then kill both."""
    workers.await_committed(2_000, timeout_s=60)
    workers.kill("a")
    workers.start("a")
    workers.await_committed(6_000, timeout_s=60)
    workers.send("b", signal.SIGSTOP)
    time.sleep(7.5)
    workers.send("b", signal.SIGCONT)
    workers.await_committed(12_000, timeout_s=60)
    for name in NAMES:
        workers.kill(name)
    workers.start("b")


def test_each_of_20000_requests_has_one_result_whatever_dies(bootstrap: str, tmp_path: Path) -> None:
    topics = Topics(bootstrap, partition_count=4, domain="ad_load")
    flags = ["--transaction-per-partition"]
    with working(topics, artifact=artifact_of("ad_load").folder, logs=tmp_path, flags=flags) as workers:
        for name in NAMES:
            workers.start(name)
        feeding = stream(topics, WORKLOADS["ad_load"]().messages(COUNT))
        befall(workers)
        feeding.join()
        workers.await_committed(COUNT, timeout_s=60)
        ended = [workers.end(name) for name in NAMES if workers.is_running(name)]
        logs = {name: workers.log(name) for name in NAMES}

    found = judge(topics)
    assert (found.results, found.missing, found.double) == (COUNT, 0, 0), logs
    assert set(ended) == {0}, logs
    verified = verify([row.value for row in topics.read("decisions")], lineups=[lineup("ad_load")])
    assert (verified.decisions, verified.different, verified.bitwise) == (COUNT, 0, COUNT)
