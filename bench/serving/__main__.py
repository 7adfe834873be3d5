"""Throughput and latency of `penstock serve` and of streaming peers, side by side on one real Apache Kafka.

All decide the same requests by the same policy.onnx. Catching up: CPU of the service, by the operating system, for
requests that wait, less that of a start. Latency: from when a request was due to when one reader saw its committed
answer. How it is measured, and what the figures mean, stands in docs/benchmarks.md.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.children import end_on_terminate, run_child
from bench.peers.environment import confluent_python
from bench.serving.contenders import Contender, describe, find_contenders, same_versions, versions_of
from bench.serving.figures import CatchUp, Latency
from bench.serving.processes import RunFailed
from bench.serving.report import catch_up_table, latency_table, notes
from bench.serving.runs import Scene, catch_up, latency
from tests.helpers.kafka_broker import running_broker

COMMAND = "python -m bench.serving"
BROKER_WARM_UP = 20_000


def read_arguments(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", default="", help="beginnings of names, separated by commas (default: all)")
    parser.add_argument("--rates", default="200,2000,8000", help="requests per second; empty measures no latency")
    parser.add_argument("--seconds", type=float, default=25.0, help="per rate, of which 5 are left out")
    parser.add_argument("--requests", type=int, default=100_000, help="to catch up on; 0 does not")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, in turns")
    parser.add_argument(
        "--also", action="append", default=[], metavar="NAME=FLAGS", help="one more row of Penstock; PENSTOCK_X=Y sets"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document of all runs")
    return parser.parse_args(words)


def measure(scene: Scene, contenders: list[Contender], options: argparse.Namespace) -> tuple[list[Any], dict[str, str]]:
    """Run all contenders in turns; return the runs, and who failed with what it said."""
    failed: dict[str, str] = {}
    runs: list[Any] = []
    if contenders:
        _say("warming the broker")
        catch_up(contenders[0], scene=scene, count=BROKER_WARM_UP)
    for _ in range(options.repeat):
        for what, run in _measures(scene, options):
            for contender in contenders:
                _say(f"{contender.name}: {what}; load {os.getloadavg()[0]:.2f}")
                try:
                    found = run(contender)
                except RunFailed as error:
                    failed[f"{contender.name}, {what}"] = str(error)
                    _say(f"failed: {error}")
                else:
                    runs.append(found)
                    _say(json.dumps(asdict(found)))
    return runs, failed


def _measures(
    scene: Scene, options: argparse.Namespace
) -> list[tuple[str, Callable[[Contender], CatchUp] | Callable[[Contender], Latency]]]:
    rates = [int(rate) for rate in options.rates.split(",") if rate.strip()]
    found: list[tuple[str, Any]] = []
    if options.requests:
        found.append((f"{options.requests:,} that wait", partial(catch_up, scene=scene, count=options.requests)))
    for rate in rates:
        run = partial(latency, scene=scene, rate=rate, seconds=options.seconds)
        found.append((f"{rate:,} per second", run))
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _ceiling(scene: Scene, contender: Contender) -> dict[str, Any]:
    """Measure the ceiling in the environment of a contender; all have the same libraries."""
    words = [scene.folder / "artifact" / "policy.onnx", scene.folder / "requests.jsonl"]
    found: dict[str, Any] = run_child([contender.python, "-m", "bench.peers.serving.ceiling", *words]).document
    return found


def _make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> int:
    options = read_arguments(sys.argv[1:])
    also = {name: shlex.split(flags) for name, _, flags in (words.partition("=") for words in options.also)}
    contenders, absent = find_contenders([name for name in options.peers.split(",") if name], also=also)
    for name, reason in absent.items():
        _say(f"{name} does not take part: {reason}")
    if not contenders:
        return 4
    versions = same_versions({one.name: versions_of(one) for one in contenders})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_child([sys.executable, "-m", "bench.serving.workload", folder])
        load_before = os.getloadavg()
        with running_broker(partial(_make, folder / "broker")) as broker:
            scene = Scene(broker=broker, python=confluent_python(), folder=folder)
            ceiling = _ceiling(scene, contenders[-1])
            runs, failed = measure(scene, contenders, options)
        digest = sha256((folder / "artifact" / "policy.onnx").read_bytes()).hexdigest()
    head = {
        "command": " ".join([COMMAND, *map(shlex.quote, sys.argv[1:])]),
        "cores": os.cpu_count(),
        "load_before": load_before,
        "load_after": os.getloadavg(),
        "versions": versions,
        "policy": digest,
        "ceiling": ceiling,
    }
    if options.json:
        print(json.dumps({**head, "absent": absent, "failed": failed, "runs": [asdict(run) for run in runs]}))
    else:
        _print(head, contenders, runs, notes(failed, absent))
    return 1 if failed else 0


def _print(head: dict[str, Any], contenders: list[Contender], runs: list[Any], remarks: str) -> None:
    ceiling = head["ceiling"]
    caught_up = [run for run in runs if isinstance(run, CatchUp)]
    timed = [run for run in runs if isinstance(run, Latency)]
    print(f"`{head['command']}`: {head['cores']} cores with the broker on them, {describe(head['versions'])};")
    print(f"policy.onnx {head['policy'][:16]}, requests of {ceiling['request_bytes']:.0f} B in 4 partitions.")
    print("Load of the machine " + ", ".join(f"{head[f'load_{when}'][0]:.2f} {when}" for when in ("before", "after")))
    if caught_up:
        print("\n" + catch_up_table(caught_up, contenders, ceiling=ceiling["us"]))
    if timed:
        print("\n" + latency_table(timed, contenders))
    if remarks:
        print("\n" + remarks)


if __name__ == "__main__":
    end_on_terminate()
    sys.exit(main())
