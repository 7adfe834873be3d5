"""From what was read to what it comes to: missing and double answers, latencies, the slope of memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.peers.serving.schedule import PARTITIONS
from bench.serving.processes import Sample
from bench.timing import percentile

LATE_MS: Final = 5.0
"""A generator whose requests are later than this at p99 did not keep its schedule."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """How many cores were busy during a run, how many of them with other work; and the load before it."""

    before: float
    busy_cores: float
    other_cores: float


@dataclass(frozen=True, kw_only=True)
class CatchUp:
    """One run against a topic that is full when the service starts."""

    contender: str
    requests: int
    missing: int
    double: int
    cpu_s: float
    start_cpu_s: float
    wall_s: float
    answer_bytes: int
    load: Load

    @property
    def us_per_decision(self) -> float:
        return (self.cpu_s - self.start_cpu_s) / self.requests * 1e6


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One run at a rate; times in ms from when a request was due to when its answer was read, the warm-up left out."""

    contender: str
    rate: int
    requests: int
    missing: int
    double: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_share: float
    rss_mib: float
    rss_mib_per_min: float
    lag_p99_ms: float
    generator_cpu_share: float
    reader_cpu_share: float
    load: Load

    @property
    def is_on_time(self) -> bool:
        return self.lag_p99_ms <= LATE_MS


def count_answers(numbers: NDArray[np.int64], *, count: int) -> tuple[int, int]:
    """Return how many of the requests 0 to `count` have no answer, and how many answers there are too many.

    >>> count_answers(np.array([0, 2, 2, 9]), count=4)
    (2, 2)
    """
    seen = np.bincount(numbers, minlength=count)
    return int((seen[:count] == 0).sum()), int(np.maximum(seen[:count] - 1, 0).sum() + seen[count:].sum())


def latencies_ms(pairs: NDArray[np.int64], times: Sequence[float], *, begin_ns: int, warm_up: int) -> list[float]:
    """Return, sorted, the time from due to first read of each request after the warm-up.

    Args:
        pairs: int64 [N, 2], a request's number and when an answer to it was read; the first requests, one for each
            partition, come before the schedule.
        times: when each request of the schedule is due, in seconds after its beginning.
        begin_ns: the beginning, on the clock of the readings.
        warm_up: how many requests of the schedule are left out.

    >>> pairs = np.array([[4, 1_002_000_000], [5, 1_013_000_000], [4, 9_000_000_000]])
    >>> latencies_ms(pairs, [0.0, 0.01], begin_ns=1_000_000_000, warm_up=0)
    [2.0, 3.0]
    """
    numbers, first = np.unique(pairs[:, 0], return_index=True)
    place = numbers - PARTITIONS
    is_counted = (place >= warm_up) & (place < len(times))
    due_ns = begin_ns + np.array(times)[place[is_counted]] * 1e9
    found: list[float] = np.sort((pairs[first[is_counted], 1] - due_ns) / 1e6).round(6).tolist()
    return found


def shares_ms(ordered: Sequence[float]) -> tuple[float, float, float]:
    """Return median, p99 and the largest of a sorted sample, NaN where there is none.

    >>> shares_ms([1.0, 2.0, 3.0])
    (2.0, 3.0, 3.0)
    """
    if not ordered:
        return (float("nan"),) * 3
    return percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1]


def memory_of(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the last resident memory, in MiB, and the slope of the least-squares line through all, in MiB per minute.

    >>> memory_of([Sample(at_s=0.0, rss_mib=10.0, cpu_s=0.0), Sample(at_s=30.0, rss_mib=11.0, cpu_s=0.0)])
    (11.0, 2.0)
    """
    if len(samples) < 2:
        return (samples[-1].rss_mib if samples else float("nan")), float("nan")
    at_s = np.array([sample.at_s for sample in samples])
    slope = np.polyfit(at_s - at_s[0], [sample.rss_mib for sample in samples], 1)[0]
    return samples[-1].rss_mib, round(float(slope) * 60, 6)


def cpu_share_of(samples: Sequence[Sample]) -> float:
    """Return the share of one core that a process took between its first and its last sample."""
    if len(samples) < 2:
        return float("nan")
    return (samples[-1].cpu_s - samples[0].cpu_s) / (samples[-1].at_s - samples[0].at_s)
