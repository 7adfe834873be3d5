"""Decisions per CPU-second through the memory transport, for one realistic shape of each domain.

The ceiling is what cannot be saved in the same run: decoding a batch of the same bytes into records, the graph itself,
encoding a batch of the same decisions; a batch is held as a whole, as a service must. For the hydrothermal shape it is
the time inside HiGHS's own solve, nothing else.

    python -m bench.decide [--domain NAME ...] [--json]
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import highspy
import msgspec
import numpy as np

from bench.in_memory import InMemoryService
from bench.timing import cpu_inside, cpu_us, percentile, wall_us
from penstock.collector import calm_collector
from policies.artifact import Artifact, load_artifact
from policies.encode import Encoder
from policies.events import Decision, DecisionRequest, from_bytes
from policies.recourse.linear import LinearRecourse
from serving.catalogue import lineup_of
from tests.helpers.domains import WORKLOADS

BATCHES = (256, 32, 1)
PROTOTYPE_RATIOS = {"ad_load": 7.3, "payments": 4.9, "iot_scheduling": 3.8, "hydrothermal": 2.2}
"""What an earlier prototype of the same loop measured against its own ceiling: not to be fallen behind."""


def measure(name: str) -> dict[str, Any]:
    """Measure one domain: µs of CPU per decision by batch size, latency of single requests, ceiling and ratio."""
    workload = WORKLOADS[name]()
    with tempfile.TemporaryDirectory() as folder:
        workload.export(Path(folder) / "artifact")
        artifact = load_artifact(Path(folder) / "artifact")
    messages = workload.messages(256)
    service = InMemoryService(lineup_of(artifact), messages)
    service.turn(256)
    decisions = service.decisions()
    per_batch = {size: cpu_us(partial(service.turn, size), count=size) for size in BATCHES}
    latencies = wall_us(partial(service.turn, 1), calls=2000)
    if isinstance(artifact.recourse, LinearRecourse):
        ceiling = _solver_us(service)
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


def _solver_us(service: InMemoryService) -> float:
    """Measure the CPU time that one turn spends inside HiGHS, in µs per decision: the best of five turns."""
    best = float("inf")
    for _ in range(5):
        with cpu_inside(highspy.Highs, "run") as spent:
            service.turn(256)
        best = min(best, spent.seconds)
    return best / 256 * 1e6


def _ceiling(artifact: Artifact, messages: list[bytes], decisions: list[bytes]) -> float:
    """Measure what is left when everything of ours is taken away, in µs per decision."""
    requests = [from_bytes(value, DecisionRequest) for value in messages]
    buckets = Encoder(artifact.spec).encode_requests(requests).buckets
    records = [from_bytes(value, Decision) for value in decisions]

    decode, encode = msgspec.json.Decoder(DecisionRequest).decode, msgspec.json.Encoder().encode

    def bare() -> None:
        held = [decode(value) for value in messages]
        for bucket in buckets:
            artifact.policy.propose(bucket.arrays, bucket.mask)
        written = [encode(one) for one in records]
        assert len(held) == len(written)

    return cpu_us(bare, count=len(messages))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", action="append", choices=sorted(WORKLOADS), help="only this domain (repeatable)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    calm_collector()  # as the console script does
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
