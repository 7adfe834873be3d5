"""The books of an audit on Kafka: a group's committed positions, the results, and which offsets hold a request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

import msgspec

from policies.errors import UsageProblem
from policies.events import Source
from serving.contract import Place, Positions
from serving.offsets import Span, offsets_within
from serving.transport.kafka_reader import TopicReader
from serving.transport.kafka_topics import TopicsMissing, topic_name

_ANSWERS: Final = ("decisions", "dead-letters")
_CLOCKS_APART_MS: Final = 60_000
"""How far the clocks of those who ask and of those who decide may be apart."""


class NothingCommitted(UsageProblem):
    """The group to audit has committed nothing."""


class _Echo(msgspec.Struct, gc=False):
    source: Source


_ECHO: Final[msgspec.json.Decoder[_Echo]] = msgspec.json.Decoder(_Echo)


@final
class KafkaBooks:
    """Read what an audit needs, as a client of its own that is in no group."""

    def __init__(self, reader: TopicReader, *, prefix: str, domains: Sequence[str], group: str) -> None:
        """Find the topics.

        Raises:
            TopicsMissing: a domain has no topic of requests or of results.
        """
        self._reader, self._group, self._prefix, self._domains = reader, group, prefix, list(domains)
        self._requests = self._find(("requests",))
        self._answers = self._find(_ANSWERS)
        self._read: dict[Place, int] = reader.begins(self._answers)

    def starts(self) -> Positions:
        """Return the first request of each partition that can be audited.

        That is the oldest one; or, where old results have been deleted, the first that was asked after the oldest
        result that is left was written.

        Raises:
            NothingCommitted: the group has committed nothing.
        """
        begins = self._reader.begins(self._requests)
        if not self.committed():
            topics = ", ".join(sorted({topic for topic, _ in self._requests}))
            raise NothingCommitted(
                f"the group {self._group} has committed nothing in {topics}; name the group of the workers with --group"
            )
        cut = [place for place, offset in self._read.items() if offset > 0]
        times = [time_ms for place in cut if (time_ms := self._first_time(place)) is not None]
        if not times:
            return begins
        since = self._reader.first_at(self._requests, max(times) + _CLOCKS_APART_MS)
        return {place: max(begin, since[place]) for place, begin in begins.items()}

    def committed(self) -> Positions:
        """Return the committed position of each partition of requests, those that came since the start included."""
        self._reader.refresh()
        self._requests = self._find(("requests",))
        return self._reader.committed(self._group, self._requests)

    def results(self) -> Iterable[Sequence[Source]]:
        """Return the sources of all results from the last call's end to where they end now.

        Partitions are looked for after the positions were read: a result whose position is known lies in one of them.
        """
        self._reader.refresh()
        self._answers = self._find(_ANSWERS)
        self._read = self._reader.begins([place for place in self._answers if place not in self._read]) | self._read
        ends = self._reader.ends(self._answers)
        self._reader.seek(self._read)
        for rows in self._reader.read_to(ends):
            yield [_ECHO.decode(row.value).source for row in rows]
        self._read = self._reader.positions()

    def holding(self, place: Place, spans: Sequence[Span]) -> Sequence[int]:
        """Return the offsets that hold a request; neighboring spans are read in one go."""
        found: list[int] = []
        for begin, end in _joined(spans):
            for rows in self._reader.read_between({place: begin}, {place: end}):
                found += offsets_within([row.offset for row in rows], spans)
        return found

    def lag(self, committed: Positions) -> Mapping[Place, int]:
        reached = self._reader.begins(self._requests) | dict(committed)
        return {place: end - reached[place] for place, end in self._reader.ends(self._requests).items()}

    def _find(self, lasts: Sequence[str]) -> list[Place]:
        topics = [topic_name(self._prefix, domain, last) for domain in self._domains for last in lasts]
        places = {topic: self._reader.places(topic) for topic in topics}
        missing = [topic for topic in topics if not places[topic]]
        if missing:
            raise TopicsMissing(f"expected the topics {', '.join(topics)}, missing {', '.join(missing)}")
        return [place for topic in topics for place in places[topic]]

    def _first_time(self, place: Place) -> int | None:
        begin, end = self._read[place], self._reader.ends([place])[place]
        rows: Sequence[Any] = next(iter(self._reader.read_between({place: begin}, {place: end})), ())
        return int(rows[0].timestamp) if rows else None


_NEAR: Final = 1_000
"""Spans so near to each other are read in one go."""


def _joined(spans: Sequence[Span]) -> list[Span]:
    found: list[Span] = []
    for begin, end in spans:
        if found and begin - found[-1][1] < _NEAR:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found
