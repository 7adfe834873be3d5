"""What a hot swap of the artifact costs the requests that stream in meanwhile, on a live Kafka.

Workers follow a catalogue while requests come at a steady rate. Again and again a new artifact is promoted, which must
be loaded and pass its gates beside the decide loop, and then rolled back, which needs no load. Afterwards the topics
tell all: when each request was sent, when its decision was appended (the broker's clock, the same machine), and which
catalogue took it. Each change opens a window; the same time again without a change is its control.

A gap is the longest time in which a partition got no decision, within one window; latency runs from sent to appended.

    python -m bench.hot_swap [--rate 2000] [--changes 20] [--workers 2] [--window-s 2] [--json]
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from kafka import KafkaProducer

from bench.children import end_on_terminate
from policies.errors import Unable
from policies.events import Source
from serving.catalogue import Catalogue, Entry, load_lineup, promote, roll_back, salt_id, write_catalogue
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_broker import make_topics, running_broker
from tests.helpers.kafka_topics import LASTS, Topics, new_prefix
from tests.helpers.kafka_workers import Workers, working

DOMAIN: Final = "ad_load"
PARTITIONS: Final = 4
WARM_S: Final = 3.0
START_S: Final = 60.0
TICK_S: Final = 0.002

Kind = Literal["load", "known", "none"]
"""A change that loads an artifact, one to an artifact that is known, and the control: no change."""


class Change(NamedTuple):
    """A catalogue put in force: whether its artifact had to be loaded, and when it was written, in ms since 1970."""

    kind: Kind
    identity: str
    moment_ms: float


class Told(msgspec.Struct):
    """The part of a decision that is looked at."""

    source: Source
    catalogue: str


class Row(NamedTuple):
    """One decision: its partition, the catalogue that took it, and when it was sent for and appended, in ms."""

    partition: int
    catalogue: str
    sent_ms: int
    appended_ms: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What windows of one kind came to; times in ms."""

    kind: Kind
    windows: int
    decisions: int
    gap_median: float
    gap_longest: float
    latency_p50: float
    latency_p99: float
    latency_longest: float
    effect_median: float | None = None
    effect_longest: float | None = None


def export_networks(folder: Path, *, count: int) -> list[str]:
    """Write artifacts of networks that differ in their weights, under their identities, and return those."""
    import torch

    from optimizer.export import export_policy
    from optimizer.networks.default import default_network

    spec = WORKLOADS[DOMAIN]().spec
    identities = []
    for seed in range(count):
        torch.manual_seed(seed)
        made = folder / f"made-{seed}"
        provenance = {"recipe": "hot_swap", "seed": seed}
        identity = export_policy(
            default_network(spec, width=64, depth=2), spec=spec, folder=made, provenance=provenance
        )
        (folder / "artifacts").mkdir(exist_ok=True)
        made.rename(folder / "artifacts" / identity)
        identities.append(identity)
    return identities


def send_steadily(topics: Topics, messages: Sequence[bytes], *, rate: float) -> None:
    """Send messages at their times, to the partitions in turn.

    Raises:
        KafkaError: the broker does not take them.
    """
    producer = KafkaProducer(bootstrap_servers=topics.bootstrap, linger_ms=0)
    name, sent, futures = topics.name("requests"), 0, []
    begin = time.monotonic()
    while sent < len(messages):
        due = min(len(messages), int((time.monotonic() - begin) * rate))
        futures += [producer.send(name, messages[number], partition=number % PARTITIONS) for number in range(sent, due)]
        sent = due
        time.sleep(TICK_S)
    for future in futures:
        future.get(30)
    producer.close(timeout=5)


def change_again_and_again(path: Path, identities: Sequence[str], *, count: int, window_s: float) -> list[Change]:
    """Promote a new artifact and roll it back in turn, each followed by a window of its own and one without change."""
    catalogue = Catalogue(salt_id=salt_id(b""), domains={DOMAIN: Entry(live=identities[0])})
    changes = []
    for number in range(count):
        is_load = number % 2 == 0
        if is_load:
            catalogue = promote(catalogue, DOMAIN, artifact=identities[1 + number // 2])
        else:
            catalogue = roll_back(catalogue, DOMAIN)
        moment_ms = time.time() * 1000
        write_catalogue(catalogue, path)
        changes.append(Change("load" if is_load else "known", catalogue.identity[:32], moment_ms))
        time.sleep(2 * window_s)
    return changes


def read_rows(topics: Topics) -> list[Row]:
    """Read when each request was sent and its decision appended.

    Raises:
        Unable: a decision does not name its catalogue.
    """
    sent = {(row.partition, row.offset): row.timestamp for row in topics.rows("requests")}
    rows = []
    for record in topics.rows("decisions"):
        told = msgspec.json.decode(record.value, type=Told)
        if not told.catalogue:
            raise Unable(f"the decision on {told.source} names no catalogue")
        place = told.source.partition, told.source.offset
        rows.append(Row(place[0], told.catalogue, sent[place], record.timestamp))
    if len(rows) != len(sent):
        raise Unable(f"{len(sent)} requests have {len(rows)} decisions")
    return rows


def costs(rows: Sequence[Row], changes: Sequence[Change], *, window_s: float) -> list[Cost]:
    """Return what each kind of window came to."""
    width_ms = 1000 * window_s
    windows: dict[Kind, list[tuple[float, list[Row]]]] = defaultdict(list)
    for change in changes:
        for kind, begin in ((change.kind, change.moment_ms), ("none", change.moment_ms + width_ms)):
            inside = [row for row in rows if begin <= row.appended_ms < begin + width_ms]
            windows[kind].append((longest_gap_ms(inside, begin, begin + width_ms), inside))
    found = []
    for kind, own in windows.items():
        latencies = np.array([row.appended_ms - row.sent_ms for _, inside in own for row in inside], dtype=np.float64)
        effects = [effect_ms(rows, change) for change in changes if change.kind == kind]
        gaps = [gap for gap, _ in own]
        found.append(
            Cost(
                kind=kind,
                windows=len(own),
                decisions=len(latencies),
                gap_median=float(np.median(gaps)),
                gap_longest=max(gaps),
                latency_p50=float(np.percentile(latencies, 50)),
                latency_p99=float(np.percentile(latencies, 99)),
                latency_longest=float(latencies.max()),
                effect_median=float(np.median(effects)) if effects else None,
                effect_longest=max(effects, default=None),
            )
        )
    return found


def longest_gap_ms(rows: Sequence[Row], begin_ms: float, end_ms: float) -> float:
    """Return the longest time between two edges or decisions of one partition.

    >>> rows = [Row(0, "a", 0, 3), Row(0, "a", 0, 10), Row(1, "a", 0, 6)]
    >>> longest_gap_ms(rows, 0, 11)
    7
    """
    moments: dict[int, list[float]] = {row.partition: [] for row in rows}
    for row in rows:
        moments[row.partition].append(row.appended_ms)
    edges = ([begin_ms, *sorted(own), end_ms] for own in moments.values())
    return max((later - earlier for own in edges for earlier, later in pairwise(own)), default=end_ms - begin_ms)


def effect_ms(rows: Sequence[Row], change: Change) -> float:
    """Return how long after it was written a change had taken effect in every partition."""
    first: dict[int, int] = {}
    for row in rows:
        if row.catalogue == change.identity and row.appended_ms >= change.moment_ms:
            first[row.partition] = min(row.appended_ms, first.get(row.partition, row.appended_ms))
    if len(first) != PARTITIONS:
        raise Unable(f"a change took effect in {len(first)} of {PARTITIONS} partitions; let the window be longer")
    return max(first.values()) - change.moment_ms


def measure(bootstrap: str, folder: Path, *, rate: float, count: int, worker_count: int, window_s: float) -> list[Cost]:
    """Let workers decide a stream while the catalogue changes, and return what that cost."""
    prefix = new_prefix()
    for last in LASTS:
        clock = "CreateTime" if last == "requests" else "LogAppendTime"
        make_topics(bootstrap, {f"{prefix}.{DOMAIN}.{last}": PARTITIONS}, configs={"message.timestamp.type": clock})
    topics = Topics(bootstrap, partition_count=PARTITIONS, domain=DOMAIN, prefix=prefix)
    identities = export_networks(folder, count=1 + (count + 1) // 2)
    path = folder / "catalogue.json"
    write_catalogue(Catalogue(salt_id=salt_id(b""), domains={DOMAIN: Entry(live=identities[0])}), path)
    load_lineup(path)
    messages = WORKLOADS[DOMAIN]().messages(int(rate * (2 * WARM_S + 2 * window_s * count)))
    with working(topics, logs=folder, flags=["--catalogue", str(path)]) as workers:
        _start(workers, worker_count)
        sending = threading.Thread(target=send_steadily, args=(topics, messages), kwargs={"rate": rate}, daemon=True)
        sending.start()
        time.sleep(WARM_S)
        changes = change_again_and_again(path, identities, count=count, window_s=window_s)
        sending.join()
        workers.await_committed(len(messages), timeout_s=60)
    return costs(read_rows(topics), changes, window_s=window_s)


def _start(workers: Workers, count: int) -> None:
    names = [f"worker-{number}" for number in range(count)]
    give_up = time.monotonic() + START_S
    for name in names:
        workers.start(name)
    while not all("start loop" in workers.log(name) for name in names):
        if time.monotonic() > give_up:
            raise Unable(f"the workers did not start: {[workers.log(name)[-1500:] for name in names]}")
        time.sleep(0.1)


HEADING: Final = (
    "| change | windows | decisions | gap ms, median | longest | latency ms, p50 | p99 | longest | in effect after ms "
    "| longest |\n|---|---|---|---|---|---|---|---|---|---|"
)


def line(cost: Cost) -> str:
    """Return a row of the table."""
    numbers = list(asdict(cost).values())
    return (
        "| " + " | ".join("" if n is None else f"{n:.0f}" if isinstance(n, float) else str(n) for n in numbers) + " |"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2_000.0, help="requests per second")
    parser.add_argument("--changes", type=int, default=20, help="promotions and rollbacks")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--window-s", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, running_broker(lambda: Path(tempfile.mkdtemp(dir=name))) as broker:
        (Path(name) / "swap").mkdir()
        found = measure(
            broker.bootstrap,
            Path(name) / "swap",
            rate=words.rate,
            count=words.changes,
            worker_count=words.workers,
            window_s=words.window_s,
        )
    if words.json:
        print(json.dumps([asdict(cost) for cost in found]))
    else:
        print("\n".join([HEADING, *map(line, found)]))
    return 0


if __name__ == "__main__":
    end_on_terminate()
    sys.exit(main())
