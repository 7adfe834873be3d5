"""Loops over a memory log for the tests of serving: clocks stand still until a test moves them."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from policies.spec import PolicySpec
from serving.catalogue import Lineup
from serving.contract import Kind, Transport
from serving.health import Progress
from serving.join import Join
from serving.loop import Loop, Work
from serving.metrics import Metrics
from serving.pacing import Pacer
from serving.pipeline import Pipeline
from serving.transport.memory import MemoryLog, MemoryTransport
from serving.watcher import FixedLineup


class Clock:
    """Say a time in seconds that only `advance` moves; as `microseconds` it counts from a day in 2026."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def microseconds(self) -> int:
        return 1_790_000_000_000_000 + round(self.seconds * 1e6)

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class Stop:
    """Stop a loop after some rounds, and note how long it was asked to wait."""

    def __init__(self, *, after: int | None = None) -> None:
        self.after = after
        self.asked = 0
        self.waited: list[float] = []

    def is_set(self) -> bool:
        self.asked += 1
        return self.after is not None and self.asked > self.after

    def wait(self, timeout: float) -> None:
        self.waited.append(timeout)


def new_metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def new_loop(
    transport: Transport,
    work: Work,
    *,
    clock: Clock,
    metrics: Metrics,
    stop: Stop | None = None,
    progress: Progress | None = None,
    pacer: Pacer | None = None,
) -> Loop:
    return Loop(
        transport,
        work,
        progress=progress or Progress("decide", clock=clock, stall_s=60.0),
        metrics=metrics,
        stop=stop or Stop(),
        seconds=clock,
        unix_seconds=clock,
        pacer=pacer,
    )


def new_pipeline(
    transport: Transport, lineup: Lineup, *, clock: Clock, metrics: Metrics, window_size: int = 100
) -> Pipeline:
    return Pipeline(
        transport,
        lineups=FixedLineup(lineup, metrics=metrics),
        now=clock.microseconds,
        seconds=clock,
        metrics=metrics,
        window_size=window_size,
    )


def decide_log(log: MemoryLog, lineup: Lineup, *, max_batch: int = 256, clock: Clock | None = None) -> Pipeline:
    """Decide all requests of a log, and return the pipeline that did."""
    clock, metrics = clock or Clock(), new_metrics()
    transport = MemoryTransport(log, max_batch=max_batch)
    pipeline = new_pipeline(transport, lineup, clock=clock, metrics=metrics)
    new_loop(transport, pipeline, clock=clock, metrics=metrics).run()
    return pipeline


def new_join(
    log: MemoryLog, spec: PolicySpec, *, clock: Clock, is_finite: bool = False, **settings: Any
) -> tuple[Join, Loop, Metrics]:
    """Make a join over the decisions and outcomes of a log, its loop and its metrics."""
    metrics = new_metrics()
    max_batch = settings.pop("max_batch", 256)
    transport = MemoryTransport(
        log,
        topics=("decisions", "outcomes"),
        group="join",
        is_finite=is_finite,
        max_batch=max_batch,
        faults=settings.pop("faults", lambda point: None),
    )
    join = Join(transport, specs={spec.domain: spec}, now=clock.microseconds, metrics=metrics, **settings)
    return join, new_loop(transport, join, clock=clock, metrics=metrics), metrics


def documents(log: MemoryLog, kind: Kind) -> Sequence[Mapping[str, Any]]:
    """Return the committed results of one kind, decoded."""
    return [msgspec.json.decode(result.value) for result in log.results(kind)]


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return the value of one sample, None where there is none."""
    return metrics.registry.get_sample_value(name, labels)
