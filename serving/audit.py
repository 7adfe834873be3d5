"""An audit from outside: each request that a group has committed must have exactly one committed result, by its source.

The committed positions are read first, then all results up to where their topics end: a result is readable once its
transaction ends, and the position with it, so that a position without its result means a loss. An offset that holds no
request, such as the marker of a producer's transaction, needs no result; whether it holds one is looked up.

Memory does not grow with the number of requests but with how far results of neighbors lie apart.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol, final

import msgspec

from policies.events import Source
from serving.contract import Place, Positions
from serving.metrics import Metrics
from serving.offsets import OffsetSet, Span

NAMED: Final = 10
"""How many missing and double results are named."""


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """Say what an audit found.

    Attributes:
        requests: committed offsets that hold a request.
        results: decisions and dead letters of these requests, of later ones too.
        missing: committed requests without a result.
        double: results beyond the first of a request.
        late: results that came after their request had been counted as missing; these are not missing any more.
        empty_offsets: committed offsets that hold no request, such as markers of transactions.
        lag: requests that are not committed yet, markers included.
        first_missing: some of them, the first by place.
        first_double: some of them, in the order found.
    """

    requests: int
    results: int
    missing: int
    double: int
    late: int
    empty_offsets: int
    lag: int
    first_missing: tuple[Source, ...]
    first_double: tuple[Source, ...]

    @property
    def is_clean(self) -> bool:
        """Whether each committed request has exactly one result."""
        return not self.missing and not self.double


class Books(Protocol):
    """What an audit reads."""

    def starts(self) -> Positions:
        """Return the first request of each place that can still be audited."""

    def committed(self) -> Positions:
        """Return the committed position of each place."""

    def results(self) -> Iterable[Sequence[Source]]:
        """Return the sources of all results from the last call's end to where they end now."""

    def holding(self, place: Place, spans: Sequence[Span]) -> Sequence[int]:
        """Return the offsets of some spans of a place that hold a request."""

    def lag(self, committed: Positions) -> Mapping[Place, int]:
        """Return how many offsets lie beyond each committed position."""


@final
class Auditor:
    """Keep account of results and committed positions; results may come in any order."""

    def __init__(self, starts: Positions) -> None:
        self._starts, self._topics = dict(starts), {topic for topic, _ in starts}
        self._seen: dict[Place, OffsetSet] = {place: OffsetSet() for place in starts}
        self._checked = dict(starts)
        self.counts: Counter[str] = Counter()
        self.by_topic: Counter[tuple[str, str]] = Counter()
        self._doubles: list[Source] = []

    def take(self, sources: Iterable[Source]) -> None:
        """Note results; those that answer another topic are left alone.

        A partition that came since the start is watched from its beginning on, as soon as a result answers it or a
        position of it is committed, whichever is learned first.
        """
        offsets: dict[Place, list[int]] = {}
        for source in sources:
            place = source.topic, source.partition
            if self._watches(place) and source.offset >= self._starts[place]:
                offsets.setdefault(place, []).append(source.offset)
        for place, found in offsets.items():
            again = self._seen[place].add(found)
            settled = self._checked[place]
            late = sum(offset < settled for offset in found) - sum(offset < settled for offset in again)
            self._count(place, "results", len(found))
            self._count(place, "double", len(again))
            self._count(place, "late", late)
            self._doubles += [_source(place, offset) for offset in again[: NAMED - len(self._doubles)]]

    def gaps(self, committed: Positions) -> dict[Place, list[Span]]:
        """Return the offsets below the committed positions that have no result and were not looked at before."""
        found = {
            place: self._seen[place].holes(self._checked[place], end)
            for place, end in committed.items()
            if self._watches(place) and end > self._checked[place]
        }
        return {place: spans for place, spans in found.items() if spans}

    def settle(self, committed: Positions, holding: Mapping[Place, Sequence[int]]) -> None:
        """Close the account up to the committed positions.

        Args:
            committed: the positions that `gaps` was asked for.
            holding: which offsets of the gaps hold a request; these are missing.
        """
        for place, spans in self.gaps(committed).items():
            missing = set(holding.get(place, ()))
            self._seen[place].add(offset for span in spans for offset in range(*span) if offset not in missing)
            self._count(place, "missing", len(missing))
            self._count(place, "empty", sum(end - begin for begin, end in spans) - len(missing))
        for place, end in committed.items():
            if place in self._seen and end > self._checked[place]:
                self._count(place, "settled", end - self._checked[place])
                self._checked[place] = end

    def found(self, *, lag: int) -> Audited:
        """Return what was found so far."""
        return Audited(
            requests=self.counts["settled"] - self.counts["empty"],
            results=self.counts["results"],
            missing=self.counts["missing"] - self.counts["late"],
            double=self.counts["double"],
            late=self.counts["late"],
            empty_offsets=self.counts["empty"],
            lag=lag,
            first_missing=tuple(islice(self._still_missing(), NAMED)),
            first_double=tuple(self._doubles),
        )

    def _watches(self, place: Place) -> bool:
        """Say whether a place is audited; one of an audited topic is from now on."""
        if place[0] not in self._topics:
            return False
        if place not in self._seen:
            self._seen[place] = OffsetSet()
            self._starts[place] = self._checked[place] = 0
        return True

    def _still_missing(self) -> Iterator[Source]:
        """Yield the requests without a result: below the settled positions no other hole is left."""
        for place in sorted(self._seen):
            for span in self._seen[place].holes(self._starts[place], self._checked[place]):
                yield from (_source(place, offset) for offset in range(*span))

    def _count(self, place: Place, what: str, number: int) -> None:
        self.counts[what] += number
        self.by_topic[place[0], what] += number


def audit(
    books: Books,
    *,
    wait: Callable[[], bool] | None = None,
    metrics: Metrics | None = None,
    note: Callable[[], None] = lambda: None,
) -> Audited:
    """Audit to the current end; with a wait, go on until it says to stop.

    Args:
        books: what is read.
        wait: called after each round; True stops.
        metrics: where the counts are shown.
        note: called after each round, to show that it came round.

    Raises:
        Unable: the books cannot be read.
    """
    auditor = Auditor(books.starts())
    told: Counter[tuple[str, str]] = Counter()
    while True:
        committed = books.committed()
        for sources in books.results():
            auditor.take(sources)
        gaps = auditor.gaps(committed)
        auditor.settle(committed, {place: books.holding(place, spans) for place, spans in gaps.items()})
        lag = books.lag(committed)
        if metrics is not None:
            _show(metrics, auditor, told, lag)
        note()
        if wait is None or wait():
            return auditor.found(lag=sum(lag.values()))


def _show(metrics: Metrics, auditor: Auditor, told: Counter[tuple[str, str]], lag: Mapping[Place, int]) -> None:
    for topic, what in auditor.by_topic:
        if what in _METRICS:
            new = auditor.by_topic[topic, what] - told[topic, what]
            metrics.counter(_METRICS[what], topic).inc(new)
            told[topic, what] += new
    for (topic, partition), behind in lag.items():
        metrics.gauge("penstock_audit_lag_messages", topic, str(partition)).set(behind)


_METRICS: Final = {
    "results": "penstock_audit_results_total",
    "missing": "penstock_audit_missing_total",
    "double": "penstock_audit_double_total",
}


def _source(place: Place, offset: int) -> Source:
    return Source(topic=place[0], partition=place[1], offset=offset)
