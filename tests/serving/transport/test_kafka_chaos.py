"""Workers die, are paused and come back while requests stream in; another client finds one result of each request."""

import signal
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from serving.verify import verify
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_topics import Echo, Topics
from tests.helpers.kafka_workers import working
from tests.helpers.lineups import artifact_of, lineup

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

COUNT = 20_000
SLICES = 20


def _stream(topics: Topics, messages: list[bytes]) -> threading.Thread:
    """Feed requests over some ten seconds, so that kills meet work under way."""

    def feed() -> None:
        step = len(messages) // SLICES
        for start in range(0, len(messages), step):
            topics.feed(messages[start : start + step])
            time.sleep(0.4)

    thread = threading.Thread(target=feed)
    thread.start()
    return thread


def test_each_of_20000_requests_has_one_result_whatever_dies(bootstrap: str, tmp_path: Path) -> None:
    topics = Topics(bootstrap, partition_count=4, domain="ad_load")
    messages = WORKLOADS["ad_load"]().messages(COUNT)
    with working(topics, artifact=artifact_of("ad_load").folder, logs=tmp_path) as workers:
        workers.start("a")
        workers.start("b")
        workers.await_committed(0, timeout_s=20)
        feeding = _stream(topics, messages)
        workers.await_committed(2_000, timeout_s=30)
        workers.kill("a")
        time.sleep(0.5)
        workers.start("a")
        workers.await_committed(6_000, timeout_s=30)
        workers.send("b", signal.SIGSTOP)  # for longer than the session: its partitions go to the other
        time.sleep(7.5)
        workers.send("b", signal.SIGCONT)
        workers.await_committed(12_000, timeout_s=30)
        workers.kill("b")
        workers.kill("a")
        workers.start("b")
        feeding.join()
        workers.await_committed(COUNT, timeout_s=40)
        ended = [workers.end(name) for name in ("a", "b") if workers.is_running(name)]
        logs = {name: workers.log(name) for name in ("a", "b")}

    decisions = [row.value for row in topics.read("decisions")]
    sources = Counter(
        (source.partition, source.offset)
        for source in (msgspec.json.decode(row, type=Echo).source for row in decisions)
    )
    wanted = {(partition, offset) for partition in range(4) for offset in range(COUNT // 4)}
    assert {source: count for source, count in sources.items() if count != 1} == {}, logs
    assert wanted - set(sources) == set(), logs
    assert topics.read("dead-letters") == []
    assert set(ended) == {0}, logs
    verified = verify(decisions, lineups=[lineup("ad_load")])
    assert (verified.decisions, verified.different, verified.bitwise) == (COUNT, 0, COUNT)
