"""Show the demo's policy on a live broker: three workers, one of them killed, and one result of each request.

A broker of our own runs on loopback for as long as this takes. Requests of the demo are sent again and again under new
ids; amid them one worker gets SIGKILL and is started again. Then `penstock audit` counts from the topics what each
committed request came to, `penstock verify` recomputes the decisions that a plain Kafka client reads, and the exit code
is 1 unless all of it holds.

    python -m bench.demo_kafka [--demo DIR] [--requests N] [--stream-s SECONDS]
"""

import argparse
import contextlib
import io
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.children import end_on_terminate
from penstock.main import main as penstock
from penstock.output import Report, Table, show
from policies.errors import PenstockError, Unable
from tests.helpers.kafka_broker import BrokerMissingError, running_broker
from tests.helpers.kafka_topics import Echo, Topics, new_prefix
from tests.helpers.kafka_workers import Workers, working

NAMES: Final = ("one", "two", "three")
VICTIM: Final = "two"
PARTITIONS: Final = 6
SLICES: Final = 20
START_S: Final = 60.0
PATIENCE_S: Final = 120.0
EXIT_UNCLEAN: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """Hold what came of the requests: counted by the audit, and by a plain reader of committed decisions."""

    requests: int
    committed: int
    results: int
    missing: int
    double: int
    decisions: int
    sources: int
    bitwise: int
    within_tolerance: int
    different: int
    wall_s: float
    exit_codes: tuple[int, ...]
    kills: int = 1

    @property
    def is_clean(self) -> bool:
        """Say whether each request was decided once, by decisions that recompute, and all workers ended well."""
        verified = self.bitwise + self.within_tolerance
        counts = {self.requests, self.committed, self.results, self.decisions, self.sources, verified}
        return len(counts) == 1 and not (self.missing or self.double or self.different or any(self.exit_codes))


def under_new_ids(lines: Sequence[bytes], count: int) -> list[bytes]:
    """Return requests in turn until there are so many, each round under ids of its own.

    >>> under_new_ids([b'{"request_id": "a"}', b'{"request_id": "b"}'], 3)
    [b'{"request_id": "a.0"}', b'{"request_id": "b.0"}', b'{"request_id": "a.1"}']
    """
    requests = [json.loads(line) for line in lines]
    rounds = ((number, request) for number in itertools.count() for request in requests)
    return [
        json.dumps(request | {"request_id": f"{request['request_id']}.{number}"}).encode()
        for number, request in itertools.islice(rounds, count)
    ]


def tell(bootstrap: str, *, artifact: Path, requests: Sequence[bytes], folder: Path, stream_s: float) -> Told:
    """Let three workers decide a stream of requests, kill one amid it, and count what came of it.

    Args:
        bootstrap: where the broker listens.
        artifact: what decides.
        requests: all of one domain.
        folder: takes the workers' logs and the decisions that were read.
        stream_s: how long the stream takes, in seconds.
    """
    settings = folder / "serve.json"
    settings.write_text(json.dumps({"topic_partitions": PARTITIONS}))
    domain = json.loads(requests[0])["domain"]
    topics = Topics(bootstrap, partition_count=PARTITIONS, domain=domain, prefix=new_prefix())
    flags = ("--create-topics", "--settings", str(settings))
    with working(topics, artifact=artifact, logs=folder, flags=flags) as workers:
        _start(workers)
        _say(f"{len(NAMES)} workers share the {PARTITIONS} partitions of {topics.name('requests')}")
        began = time.monotonic()
        _stream(workers, requests, stream_s=stream_s)
        workers.await_committed(len(requests), timeout_s=PATIENCE_S)
        wall_s = time.monotonic() - began
        exit_codes = tuple(workers.end(name) for name in NAMES)
    counts = _count(topics, group=workers.group, artifact=artifact, folder=folder)
    return Told(requests=len(requests), wall_s=wall_s, exit_codes=exit_codes, **counts)


def _start(workers: Workers) -> None:
    """Start the workers and wait until their loops run: from then on the topics exist."""
    give_up = time.monotonic() + START_S
    for name in NAMES:
        workers.start(name)
    while not all("start loop" in workers.log(name) for name in NAMES):
        dead = [name for name in NAMES if not workers.is_running(name)]
        if dead or time.monotonic() > give_up:
            raise Unable(f"the workers did not start; the logs end: {[workers.log(name)[-1500:] for name in NAMES]}")
        time.sleep(0.05)


def _stream(workers: Workers, requests: Sequence[bytes], *, stream_s: float) -> None:
    """Send requests slice by slice; halfway one worker dies, with a slice just sent, and is back one slice later."""
    for number in range(SLICES):
        begin, end = (len(requests) * edge // SLICES for edge in (number, number + 1))
        if number == SLICES // 2:
            workers.await_committed(begin // 2, timeout_s=PATIENCE_S)
        workers.topics.feed(requests[begin:end])
        if number == SLICES // 2:
            workers.kill(VICTIM)
            _say(f"worker {VICTIM!r} killed after {end} of {len(requests)} requests were sent")
        time.sleep(stream_s / SLICES)
        if number == SLICES // 2:
            workers.start(VICTIM)


def _count(topics: Topics, *, group: str, artifact: Path, folder: Path) -> dict[str, int]:
    rows = [row.value for row in topics.read("decisions")]
    decisions = folder / "decisions.jsonl"
    decisions.write_bytes(b"".join(row + b"\n" for row in rows))
    audited = _run("audit", "--once", "--brokers", topics.bootstrap, "--prefix", topics.prefix, "--group", group)
    verified = _run("verify", str(decisions), "--artifact", str(artifact))
    return {
        "committed": audited["requests"],
        **{name: audited[name] for name in ("results", "missing", "double")},
        "decisions": len(rows),
        "sources": len({msgspec.json.decode(row, type=Echo).source for row in rows}),
        **{name: verified[name] for name in ("bitwise", "within_tolerance", "different")},
    }


def _run(*words: str) -> dict[str, Any]:
    """Run a verb and return its result, which it also gives where it finds something wrong."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = penstock([*words, "--json"])
    if not printed.getvalue():
        raise Unable(f"penstock {' '.join(words)} ended with {code} and without a result")
    result: dict[str, Any] = json.loads(printed.getvalue())["result"]
    return result


def report_of(told: Told) -> Report:
    """Return the table, and what is wrong where something is."""
    columns = ("requests", "results", "missing", "double", "worker kills", "decisions per s of wall time")
    numbers = (told.requests, told.results, told.missing, told.double, told.kills, round(told.decisions / told.wall_s))
    counted = Table(columns=columns, rows=[[f"{number:,}" for number in numbers]], numbers=frozenset(columns))
    verified = f"{told.decisions:,} decisions recomputed: {told.bitwise:,} bit for bit, {told.different:,} different"
    verdict = "each request has one result" if told.is_clean else f"this does not hold together: {told}"
    return Report(result={}, text=[counted, verified, verdict], exit_code=0 if told.is_clean else EXIT_UNCLEAN)


def main(argv: Sequence[str] | None = None) -> int:
    """Start a broker, tell the story, print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="what `make demo` left (default: demo)")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--stream-s", type=float, default=20.0, help="seconds over which they are sent (default: 20)")
    words = parser.parse_args(argv)
    requests = under_new_ids((words.demo / "requests.jsonl").read_bytes().splitlines(), words.requests)
    with tempfile.TemporaryDirectory() as name, running_broker(lambda: Path(tempfile.mkdtemp(dir=name))) as broker:
        _say(f"a broker of our own listens at {broker.bootstrap}")
        scope = {"artifact": words.demo / "artifact", "folder": Path(name), "stream_s": words.stream_s}
        report = report_of(tell(broker.bootstrap, requests=requests, **scope))
    show(report)
    return report.exit_code


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    end_on_terminate()
    try:
        sys.exit(main())
    except (BrokerMissingError, PenstockError) as error:
        sys.exit(f"demo-kafka: {error}")
