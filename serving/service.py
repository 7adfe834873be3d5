"""What `penstock serve` runs: the loops of one process, over one transport each, with their health and metrics."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol, final

from prometheus_client import CollectorRegistry

from policies.artifact import load_artifact
from policies.errors import Unable
from serving.catalogue import Lineup, lineup_of, load_lineup, read_salt
from serving.contract import Transport
from serving.health import HealthServer, Progress, Readiness
from serving.join import Join
from serving.log import log
from serving.loop import Loop
from serving.metrics import Metrics
from serving.pacing import Pacer
from serving.pipeline import Key, Pipeline
from serving.settings import ServeSettings
from serving.transport.file import FileTransport
from serving.watcher import CatalogueWatcher, FixedLineup, Lineups

_MICROSECONDS: Final = 1_000_000


class UnableToOpenTransport(Unable):
    """The transport that the settings name cannot be opened here."""


class OpenTransport(Protocol):
    """Open the transport of one loop."""

    def __call__(
        self, settings: ServeSettings, *, loop: str, stop: threading.Event, domains: Sequence[str]
    ) -> Transport:
        """Return it, ready to be polled."""


def open_transport(settings: ServeSettings, *, loop: str, stop: threading.Event, domains: Sequence[str]) -> Transport:
    """Open the folder of the settings, or join the group of a loop at their brokers.

    Raises:
        UnableToOpenTransport: the file transport has no folder.
        FolderRefused, FolderBusy, UnableToResume: the folder cannot be worked on.
        TopicsMissing, UnableToReachBrokers: the brokers cannot be worked with.
    """
    if settings.transport == "kafka":
        from serving.transport.kafka_open import open_kafka_transport  # a folder needs no client

        return open_kafka_transport(settings, loop=loop, domains=domains)
    if settings.dir is None:
        raise UnableToOpenTransport("expected the folder of the file transport, found none")
    return FileTransport(
        settings.dir,
        group=loop,
        max_batch=settings.max_batch,
        is_following=settings.follow,
        wait=stop.wait,
        poll_interval_s=settings.poll_interval_s,
    )


@final
@dataclass(frozen=True, kw_only=True)
class Served:
    """Say what a run came to: results by (domain, kind, reason), and how many requests are still held by the join."""

    results: Mapping[Key, int]
    open_count: int


@final
class Service:
    """Run the loops that the settings name until their inputs end or `stop` is set.

    Loops over an input that ends run one after the other, so that the join reads what decide has written; otherwise
    each has a thread, and the first that fails stops the others and the process.
    """

    def __init__(
        self,
        settings: ServeSettings,
        *,
        stop: threading.Event,
        open_transport: OpenTransport = open_transport,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._stop, self._open_transport = settings, stop, open_transport
        self._now, self._seconds = now, seconds
        self._metrics = Metrics(CollectorRegistry())
        self._readiness = Readiness(["artifacts", *(f"{loop} transport" for loop in settings.loops)])
        self._progress: dict[str, Progress] = {
            loop: Progress(loop, clock=seconds, stall_s=settings.stall_s) for loop in settings.loops
        }
        self._failures: list[BaseException] = []
        self._results: Counter[Key] = Counter()
        self._open_count = 0

    def run(self, *, announce: Callable[[int], None] = lambda port: None) -> Served:
        """Load what is to run, answer health questions, and run the loops.

        Args:
            announce: called with the port of the health server, when there is one.

        Raises:
            ArtifactRefused, UnableToLoadCatalogue, SaltRefused: nothing sound to run.
            PortTaken: the port of the health server cannot be listened at.
        """
        health = self._start_health(announce)
        try:
            salt = read_salt(self._settings.salt_file)
            lineups, lineup = self._line_up(salt)
            self._readiness.set("artifacts")
            self._run_loops(lineups, lineup)
        finally:
            for loop in self._progress:
                self._readiness.set(f"{loop} transport", holds=False)
            if health is not None:
                health.close()
        if self._failures:
            raise self._failures[0]
        return Served(results=dict(self._results), open_count=self._open_count)

    def _start_health(self, announce: Callable[[int], None]) -> HealthServer | None:
        if self._settings.metrics_port is None:
            return None
        health = HealthServer(
            port=self._settings.metrics_port,
            host=self._settings.metrics_host,
            loops=list(self._progress.values()),
            readiness=self._readiness,
            registry=self._metrics.registry,
        )
        log("listen", host=self._settings.metrics_host, port=health.port)
        announce(health.port)
        return health

    def _line_up(self, salt: bytes) -> tuple[Lineups, Lineup]:
        if self._settings.catalogue is not None:
            path = self._settings.catalogue
            watcher = CatalogueWatcher(path, salt=salt, metrics=self._metrics, seconds=self._seconds, load=load_lineup)
            return watcher, watcher.current()
        lineup = lineup_of(load_artifact(Path(self._settings.artifact or "")), salt=salt)
        return FixedLineup(lineup, metrics=self._metrics), lineup

    def _run_loops(self, lineups: Lineups, lineup: Lineup) -> None:
        runs = [partial(self._run_loop, loop, lineups, lineup) for loop in self._progress]
        if not self._settings.follow or len(runs) == 1:
            for run in runs:
                run()
            return
        threads = [threading.Thread(target=self._guard, args=(run,), name="loop") for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # raised again by the thread that waits for all loops
            self._failures.append(error)
            self._stop.set()

    def _run_loop(self, name: str, lineups: Lineups, lineup: Lineup) -> None:
        domains = sorted(lineup.domains)
        transport = self._open_transport(self._settings, loop=name, stop=self._stop, domains=domains)
        try:
            self._readiness.set(f"{name} transport")
            if name == "decide":
                work = self._pipeline(transport, lineups)
                self._loop(transport, work, name).run()
                self._results.update(work.totals)
            else:
                join = self._join(transport, lineup)
                self._loop(transport, join, name).run()
                self._open_count = join.open_count
        finally:
            transport.close()

    def _loop(self, transport: Transport, work: Pipeline | Join, name: str) -> Loop:
        return Loop(
            transport,
            work,
            progress=self._progress[name],
            metrics=self._metrics,
            stop=self._stop,
            seconds=self._seconds,
            unix_seconds=lambda: self._now() / _MICROSECONDS,
            lag_interval_s=self._settings.lag_interval_s,
            pacer=Pacer(target_s=self._settings.latency_target_ms / 1000) if name == "decide" else None,
        )

    def _pipeline(self, transport: Transport, lineups: Lineups) -> Pipeline:
        return Pipeline(
            transport,
            lineups=lineups,
            now=self._now,
            seconds=self._seconds,
            metrics=self._metrics,
            window_size=self._settings.duplicate_window,
        )

    def _join(self, transport: Transport, lineup: Lineup) -> Join:
        return Join(
            transport,
            specs={domain: assignment.live.artifact.spec for domain, assignment in lineup.domains.items()},
            now=self._now,
            metrics=self._metrics,
            hold_s=self._settings.join_hold_s,
            max_open=self._settings.join_max_open,
            unit_window_s=self._settings.unit_window_s,
        )


def stop_on_signals(stop: threading.Event) -> None:
    """Let SIGTERM and SIGINT end the process after the batch in hand; call it from the main thread."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda signum, frame: stop.set())
