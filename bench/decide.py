"""Decisions per CPU-second through the memory transport, for one realistic shape of each domain.

The ceiling is what cannot be saved in the same run: decoding the same bytes into records, the graph itself, encoding
the same decisions. For the hydrothermal shape it is HiGHS: the stored basis set and the stage solved, nothing else.

    python -m bench.decide [--domain NAME ...] [--json]
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import highspy
import numpy as np

from bench.timing import cpu_us, percentile, wall_us
from policies.artifact import Artifact, load_artifact
from policies.encode import Encoder
from policies.events import Decision, DecisionRequest, from_bytes, to_bytes
from policies.recourse.linear import LinearRecourse
from serving.catalogue import Lineup, lineup_of
from serving.decide import decide
from serving.receive import receive
from serving.record import record
from serving.transport.memory import MemoryLog, MemoryTransport
from tests.helpers.domains import WORKLOADS

BATCHES = (256, 32, 1)
PROTOTYPE_RATIOS = {"ad_load": 7.3, "payments": 4.9, "iot_scheduling": 3.8, "hydrothermal": 2.2}
"""What a throwaway prototype of the same loop measured against its own ceiling."""


def measure(name: str) -> dict[str, Any]:
    """Measure one domain: µs of CPU per decision by batch size, latency of single requests, ceiling and ratio."""
    workload = WORKLOADS[name]()
    with tempfile.TemporaryDirectory() as folder:
        workload.export(Path(folder) / "artifact")
        artifact = load_artifact(Path(folder) / "artifact")
    lineup = lineup_of(artifact)
    messages = workload.messages(256)
    per_batch = {size: cpu_us(partial(_turn, messages[:size], lineup), count=size) for size in BATCHES}
    latencies = wall_us(lambda: _turn(messages[:1], lineup), calls=2000)
    decisions = _turn(messages, lineup)
    if isinstance(artifact.recourse, LinearRecourse):
        ceiling = _solver_us(messages, lineup)
    else:
        ceiling = _ceiling(artifact, messages, decisions)
    return {
        "domain": name,
        "request_bytes": round(float(np.mean([len(m) for m in messages]))),
        "decision_bytes": round(float(np.mean([len(d) for d in decisions]))),
        "us_per_decision": {str(size): round(value, 2) for size, value in per_batch.items()},
        "decisions_per_cpu_s": round(1e6 / per_batch[256]),
        "single_us": {"p50": round(percentile(latencies, 0.5)), "p99": round(percentile(latencies, 0.99))},
        "ceiling_us": round(ceiling, 2),
        "ratio": round(per_batch[256] / ceiling, 2),
        "prototype_ratio": PROTOTYPE_RATIOS.get(name),
    }


def _turn(messages: list[bytes], lineup: Lineup) -> list[bytes]:
    """Send messages once through receive, decide, record and the memory transport; return the decisions' bytes."""
    log = MemoryLog()
    for value in messages:
        log.append(value)
    transport = MemoryTransport(log)
    batch = transport.poll()
    received = receive(batch.messages, known_domains=lineup.domains)
    ruled = decide(received, lineup, now=0)
    transport.settle(batch, record(received, ruled, catalogue=lineup.identity, now=0))
    return [result.value for result in log.results("decision")]


def _solver_us(messages: list[bytes], lineup: Lineup) -> float:
    """Measure the CPU time that one turn spends inside HiGHS, in µs per decision: the best of five turns."""
    plain, spent = highspy.Highs.run, 0.0

    def timed(model: Any) -> Any:
        nonlocal spent
        start = time.process_time()
        status = plain(model)
        spent += time.process_time() - start
        return status

    best = float("inf")
    highspy.Highs.run = timed
    try:
        for _ in range(5):
            spent = 0.0
            _turn(messages, lineup)
            best = min(best, spent)
    finally:
        highspy.Highs.run = plain
    return best / len(messages) * 1e6


def _ceiling(artifact: Artifact, messages: list[bytes], decisions: list[bytes]) -> float:
    """Measure what is left when everything of ours is taken away, in µs per decision."""
    requests = [from_bytes(value, DecisionRequest) for value in messages]
    buckets = Encoder(artifact.spec).encode_requests(requests).buckets
    records = [from_bytes(value, Decision) for value in decisions]

    def bare() -> None:
        for value in messages:
            from_bytes(value, DecisionRequest)
        for bucket in buckets:
            artifact.policy.propose(bucket.arrays, bucket.mask)
        for one in records:
            to_bytes(one)

    return cpu_us(bare, count=len(messages))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", action="append", choices=sorted(WORKLOADS), help="only this domain (repeatable)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    rows = [measure(name) for name in options.domain or WORKLOADS]
    if options.json:
        print(json.dumps({"command": "python -m bench.decide", "rows": rows}, indent=2))
        return
    print("µs of CPU per decision through the memory transport; python -m bench.decide")
    for row in rows:
        us, single = row["us_per_decision"], row["single_us"]
        print(
            f"{row['domain']:<15} {row['request_bytes']:>5} -> {row['decision_bytes']:>5} B   "
            f"batch 256 {us['256']:>7}   32 {us['32']:>7}   1 {us['1']:>7}   {row['decisions_per_cpu_s']:>7}/CPU-s   "
            f"one alone p50 {single['p50']} p99 {single['p99']} µs   ceiling {row['ceiling_us']:>6}   "
            f"ratio {row['ratio']} (prototype {row['prototype_ratio']})"
        )


if __name__ == "__main__":
    main()
