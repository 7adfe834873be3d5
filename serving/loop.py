"""The outermost loop: wait, poll, work, settle, until the input or the process is to end.

A batch ends committed, or rewound and polled again after a growing wait, or the loop ends with the batch unsettled.
Nothing is caught here: what a message can do wrong has a reason and a dead letter, so an exception is a defect or a
resource that is gone, and the next start decides the batch again.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, final

from serving.contract import Batch, Committed, Measures, Positions, Result, Rewound, Transport
from serving.health import Progress
from serving.log import log
from serving.metrics import Metrics
from serving.pacing import Pacer

_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 5.0


class Work(Protocol):
    """Make results of a batch, and learn whether they were kept."""

    def answer(self, batch: Batch) -> tuple[Sequence[Result], Positions | None]:
        """Return the results of a batch (which may be empty) and, where messages are held back, the positions."""

    def keep(self) -> None:
        """Learn that the last results were committed."""

    def drop(self) -> None:
        """Learn that the last batch was rewound: forget everything that is not committed."""


class Stop(Protocol):
    """Say whether the process is to end, and wait unless it is; `threading.Event` does."""

    def is_set(self) -> bool:
        """Say whether the process is to end."""

    def wait(self, timeout: float) -> object:
        """Wait for so many seconds, or until the process is to end."""


@final
class Loop:
    """Run one kind of work over one transport.

    `stop` ends it after the batch in hand. `seconds` is a monotonic clock, `unix_seconds` the time of day. With a
    `pacer` it waits before a poll, where the transport knows the messages' timestamps.
    """

    def __init__(
        self,
        transport: Transport,
        work: Work,
        *,
        progress: Progress,
        metrics: Metrics,
        stop: Stop,
        seconds: Callable[[], float],
        unix_seconds: Callable[[], float],
        lag_interval_s: float = 5.0,
        pacer: Pacer | None = None,
    ) -> None:
        self._transport, self._work, self._stop = transport, work, stop
        self._progress, self._metrics = progress, metrics
        self._seconds, self._unix_seconds = seconds, unix_seconds
        self._lag_interval_s, self._measured_s = lag_interval_s, -lag_interval_s
        self._rewinds, self._pacer = 0, pacer
        name = progress.loop
        self._requests = metrics.counter("penstock_requests_total", name)
        self._rewound = metrics.counter("penstock_rewinds_total", name)
        self._came_round = metrics.gauge("penstock_loop_timestamp_seconds", name)
        self._batch_messages = metrics.histogram("penstock_batch_messages")
        self._settle_seconds = metrics.histogram("penstock_settle_seconds")
        self._commit_age = metrics.histogram("penstock_commit_age_seconds")
        self._linger = metrics.gauge("penstock_linger_seconds")

    def run(self) -> None:
        """Go round until the input ends or `stop` is set; the transport stays open."""
        self._progress.begin()
        log("start loop", loop=self._progress.loop)
        while not self._stop.is_set() and self.go_round():
            pass
        self._progress.end()
        log("end loop", loop=self._progress.loop, stopped=self._stop.is_set())

    def go_round(self) -> bool:
        """Poll one batch and settle what comes of it; return False where the input has ended and nothing came of it."""
        if self._pacer is not None and (wait_s := self._pacer.wait_s()) > 0:
            self._stop.wait(wait_s)
        batch = self._transport.poll()
        self._progress.come_round()
        self._came_round.set(self._unix_seconds())
        self._measure_lag()
        results, positions = self._work.answer(batch)
        if not batch.messages and not results:
            return not batch.is_end
        started = self._seconds()
        settled = self._transport.settle(batch, results, positions=positions)
        self._settle_seconds.observe(self._seconds() - started)
        if isinstance(settled, Rewound):
            self._take_back(settled)
        else:
            self._keep(batch, settled)
        return True

    def _keep(self, batch: Batch, settled: Committed) -> None:
        self._rewinds = 0
        self._work.keep()
        self._progress.move()
        if batch.messages:
            self._requests.inc(len(batch.messages))
            self._batch_messages.observe(len(batch.messages))
            self._pace(batch)
        self._show("penstock_committed_offset", settled.positions)

    def _pace(self, batch: Batch) -> None:
        """See how old the oldest message was when it was committed, and let the next wait follow from it."""
        oldest_ms = batch.oldest_ms
        if self._pacer is None or oldest_ms is None:
            return
        oldest_s = max(0.0, self._unix_seconds() - oldest_ms / 1000)
        self._commit_age.observe(oldest_s)
        self._pacer.note(
            messages=len(batch.messages), oldest_s=oldest_s, has_more=batch.has_more, now_s=self._seconds()
        )
        self._linger.set(self._pacer.wait_s())

    def _take_back(self, settled: Rewound) -> None:
        self._work.drop()
        self._rewound.inc()
        log("rewind batch", level="warning", loop=self._progress.loop, reason=settled.reason)
        self._stop.wait(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**self._rewinds))
        self._rewinds = min(self._rewinds + 1, 10)

    def _measure_lag(self) -> None:
        if not isinstance(self._transport, Measures) or self._seconds() - self._measured_s < self._lag_interval_s:
            return
        self._measured_s = self._seconds()
        lag = self._transport.lag()
        self._progress.measure(sum(lag.values()))
        self._show("penstock_lag_messages", lag)

    def _show(self, gauge: str, values: Mapping[tuple[str, int], int]) -> None:
        for (topic, partition), value in values.items():
            self._metrics.gauge(gauge, self._progress.loop, topic, str(partition)).set(value)
