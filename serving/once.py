"""Decide a file once, from its first line to its last, by the one pipeline; results go to a sink as they are made.

This is what `penstock decide` runs: without a broker, without a memory of earlier runs. What must survive a crash goes
through the file transport.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol, final

from prometheus_client import CollectorRegistry

from policies.errors import UsageProblem
from policies.events import Source
from serving.catalogue import Lineup
from serving.contract import Batch, Committed, Message, Place, Positions, Result, check_answers
from serving.health import Progress
from serving.loop import Loop
from serving.metrics import Metrics
from serving.pipeline import Pipeline
from serving.transport.cursor import Cursor
from serving.transport.lines import LineReader
from serving.watcher import FixedLineup

_PLACE: Final[Place] = ("requests", 0)
_NEVER_STALLED_S: Final = float("inf")  # nobody probes a run that ends by itself


class RequestsNotFound(UsageProblem):
    """There is no file of requests where one was expected."""


class Sink(Protocol):
    """Keep results in the order of their requests."""

    def write(self, results: Sequence[Result]) -> None:
        """Keep some more results."""


class Counts(NamedTuple):
    """Say what a file of requests came to; fallbacks are among the decisions."""

    decisions: int
    dead_letters: int
    fallbacks: int


@final
class LineSink:
    """Write decisions as JSON lines to one stream and dead letters to another, which is opened when it is needed."""

    def __init__(self, decisions: BinaryIO, *, dead_letters: Callable[[], BinaryIO]) -> None:
        self._streams: dict[str, BinaryIO] = {"decision": decisions}
        self._open_dead_letters = dead_letters

    def write(self, results: Sequence[Result]) -> None:
        """Write each result to its stream; shadows leave no line."""
        for result in results:
            if result.kind == "dead_letter" and "dead_letter" not in self._streams:
                self._streams["dead_letter"] = self._open_dead_letters()
            stream = self._streams.get(result.kind)
            if stream is not None:
                stream.write(result.value + b"\n")
        for stream in self._streams.values():
            stream.flush()


@final
class OnceTransport:
    """Read the lines of a file once; blank ones count but are left out."""

    def __init__(self, path: Path, *, sink: Sink, max_batch: int) -> None:
        """Open the file.

        Raises:
            RequestsNotFound: it is not there.
            ValueError: max_batch is below one.
        """
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, found {max_batch}")
        if not path.is_file():
            raise RequestsNotFound(f"expected requests as JSON lines at {path}, found no file there")
        self._reader, self._sink, self._max_batch = LineReader(path), sink, max_batch
        self._cursor = Cursor({_PLACE: 0})

    def poll(self) -> Batch:
        lines = self._reader.read(self._max_batch, is_whole=True)
        if not lines:
            return Batch(messages=(), is_end=True)
        topic, partition = _PLACE
        messages = [
            Message(value=line.value, source=Source(topic=topic, partition=partition, offset=line.number))
            for line in lines
        ]
        return Batch(messages=tuple(messages), token=self._cursor.take({_PLACE: lines[-1].number + 1}))

    def settle(self, batch: Batch, results: Sequence[Result], *, positions: Positions | None = None) -> Committed:
        check_answers(batch, results)
        targets = self._cursor.targets(batch, positions)
        self._sink.write(results)
        self._cursor.commit(batch, targets)
        return Committed(positions=targets)

    def close(self) -> None:
        self._reader.close()


def decide_file(
    path: Path,
    *,
    lineup: Lineup,
    sink: Sink,
    now: Callable[[], int],
    seconds: Callable[[], float],
    batch_size: int = 256,
) -> Counts:
    """Decide every request of a file of JSON lines.

    Args:
        path: the requests.
        lineup: what decides.
        sink: where results go, batch by batch.
        now: the time that records carry, in microseconds since 1970 UTC.
        seconds: a monotonic clock.
        batch_size: requests decided at once; it never changes a decision.

    Raises:
        RequestsNotFound: the file is not there.
    """
    metrics = Metrics(CollectorRegistry())
    transport = OnceTransport(path, sink=sink, max_batch=batch_size)
    lineups = FixedLineup(lineup, metrics=metrics)
    pipeline = Pipeline(transport, lineups=lineups, now=now, seconds=seconds, metrics=metrics)
    loop = Loop(
        transport,
        pipeline,
        progress=Progress("decide", clock=seconds, stall_s=_NEVER_STALLED_S),
        metrics=metrics,
        stop=threading.Event(),
        seconds=seconds,
        unix_seconds=lambda: now() / 1e6,
    )
    try:
        loop.run()
    finally:
        transport.close()
    return _counts(pipeline.totals)


def _counts(totals: Mapping[tuple[str, str, str], int]) -> Counts:
    by_kind = {"decision": 0, "fallback": 0, "dead_letter": 0, "shadow": 0}
    for (_, kind, _), count in totals.items():
        by_kind[kind] += count
    return Counts(by_kind["decision"] + by_kind["fallback"], by_kind["dead_letter"], by_kind["fallback"])
