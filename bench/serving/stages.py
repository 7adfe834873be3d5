"""What each stage of catching up costs, without a broker: µs of CPU per decision, the best of many turns.

python -m bench.serving.stages [--turns 300] [--json]

The work is that of bench.serving, 500 requests of one partition at once. Only the CPU of this one thread counts, and of
all turns the cheapest, so that other work on the machine hardly shows. What the clients' own threads, the network and
the system do is not in it: `python -m bench.serving` measures the whole.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder
from prometheus_client import CollectorRegistry

from bench.children import run_child
from bench.peers.serving.schedule import DOMAIN, PARTITIONS
from bench.peers.serving.words import BATCH
from penstock.collector import calm_collector
from policies.artifact import load_artifact
from serving.catalogue import Lineup, lineup_of
from serving.contract import Batch, Place, check_answers
from serving.decide import decide
from serving.duplicates import DuplicateWindow
from serving.metrics import Metrics
from serving.pipeline import Pipeline
from serving.receive import receive
from serving.record import record
from serving.transport.kafka_batches import Record, fill_builders
from serving.transport.kafka_records import to_message, to_records
from serving.transport.kafka_topics import OUTPUTS_OF
from serving.transport.memory import MemoryLog, MemoryTransport
from serving.watcher import FixedLineup

TOPIC: Final = f"bench.{DOMAIN}.requests"
PLACE: Final = (TOPIC, 0)
NOW_US: Final = 1_780_000_000_000_000


@final
class Clock:
    """Keep the least CPU of this thread that each stage took."""

    def __init__(self) -> None:
        self.best_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage."""
        begin = time.thread_time()
        yield
        spent = time.thread_time() - begin
        self.best_s[name] = min(spent, self.best_s.get(name, spent))


def turn(clock: Clock, lineup: Lineup, window: DuplicateWindow, pipeline: Pipeline, values: list[bytes]) -> None:
    """Let one batch go through every stage alone, and then through the pipeline as a whole."""
    fetched = _fetched(values)
    with clock.stage("unpack (kafka-python)"):
        rows = [row for batch in MemoryRecords(fetched) for row in batch]
    rows = [_Row(row.offset, row.timestamp, row.key, row.value, row.headers) for row in rows]
    with clock.stage("to messages"):
        messages = tuple([to_message(row) for row in rows])
    with clock.stage("receive"):
        received = receive(messages, known_domains=lineup.domains)
    with clock.stage("encode"):
        encoded = lineup.domains[DOMAIN].live.encoder.encode_requests(received.requests)
    with clock.stage("graph"):
        for bucket in encoded.buckets:
            lineup.domains[DOMAIN].live.artifact.policy.propose(bucket.arrays, bucket.mask)
    with clock.stage("decide (encode, graph, draw)"):
        ruled = decide(received, lineup, now=NOW_US)
    with clock.stage("duplicates"):
        window.admit(PLACE, [request.request_id for request in received.requests], values)
        window.keep()
    with clock.stage("record"):
        results = record(received, ruled, catalogue=lineup.identity, now=NOW_US)
    batch = Batch(messages=messages)
    with clock.stage("check answers"):
        check_answers(batch, results)
    names, partitions = OUTPUTS_OF["decide"], {f"bench.{DOMAIN}.decisions": PARTITIONS}
    with clock.stage("to records"):
        records = to_records(results, prefix="bench", names=names, partitions=partitions)
    with clock.stage("fill batches (kafka-python)"):
        for rows_of_one in _by_place(records):
            list(fill_builders(rows_of_one, timestamp_ms=NOW_US // 1000))
    with clock.stage("release"):
        del encoded, received, ruled, results, records, batch
    with clock.stage("pipeline (receive to record, kept)"):
        answers, _ = pipeline.answer(Batch(messages=messages))
        pipeline.keep()
    del answers


def _by_place(records: Sequence[Record]) -> Iterable[Sequence[Record]]:
    rows_by_place: defaultdict[Place, list[Record]] = defaultdict(list)
    for one in records:
        rows_by_place[one[:2]].append(one)
    return rows_by_place.values()


@final
class _Row:
    """A record as kafka-python's consumer hands it out."""

    topic, partition = PLACE
    __slots__ = ("headers", "key", "offset", "timestamp", "value")

    def __init__(self, offset: int, timestamp: int, key: Any, value: bytes, headers: Any) -> None:
        self.offset, self.timestamp, self.key, self.value, self.headers = offset, timestamp, key, value, headers


def _fetched(values: list[bytes]) -> bytes:
    """Return requests as a broker sends them."""
    builder = MemoryRecordsBuilder(2, 0, 1 << 30)
    for value in values:
        builder.append(None, b"unit-1", value)
    builder.close()
    return bytes(builder.buffer())


def renamed(lines: list[bytes], number: int) -> list[bytes]:
    """Return a batch of requests under ids of its own."""
    start = number * BATCH
    return [
        lines[place % len(lines)].replace(b"%08d" % (place % len(lines)), b"%08d" % place, 1)
        for place in range(start, start + BATCH)
    ]


def measure(turns: int) -> dict[str, float]:
    """Return what each stage costs, in µs per decision."""
    with tempfile.TemporaryDirectory() as folder:
        run_child([sys.executable, "-m", "bench.serving.workload", folder])
        lines = (Path(folder) / "requests.jsonl").read_bytes().splitlines()
        lineup = lineup_of(load_artifact(Path(folder) / "artifact"))
    metrics, clock, window = Metrics(CollectorRegistry()), Clock(), DuplicateWindow()
    pipeline = Pipeline(
        MemoryTransport(MemoryLog()),
        lineups=FixedLineup(lineup, metrics=metrics),
        now=lambda: NOW_US,
        seconds=time.monotonic,
        metrics=metrics,
    )
    window.rebuild(PLACE, ())
    for number in range(turns):
        turn(clock, lineup, window, pipeline, renamed(lines, number))
    return {name: spent * 1e6 / BATCH for name, spent in clock.best_s.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=300, help="batches of 500 requests")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    calm_collector()  # as the console script does
    found = measure(options.turns)
    if options.json:
        print(json.dumps({"command": "python -m bench.serving.stages", "us_per_decision": found}))
        return
    for name, spent in found.items():
        print(f"{name:<36} {spent:6.2f} µs per decision")


if __name__ == "__main__":
    main()
