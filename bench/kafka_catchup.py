"""Decisions per CPU-second of one worker that catches up on a Kafka topic, with the broker beside it.

The worker is `penstock serve --transport kafka --until-end`; its CPU time is the operating system's, less that of a
start which finds nothing to decide. Results go through the guarded transaction, full decision records included.

    python -m bench.kafka_catchup [--domain NAME] [--requests N] [--max-batch N ...]
        [--kafka-client python librdkafka] [--json]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.helpers.domains import WORKLOADS, Workload
from tests.helpers.kafka_broker import running_broker
from tests.helpers.kafka_topics import Topics

_MAIN = "from penstock.__main__ import enter; enter()"  # as the console script does
PARTITIONS = 4


def measure(
    bootstrap: str, *, workload: Workload, count: int, max_batch: int, client: str, folder: Path
) -> dict[str, float | str]:
    """Feed requests, let one worker decide them, and return what that cost."""
    topics = Topics(bootstrap, partition_count=PARTITIONS, domain=workload.spec.domain)
    topics.feed(workload.messages(count))
    cpu_s, wall_s = _serve(topics, folder, max_batch, client)
    idle_s, _ = _serve(topics, folder, max_batch, client)
    return {
        "client": client,
        "max_batch": max_batch,
        "requests": count,
        "cpu_s": round(cpu_s, 3),
        "start_cpu_s": round(idle_s, 3),
        "us_per_decision": round((cpu_s - idle_s) / count * 1e6, 1),
        "decisions_per_cpu_s": round(count / (cpu_s - idle_s)),
        "decisions_per_s": round(count / wall_s),
    }


def _serve(topics: Topics, folder: Path, max_batch: int, client: str) -> tuple[float, float]:
    """Run a worker to the end of its input; return its CPU and wall time in seconds."""
    words = ["serve", "--artifact", str(folder / "artifact"), "--transport", "kafka", "--until-end", "--json"]
    words += ["--brokers", topics.bootstrap, "--prefix", topics.prefix, "--group", topics.prefix, "--instance", "bench"]
    words += ["--kafka-client", client]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-c", _MAIN, *words],
        env=os.environ | {"PENSTOCK_MAX_BATCH": str(max_batch), "PENSTOCK_LOG_LEVEL": "warning"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after, ended = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, ended - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domain", choices=sorted(WORKLOADS), default="ad_load")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--max-batch", type=int, nargs="+", default=[256, 500, 1000])
    parser.add_argument("--kafka-client", choices=("python", "librdkafka"), nargs="+", default=["python", "librdkafka"])
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_broker(lambda: Path(tempfile.mkdtemp(dir=name))) as broker:
        workload = WORKLOADS[words.domain]()
        workload.export(Path(name) / "artifact")
        rows = [
            measure(
                broker.bootstrap,
                workload=workload,
                count=words.requests,
                max_batch=size,
                client=client,
                folder=Path(name),
            )
            for client in words.kafka_client
            for size in words.max_batch
        ]
    if words.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
