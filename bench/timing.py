"""CPU time and percentiles; machines are shared, so only ratios within one run are compared."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


def cpu_us(work: Callable[[], object], *, count: int, seconds: float = 1.0) -> float:
    """Return the CPU time of `work` per unit, in µs, where one call does `count` units: the best of three runs."""
    work()
    best = float("inf")
    for _ in range(3):
        calls, start = 0, time.process_time()
        while time.process_time() - start < seconds / 3:
            work()
            calls += 1
        best = min(best, (time.process_time() - start) / (calls * count))
    return best * 1e6


def wall_us(work: Callable[[], object], *, calls: int) -> list[float]:
    """Return the wall time of each of some calls, in µs, sorted."""
    work()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e6)
    return sorted(times)


class Spent:
    """The CPU seconds that were spent inside a function, and how often it was called."""

    seconds = 0.0
    calls = 0


@contextmanager
def cpu_inside(owner: Any, name: str) -> Iterator[Spent]:
    """Count the CPU time inside a function of a module or a method of a class, wherever it is called from."""
    spent, own, clock = Spent(), getattr(owner, name), time.process_time

    def timed(*words: Any, **named: Any) -> Any:
        start = clock()
        try:
            return own(*words, **named)
        finally:
            spent.seconds += clock() - start
            spent.calls += 1

    with patch.object(owner, name, timed):
        yield spent


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which that share of an ordered sample lies.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
    3.0
    """
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
