"""One short run of each measure, with the service of this tree, on a real broker."""

import sys
from pathlib import Path

import pytest

from bench.children import run_child
from bench.peers.environment import PeerUnavailable, confluent_python
from bench.serving.contenders import find_contenders
from bench.serving.runs import Scene, catch_up, latency
from tests.helpers.kafka_broker import KafkaBroker


@pytest.fixture
def scene(broker: KafkaBroker, tmp_path: Path) -> Scene:
    try:
        python = confluent_python()
    except PeerUnavailable as error:
        pytest.skip(str(error))
    run_child([sys.executable, "-m", "bench.serving.workload", tmp_path])
    return Scene(broker=broker, python=python, folder=tmp_path)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.xdist_group("kafka")
def test_a_short_run_of_each_measure_loses_nothing_and_counts_every_request(scene: Scene) -> None:
    (contender,), _ = find_contenders(["penstock, kafka-python"], also={})
    caught_up = catch_up(contender, scene=scene, count=1_000)
    assert (caught_up.missing, caught_up.double) == (0, 0)
    assert min(caught_up.cpu_s, caught_up.start_cpu_s) > 0
    timed = latency(contender, scene=scene, rate=200, seconds=2.0, warm_up_s=0.5)
    assert (timed.requests, timed.missing, timed.double) == (400, 0, 0)
    assert 0 < timed.p50_ms <= timed.p99_ms <= timed.max_ms
