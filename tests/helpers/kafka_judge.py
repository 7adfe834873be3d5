"""What became of each request, counted by a reader outside the group that sees only what is committed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from tests.helpers.kafka_topics import Echo, Topics

Source = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Say how many requests have no result, and how many results there are too many."""

    requests: int
    results: int
    missing: int
    double: int

    @property
    def is_clean(self) -> bool:
        return self.missing == self.double == 0


def verdict(results: Counter[Source], *, ends: Mapping[int, int]) -> Verdict:
    """Hold results, by partition and offset of their request, against the requests that there are.

    >>> verdict(Counter({(0, 0): 1, (0, 1): 2}), ends={0: 3})
    Verdict(requests=3, results=3, missing=1, double=1)
    """
    wanted = {(partition, offset) for partition, end in ends.items() for offset in range(end)}
    return Verdict(
        requests=len(wanted),
        results=results.total(),
        missing=len(wanted - results.keys()),
        double=sum(count - 1 for count in results.values()) + sum(source not in wanted for source in results),
    )


def judge(topics: Topics) -> Verdict:
    """Count what all requests of some topics have come to."""
    results: Counter[Source] = Counter()
    for last in ("decisions", "dead-letters"):
        for row in topics.read(last):
            source = msgspec.json.decode(row.value, type=Echo).source
            results[source.partition, source.offset] += 1
    requests = Counter(row.partition for row in topics.read("requests"))
    return verdict(results, ends=requests)
