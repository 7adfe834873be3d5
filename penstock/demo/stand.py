"""The stand on which the demo serves: the real pipeline and join over the memory transport, with a world behind it.

The loops go round in turn rather than in threads, so that the story can be told between two rounds; what they do in a
round is what `penstock serve` does.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any, final

import msgspec
from prometheus_client import CollectorRegistry

from policies.artifact import Artifact
from policies.events import Decision, Outcome, Source, from_bytes, to_bytes
from policies.feedback import Feedback, fold
from serving.catalogue import lineup_of
from serving.contract import Transport
from serving.health import HealthServer, Progress, Readiness
from serving.join import Join
from serving.loop import Loop, Work
from serving.metrics import Metrics
from serving.pipeline import Pipeline
from serving.transport.memory import MemoryLog, MemoryTransport
from serving.watcher import FixedLineup

World = Callable[[Decision], Outcome]
"""Says what comes of a decision."""


@final
class Stand:
    """Serve requests in memory, let the world answer, and keep what comes of it."""

    def __init__(self, artifact: Artifact, *, world: World, metrics_port: int = 0) -> None:
        self._spec, self._world = artifact.spec, world
        self._log = MemoryLog()
        self._metrics = Metrics(CollectorRegistry())
        self._answered = 0
        lineup = lineup_of(artifact)
        requests = MemoryTransport(self._log, topics=("requests",), group="decide", is_finite=False)
        answers = MemoryTransport(self._log, topics=("decisions", "outcomes"), group="join", is_finite=False)
        lineups = FixedLineup(lineup, metrics=self._metrics)
        pipeline = Pipeline(requests, lineups=lineups, now=_now, seconds=time.monotonic, metrics=self._metrics)
        join = Join(
            answers, specs={artifact.spec.domain: artifact.spec}, now=_now, metrics=self._metrics,
            unit_window_s=0.0, report_interval_s=0.0,
        )  # fmt: skip
        progress = {name: Progress(name, clock=time.monotonic, stall_s=60.0) for name in ("decide", "join")}
        self._decide = self._loop(requests, pipeline, progress["decide"])
        self._join = self._loop(answers, join, progress["join"])
        readiness = Readiness(["artifacts"])
        readiness.set("artifacts")
        self._health = HealthServer(
            port=metrics_port, loops=list(progress.values()), readiness=readiness, registry=self._metrics.registry
        )

    @property
    def port(self) -> int:
        """The port where /metrics, /healthz and /readyz answer."""
        return self._health.port

    def serve(self, requests: Sequence[bytes]) -> dict[str, Any] | None:
        """Decide some requests, let the world answer, join; return the running estimate as it was last reported."""
        for value in requests:
            self._log.append(value)
        while self._decide_count() < self._log.end(("requests", 0)):
            self._decide.go_round()
        for decision in self.decisions()[self._answered :]:
            self._log.append(to_bytes(self._world(decision)), topic="outcomes")
        self._answered = self._log.end(("decisions", 0))
        for _ in range(4 + 2 * len(requests) // 256):
            self._join.go_round()
        reports = self._log.results("estimate")
        return msgspec.json.decode(reports[-1].value) if reports else None

    def decisions(self) -> list[Decision]:
        """Return all decisions so far."""
        return [from_bytes(result.value, Decision) for result in self._log.results("decision")]

    def outcomes(self) -> list[tuple[Outcome, Source]]:
        """Return all outcomes so far, with their sources."""
        return [(from_bytes(m.value, Outcome), m.source) for m in self._log.messages("outcomes")]

    def feedback(self) -> Feedback:
        """Return decisions joined to outcomes, by the one fold."""
        return fold(self.decisions(), self.outcomes(), as_of=_now(), spec=self._spec).feedback

    def leave(self, folder: Path) -> None:
        """Write requests, decisions and outcomes as lines, for the commands that come after the demo."""
        for topic in ("requests", "decisions", "outcomes"):
            lines = [message.value + b"\n" for message in self._log.messages(topic)]
            (folder / f"{topic}.jsonl").write_bytes(b"".join(lines))

    def metrics(self) -> str:
        """Return the metrics as Prometheus reads them, over HTTP from the stand's own port."""
        from urllib.request import urlopen

        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def close(self) -> None:
        """Stop answering."""
        self._health.close()

    def _decide_count(self) -> int:
        return len(self._log.results("decision")) + len(self._log.results("dead_letter"))

    def _loop(self, transport: Transport, work: Work, progress: Progress) -> Loop:
        return Loop(
            transport, work, progress=progress, metrics=self._metrics, stop=Event(),
            seconds=time.monotonic, unix_seconds=time.time,
        )  # fmt: skip


def _now() -> int:
    return time.time_ns() // 1000
