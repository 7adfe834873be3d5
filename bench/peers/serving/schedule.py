"""Which requests are asked for, and when: a Poisson process that waits for nobody, the same for each service."""

import random
from collections.abc import Sequence
from itertools import accumulate

PARTITIONS = 4
DOMAIN = "bench"


def arrivals(count: int, *, rate: float, seed: int) -> list[float]:
    """Return the times of arrivals in seconds after the beginning, in order.

    >>> [round(at, 2) for at in arrivals(3, rate=10.0, seed=1)]
    [0.01, 0.2, 0.35]
    """
    source = random.Random(seed)
    return list(accumulate(source.expovariate(rate) for _ in range(count)))


def warm_up_count(times: list[float], *, seconds: float) -> int:
    """Return how many arrivals lie before so many seconds.

    >>> warm_up_count([0.1, 0.5, 1.0, 1.2], seconds=1.0)
    2
    """
    return sum(at < seconds for at in times)


def numbered(number: int) -> bytes:
    """Return the id of a request.

    >>> numbered(7)
    b'bench-00000007'
    """
    return b"%s-%08d" % (DOMAIN.encode(), number)


def templates(lines: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return each request in two parts, between which its id is missing; the n-th line has the id n.

    >>> templates([b'{"request_id":"bench-00000000"}'])
    [(b'{"request_id":"', b'"}')]
    """
    parts = [line.split(numbered(number)) for number, line in enumerate(lines)]
    return [(head, tail) for head, tail in parts]
