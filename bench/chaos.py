"""Kill, pause and cut workers of a live Kafka while requests come, and count what became of each request.

Workers are `penstock serve` processes that reach Apache Kafka through a fault proxy; requests are fed and results are
read past it. The reader is another client, librdkafka, or where that cannot be installed a plain consumer. A run is
judged when all requests are committed; one request without a result, or a result too many, fails the run. With --out a
run that was ended goes on where it was when it is started again.

    python -m bench.chaos [--seeds 1,2,3] [--requests 50000] [--rate 2500] [--out FILE.jsonl] [--json]
"""

import argparse
import contextlib
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from kafka.errors import KafkaError

from bench.chaos_results import HEADING, Run, append_run, left_of, line, read_runs, revision, summary
from bench.chaos_schedule import WORKERS, Step, draw
from bench.children import end_on_terminate, run_child
from bench.peers.environment import PeerUnavailable, confluent_python
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_broker import KafkaBroker, drop_topics, running_broker
from tests.helpers.kafka_feeder import Feeder
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
        try:
            self.done["hanging"] += bool(abort_hanging(topics.bootstrap, topics=names, older_than_s=HANGING_S))
        except (KafkaError, OSError) as error:  # the broker may be down; the next look is in ten seconds
            print(f"could not look for hanging transactions: {error!r}", file=sys.stderr, flush=True)

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


def run(
    seed: int, *, broker: KafkaBroker, count: int, rate: float, broker_kills: int, worker_flags: str, logs: Path
) -> Run:
    """Run one seed and judge it; what is not committed when time is up counts as missing."""
    began = time.monotonic()
    topics = Topics(broker.bootstrap, partition_count=PARTITIONS, domain=DOMAIN)
    logs.mkdir(parents=True)
    with proxied(broker.front, broker.behind) as proxy:
        flags = ["--brokers", proxy.address, "--create-topics", *shlex.split(worker_flags)]
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
        found, done = judged(topics), chaos.done
    if found.is_clean:
        drop_topics(broker.bootstrap, list(topics.partitions))  # else a long run fills the disk
    return Run(
        seed=seed,
        verdict=found,
        kills=done["kill"],
        pauses=done["pause"],
        broker_kills=done["kill_broker"],
        faults=proxy.hits.total(),
        exits=done["exits"],
        hanging=done["hanging"],
        seconds=round(time.monotonic() - began, 1),
        hits=dict(proxy.hits),
        worker_flags=worker_flags,
        revision=revision(),
    )


def await_committed(workers: Workers, chaos: Chaos, count: int, *, brokers: str) -> None:
    """Wait until the group has committed all that was asked, starting again what ends; say so when it does not."""
    give_up = time.monotonic() + SETTLED_S
    found = -1
    while found < count and time.monotonic() < give_up:
        chaos.tend()
        with contextlib.suppress(KafkaError, OSError):
            found = workers.committed(timeout_ms=2_000)  # meanwhile nobody tends the workers
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
    parser.add_argument("--requests", type=int, default=50_000, help="per seed")
    parser.add_argument("--rate", type=float, default=2_500.0, help="requests per second")
    parser.add_argument("--broker-kills", type=int, default=1, help="SIGKILLs of the broker per seed")
    parser.add_argument(
        "--worker-flags",
        action="append",
        metavar="FLAGS",
        help="more flags of `penstock serve`; given several times, seeds take them in turn",
    )
    parser.add_argument("--out", type=Path, help="add a line of JSON per seed; seeds that are there are not run again")
    parser.add_argument("--logs", type=Path, help="keep the workers' logs there")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    first, dash, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last) + 1) if dash else map(int, arguments.seeds.split(","))
    runs = read_runs(arguments.out)
    left = left_of(seeds, runs)
    if not arguments.json:
        print("\n".join([HEADING, *map(line, runs)]), flush=True)
    with tempfile.TemporaryDirectory() as scratch, running_broker(partial(_make, Path(scratch) / "broker")) as broker:
        for found in _runs(broker, left, arguments, arguments.logs or Path(scratch)):
            append_run(arguments.out, found)
            runs.append(found)
            print(msgspec.json.encode(found).decode() if arguments.json else line(found), flush=True)
    print(summary(runs), file=sys.stderr)
    return 0 if all(found.verdict.is_clean for found in runs) else 1


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _runs(broker: KafkaBroker, seeds: Sequence[int], arguments: argparse.Namespace, folder: Path) -> Iterator[Run]:
    modes = arguments.worker_flags or [""]
    for seed in seeds:
        yield run(
            seed,
            broker=broker,
            count=arguments.requests,
            rate=arguments.rate,
            broker_kills=arguments.broker_kills,
            worker_flags=modes[seed % len(modes)],
            logs=folder / f"seed-{seed}",
        )


if __name__ == "__main__":
    end_on_terminate()
    sys.exit(main())
