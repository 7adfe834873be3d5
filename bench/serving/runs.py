"""One run: topics of its own, requests, a service, a reader; nothing is left behind."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from numpy.typing import NDArray

from bench.peers.serving.schedule import DOMAIN, PARTITIONS, arrivals, warm_up_count
from bench.serving.contenders import Contender, environment_of
from bench.serving.figures import (
    CatchUp,
    Latency,
    Load,
    count_answers,
    cpu_share_of,
    latencies_ms,
    memory_of,
    shares_ms,
)
from bench.serving.processes import Helper, Service, busy_s, cpu_s_of
from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_topics import LASTS, Topics

WARM_UP_S: Final = 5.0
SEED: Final = 7
ENDS: Final = ("complete", "silent")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What all runs share: the broker, the interpreter that feeds and reads, and the folder of the work."""

    broker: KafkaBroker
    python: Path
    folder: Path


@dataclass(kw_only=True)
class Cast:
    """The processes of one run, and how they are told apart from other work of the machine."""

    scene: Scene
    topics: Topics
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    busy_s: float = field(default_factory=busy_s)
    began_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._broker_cpu_s, self._own_cpu_s = cpu_s_of(self.scene.broker.pid), cpu_s_of(os.getpid())
        self._stack = contextlib.ExitStack()

    def load(self, count: int, *, rate: float) -> Helper:
        """Start what asks for decisions."""
        words = [self.topics.bootstrap, self.topics.name("requests"), self.scene.folder / "requests.jsonl"]
        return self._helper("bench.peers.serving.load", *words, count, rate, SEED)

    def reader(self, count: int) -> Helper:
        """Start what reads answers."""
        words = [self.topics.bootstrap, self.topics.name("decisions"), count, self.scene.folder / "pairs"]
        return self._helper("bench.peers.serving.committed", *words)

    def service(self, contender: Contender) -> Service:
        """Start the service that is measured."""
        command, log = contender.command(self.topics, self.scene.folder), self.scene.folder / "service.log"
        service = Service(command, environment=environment_of(contender), log=log)
        self._stack.callback(service.close)
        return service

    def pairs(self) -> NDArray[np.int64]:
        """Return what the reader has read: int64 [N, 2]."""
        return np.fromfile(self.scene.folder / "pairs", dtype=np.int64).reshape(-1, 2)

    def loads(self, *, ours_s: float) -> Load:
        """Return how busy the machine was since the cast came together.

        Args:
            ours_s: CPU time of service, generator and reader since then.
        """
        wall_s, busy = time.monotonic() - self.began_s, busy_s() - self.busy_s
        ours_s += cpu_s_of(self.scene.broker.pid) - self._broker_cpu_s + cpu_s_of(os.getpid()) - self._own_cpu_s
        return Load(before=self.load_before, busy_cores=busy / wall_s, other_cores=max(0.0, busy - ours_s) / wall_s)

    def close(self) -> None:
        """End what still runs, and delete the topics."""
        self._stack.close()
        with contextlib.suppress(KafkaError, OSError):
            admin = KafkaAdminClient(bootstrap_servers=self.topics.bootstrap)
            try:
                admin.delete_topics([self.topics.name(last) for last in LASTS])
            finally:
                admin.close()

    def _helper(self, module: str, *words: object) -> Helper:
        log = self.scene.folder / f"{module.rpartition('.')[2]}.log"
        helper = Helper([self.scene.python, "-m", module, *map(str, words)], log=log)
        self._stack.callback(helper.close)
        return helper


@contextlib.contextmanager
def cast_of(scene: Scene) -> Iterator[Cast]:
    """Bring a run's processes together, and end them."""
    cast = Cast(scene=scene, topics=Topics(scene.broker.bootstrap, partition_count=PARTITIONS, domain=DOMAIN))
    try:
        yield cast
    finally:
        cast.close()


def catch_up(contender: Contender, *, scene: Scene, count: int) -> CatchUp:
    """Measure the CPU of deciding requests that wait, less that of a run which finds one per partition.

    Raises:
        RunFailed: a process ended or fell silent.
    """
    start_cpu_s = _decide_waiting(contender, scene, 0)["cpu_s"]
    found = _decide_waiting(contender, scene, count)
    return CatchUp(contender=contender.name, requests=count, start_cpu_s=start_cpu_s, **found)


def _decide_waiting(contender: Contender, scene: Scene, count: int) -> dict[str, Any]:
    """Let a service decide so many requests that wait, and one more per partition; return what that took."""
    with cast_of(scene) as cast:
        fed = cast.load(count, rate=0).result()
        total = count + PARTITIONS
        reader = cast.reader(total)
        began_s = time.monotonic()
        service = cast.service(contender)
        reader.await_word("ready", is_alive=lambda: service.is_running)
        reader.await_word(*ENDS, is_alive=lambda: service.is_running)
        wall_s = time.monotonic() - began_s
        cpu_s = service.end()
        reader.go_on()
        read = reader.result()
        missing, double = count_answers(cast.pairs()[:, 0], count=total)
        load = cast.loads(ours_s=cpu_s + fed["cpu_s"] + read["cpu_s"])
    return {
        "missing": missing,
        "double": double,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "answer_bytes": read["answer_bytes"],
        "load": load,
    }


def latency(contender: Contender, *, scene: Scene, rate: int, seconds: float, warm_up_s: float = WARM_UP_S) -> Latency:
    """Measure how long after they were due requests are answered, while they come at a rate.

    The first `warm_up_s` seconds are left out.

    Raises:
        RunFailed: a process ended or fell silent before the first answer.
    """
    count = int(rate * seconds)
    times = arrivals(count, rate=rate, seed=SEED)
    with cast_of(scene) as cast:
        reader = cast.reader(count + PARTITIONS)
        service = cast.service(contender)
        generator = cast.load(count, rate=rate)
        generator.await_word("waiting")
        reader.await_word("ready", is_alive=lambda: service.is_running)
        generator.go_on()
        fed = generator.result()
        reader.await_word(*ENDS, is_alive=lambda: service.is_running)
        cpu_s = service.end()
        reader.go_on()
        read = reader.result()
        pairs, load = cast.pairs(), cast.loads(ours_s=cpu_s + fed["cpu_s"] + read["cpu_s"])
    begin_s, warm_up = fed["begin_ns"] / 1e9, warm_up_count(times, seconds=warm_up_s)
    samples = [one for one in service.samples if begin_s + warm_up_s <= one.at_s <= begin_s + times[-1]]
    missing, double = count_answers(pairs[:, 0], count=count + PARTITIONS)
    p50, p99, largest = shares_ms(latencies_ms(pairs, times, begin_ns=fed["begin_ns"], warm_up=warm_up))
    rss_mib, slope = memory_of(samples)
    return Latency(
        contender=contender.name,
        rate=rate,
        requests=count,
        missing=missing,
        double=double,
        p50_ms=p50,
        p99_ms=p99,
        max_ms=largest,
        cpu_share=cpu_share_of(samples),
        rss_mib=rss_mib,
        rss_mib_per_min=slope,
        lag_p99_ms=fed["lag_p99_ms"],
        generator_cpu_share=fed["cpu_s"] / fed["wall_s"],
        reader_cpu_share=read["cpu_s"] / times[-1],
        load=load,
    )
