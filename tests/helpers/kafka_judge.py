"""What became of each request, counted by a reader outside the group that sees only what is committed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

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


def ends_of(topics: Topics) -> dict[int, int]:
    """Return how many requests each partition holds; their producer writes no markers."""
    consumer = KafkaConsumer(bootstrap_servers=topics.bootstrap, enable_auto_commit=False)
    try:
        places = [TopicPartition(topics.name("requests"), number) for number in range(topics.partition_count)]
        return {place.partition: end for place, end in consumer.end_offsets(places).items()}
    finally:
        consumer.close()


def counting(topics: Topics, last: str, results: Counter[Source]) -> Iterator[bytes]:
    """Read one topic of results once, and count them by the source of their request on the way."""
    for row in topics.rows(last):
        source = msgspec.json.decode(row.value, type=Echo).source
        results[source.partition, source.offset] += 1
        yield row.value


def judge(topics: Topics) -> Verdict:
    """Count what all requests of some topics have come to."""
    results: Counter[Source] = Counter()
    for last in ("decisions", "dead-letters"):
        for _ in counting(topics, last, results):
            pass
    return verdict(results, ends=ends_of(topics))


def open_transactions(brokers: str) -> list[Any]:
    """Return the transactions that are under way at a broker."""
    admin = KafkaAdminClient(bootstrap_servers=brokers)
    try:
        listed = [row for rows in admin.list_transactions().values() for row in rows]
        return [row for row in listed if row.state.value not in ("Empty", "CompleteCommit", "CompleteAbort", "Dead")]
    finally:
        admin.close()
