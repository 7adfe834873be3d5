"""Workers by librdkafka die, are paused and come back while requests stream in; another client counts the results."""

import signal
import threading
import time
from pathlib import Path

import pytest

from serving.verify import verify
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_judge import judge
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workers import working
from tests.helpers.lineups import artifact_of, lineup

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

COUNT = 20_000
SLICES = 20


def test_each_of_20000_requests_has_one_result_whatever_dies(bootstrap: str, tmp_path: Path) -> None:
    topics = Topics(bootstrap, partition_count=4, domain="ad_load")
    messages = WORKLOADS["ad_load"]().messages(COUNT)
    flags = ["--kafka-client", "librdkafka"]
    with working(topics, artifact=artifact_of("ad_load").folder, logs=tmp_path, flags=flags) as workers:
        for name in ("a", "b", "c"):
            workers.start(name)
        workers.await_committed(0, timeout_s=20)
        feeding = threading.Thread(target=_feed, args=(topics, messages))
        feeding.start()
        workers.await_committed(2_000, timeout_s=60)
        workers.kill("a")
        time.sleep(0.5)
        workers.start("a")
        workers.await_committed(6_000, timeout_s=60)
        workers.send("b", signal.SIGSTOP)  # for longer than the session: its partitions go to the others
        time.sleep(7.5)
        workers.send("b", signal.SIGCONT)
        workers.await_committed(12_000, timeout_s=60)
        workers.kill("c")
        workers.kill("b")
        workers.start("c")
        feeding.join()
        workers.await_committed(COUNT, timeout_s=60)
        ended = [workers.end(name) for name in ("a", "b", "c") if workers.is_running(name)]
        logs = {name: workers.log(name)[-3000:] for name in ("a", "b", "c")}

    found = judge(topics)
    assert (found.requests, found.results, found.is_clean) == (COUNT, COUNT, True), logs
    assert set(ended) == {0}, logs
    verified = verify([row.value for row in topics.read("decisions")], lineups=[lineup("ad_load")])
    assert (verified.decisions, verified.different, verified.bitwise) == (COUNT, 0, COUNT)


def _feed(topics: Topics, messages: list[bytes]) -> None:
    """Feed requests over some ten seconds, so that kills meet work under way."""
    step = len(messages) // SLICES
    for start in range(0, len(messages), step):
        topics.feed(messages[start : start + step])
        time.sleep(0.4)
