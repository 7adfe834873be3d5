"""Kill, pause and cut workers of a live Kafka while requests come, and count what became of each request.

Workers are `penstock serve` processes that reach Apache Kafka through a fault proxy; requests are fed and results are
read past it. The reader is another client, librdkafka, or where that cannot be installed a plain consumer. A run is
judged when all requests are committed; one request without a result, or a result too many, fails the run.

    python -m bench.chaos [--seeds 1,2,3] [--requests 20000] [--rate 1000] [--json]
"""

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from bench.chaos_schedule import WORKERS, Step, draw
from bench.children import run_child
from bench.peers.environment import PeerUnavailable, confluent_python
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_broker import KafkaBroker, running_broker
from tests.helpers.kafka_hanging import abort_hanging
from tests.helpers.kafka_judge import Verdict, ends_of, judge, open_transactions, verdict
from tests.helpers.kafka_proxy import FaultProxy, Scatter, proxied
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workers import Workers, working
from tests.helpers.lineups import artifact_of

DOMAIN: Final = "ad_load"
PARTITIONS: Final = 4
SETTLED_S: Final = 120.0
"""How long after the last request all of them must be committed."""

HANGING_S: Final = 40.0
"""A transaction that is open longer than it may last and the broker may take to look, by far, hangs."""

READER: Final = Path(__file__).parent / "peers" / "committed_sources.py"


@dataclass(kw_only=True)
class Run:
    """What one seed came to."""

    seed: int
    verdict: Verdict
    kills: int
    pauses: int
    broker_kills: int
    faults: int
    exits: int
    hanging: int
    seconds: float
    hits: dict[str, int] = field(default_factory=dict)


def messages(count: int, *, seed: int) -> list[bytes]:
    """Make requests, with some poison among them: no JSON, unknown fields, sent twice, too large."""
    source = random.Random(seed)
    found = WORKLOADS[DOMAIN]().messages(count)
    for number in source.sample(range(count), count // 100):
        kind = source.choice(("not_json", "empty", "wrong_type", "again"))
        if kind == "again":
            found[number] = found[source.randrange(count)]
        else:
            found[number] = {"not_json": b"\xff{", "empty": b"", "wrong_type": b'{"request_id":7}'}[kind]
    for number in source.sample(range(count), 3):
        found[number] = b'{"request_id":"large","pad":"%s"}' % (b"x" * 600_000)
    return found


class Feeder(threading.Thread):
    """Send requests at a steady rate, by a producer made anew each time; what it sends twice is asked twice."""

    def __init__(self, topics: Topics, requests: list[bytes], *, rate: float) -> None:
        super().__init__(daemon=True)
        self._topics, self._requests, self._rate = topics, requests, rate

    def run(self) -> None:
        step = max(1, int(self._rate / 10))
        begin = time.monotonic()
        for start in range(0, len(self._requests), step):
            while not self._feed(self._requests[start : start + step]):
                time.sleep(0.5)
            time.sleep(max(0.0, begin + start / self._rate - time.monotonic()))

    def _feed(self, values: list[bytes]) -> bool:
        try:
            producer = KafkaProducer(bootstrap_servers=self._topics.bootstrap, bootstrap_timeout_ms=5_000, linger_ms=5)
            try:
                futures = [
                    producer.send(self._topics.name("requests"), value, partition=number % PARTITIONS)
                    for number, value in enumerate(values)
                ]
                for future in futures:
                    future.get(10)
            finally:
                producer.close(timeout=2)
        except (KafkaError, OSError):
            return False
        return True


class Chaos:
    """Carry out a schedule on workers, proxy and broker, starting again whatever has ended."""

    def __init__(self, workers: Workers, proxy: FaultProxy, broker: KafkaBroker, *, seed: int) -> None:
        self._workers, self._proxy, self._broker, self._seed = workers, proxy, broker, seed
        self._wanted: set[str] = set(WORKERS)
        self._paused: dict[str, float] = {}
        self._looked = time.monotonic()
        self.done: Counter[str] = Counter()

    def carry_out(self, steps: list[Step]) -> None:
        begin = time.monotonic()
        for step in steps:
            while time.monotonic() < begin + step.at_s:
                self.tend()
                time.sleep(0.05)
            self._do(step)
        while self._paused:
            self.tend()
            time.sleep(0.05)
        self._proxy.calm()

    def tend(self) -> None:
        """Let go on who has been paused long enough, and start again who has ended."""
        now = time.monotonic()
        for name in [name for name, until in self._paused.items() if until <= now]:
            self._workers.send(name, signal.SIGCONT)
            del self._paused[name]
        for name in sorted(self._wanted):
            if not self._workers.is_running(name):
                self.done["exits"] += 1
                self._workers.start(name)
        self._mend()

    def _mend(self) -> None:
        """Do what an administrator does about transactions that a killed broker left hanging, and count it."""
        if not self.done["kill_broker"] or time.monotonic() < self._looked + 10.0:
            return
        self._looked = time.monotonic()
        topics = self._workers.topics
        names = [topics.name(last) for last in ("decisions", "dead-letters")]
        with contextlib.suppress(KafkaError, OSError):
            self.done["hanging"] += bool(abort_hanging(topics.bootstrap, topics=names, older_than_s=HANGING_S))

    def _do(self, step: Step) -> None:
        self.done[step.event] += 1
        if step.event == "kill":
            self._paused.pop(step.worker, None)
            self._workers.kill(step.worker)
            self._workers.start(step.worker)
        elif step.event == "pause" and self._workers.is_running(step.worker):
            self._workers.send(step.worker, signal.SIGSTOP)
            self._paused[step.worker] = time.monotonic() + step.seconds
        elif step.event == "kill_broker":
            self._broker.kill()
            self._broker.start()
        else:
            self._disturb(step)

    def _disturb(self, step: Step) -> None:
        if step.event == "faults":
            self._proxy.scatter = Scatter(seed=self._seed, share=step.share)
        elif step.event == "calm":
            self._proxy.calm()
        elif step.event == "cut":
            self._proxy.cut_all()
        elif step.event == "join":
            self._wanted.add(step.worker)
            self._workers.start(step.worker)
        elif step.event == "leave":
            self._wanted.discard(step.worker)
            self._workers.send(step.worker, signal.SIGTERM)


def run(seed: int, *, broker: KafkaBroker, count: int, rate: float, broker_kills: int, logs: Path) -> Run:
    """Run one seed and judge it; what is not committed when time is up counts as missing."""
    began = time.monotonic()
    topics = Topics(broker.bootstrap, partition_count=PARTITIONS, domain=DOMAIN)
    logs.mkdir(parents=True)
    flags = ["--brokers", "", "--create-topics"]
    with proxied(broker.front, broker.behind) as proxy:
        flags[1] = proxy.address
        with working(topics, artifact=artifact_of(DOMAIN).folder, logs=logs, flags=flags) as workers:
            for name in WORKERS:
                workers.start(name)
            chaos = Chaos(workers, proxy, broker, seed=seed)
            feeder = Feeder(topics, messages(count, seed=seed), rate=rate)
            feeder.start()
            chaos.carry_out(draw(seed, span_s=count / rate, broker_kills=broker_kills))
            while feeder.is_alive():
                chaos.tend()
                feeder.join(0.1)
            await_committed(workers, chaos, sum(ends_of(topics).values()), brokers=broker.bootstrap)
        done = chaos.done
        return Run(
            seed=seed,
            verdict=judged(topics),
            kills=done["kill"],
            pauses=done["pause"],
            broker_kills=done["kill_broker"],
            faults=proxy.hits.total(),
            exits=done["exits"],
            hanging=done["hanging"],
            seconds=round(time.monotonic() - began, 1),
            hits=dict(proxy.hits),
        )


def await_committed(workers: Workers, chaos: Chaos, count: int, *, brokers: str) -> None:
    """Wait until the group has committed all that was asked, starting again what ends; say so when it does not."""
    give_up = time.monotonic() + SETTLED_S
    found = -1
    while found < count and time.monotonic() < give_up:
        chaos.tend()
        with contextlib.suppress(KafkaError, OSError):
            found = workers.committed()
        time.sleep(0.3)
    if found < count:
        tails = "\n".join(f"{name}: {workers.log(name)[-2000:]}" for name in WORKERS)
        print(f"{found} of {count} requests committed after {SETTLED_S:.0f} s", file=sys.stderr)
        print(f"{tails}\nopen transactions: {open_transactions(brokers)}", file=sys.stderr, flush=True)


def judged(topics: Topics) -> Verdict:
    """Count results by librdkafka, or by a plain consumer where it is not to be had."""
    try:
        python = confluent_python()
    except PeerUnavailable as error:
        print(f"judging with kafka-python: {error}", file=sys.stderr)
        return judge(topics)
    child = run_child([python, READER, topics.bootstrap, topics.name("decisions"), topics.name("dead-letters")])
    return verdict(Counter((partition, offset) for partition, offset in child.document), ends=ends_of(topics))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3", help="seeds, or FIRST-LAST")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=1_000.0, help="requests per second")
    parser.add_argument("--broker-kills", type=int, default=1, help="SIGKILLs of the broker per seed")
    parser.add_argument("--logs", type=Path, help="keep the workers' logs there")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    first, dash, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last) + 1) if dash else map(int, arguments.seeds.split(","))
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.logs or Path(scratch)
        runs = []
        with running_broker(partial(_make, Path(scratch) / "broker")) as broker:
            for found in _runs(broker, seeds, arguments, folder):
                runs.append(found)
                print(json.dumps(asdict(found)) if arguments.json else line(found), flush=True)
    print(summary(runs), file=sys.stderr)
    return 0 if all(found.verdict.is_clean for found in runs) else 1


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _runs(broker: KafkaBroker, seeds: Any, arguments: argparse.Namespace, folder: Path) -> Iterator[Run]:
    if not arguments.json:
        print(HEADING)
    for seed in seeds:
        yield run(
            seed,
            broker=broker,
            count=arguments.requests,
            rate=arguments.rate,
            broker_kills=arguments.broker_kills,
            logs=folder / f"seed-{seed}",
        )


HEADING: Final = (
    "| seed | requests | results | missing | double | SIGKILLs | SIGSTOPs | broker SIGKILLs | proxy faults | exits "
    "| hanging | s |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def line(found: Run) -> str:
    """Return a run as a row of the table."""
    seen = found.verdict
    cells = [found.seed, seen.requests, seen.results, seen.missing, seen.double, found.kills, found.pauses]
    cells += [found.broker_kills, found.faults, found.exits, found.hanging]
    return "| " + " | ".join(map(str, [*cells, found.seconds])) + " |"


def summary(runs: list[Run]) -> str:
    """Return what all runs came to, in one line."""
    total = {name: sum(getattr(found.verdict, name) for found in runs) for name in ("requests", "missing", "double")}
    return f"{len(runs)} seeds, {total['requests']} requests: {total['missing']} missing, {total['double']} double"


if __name__ == "__main__":
    sys.exit(main())
