"""The one pipeline, receive → decide → record, over any transport; `decide`, `replay` and `serve` all run it.

What a message can do wrong has a reason on a closed list and ends in a dead letter. An exception beyond that is a
defect: the batch stays unsettled, the message that causes it is found by deciding each alone and named in the log, and
the exception ends the loop. It is not written off as a dead letter, for no reason on the list would be true.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import final

from policies.events import Fault, Source
from serving.catalogue import Lineup
from serving.contract import (
    Batch,
    Measures,
    Message,
    Place,
    Positions,
    Recalled,
    Recalls,
    Remembers,
    Result,
    Transport,
)
from serving.decide import Ruled, decide
from serving.duplicates import DEFAULT_WINDOW, DuplicateWindow, Known, remember
from serving.log import log
from serving.metrics import Metrics
from serving.receive import Received, receive
from serving.record import record
from serving.watcher import Lineups

_CONFLICT = Fault("duplicate_conflict", "another request of the same id was decided before, with other bytes")

Key = tuple[str, str, str]
"""Domain, kind and reason, as the results are counted."""


@final
class Pipeline:
    """Answer batches of requests: exactly one result per message, in order, and the shadows' decisions after them.

    Args:
        transport: where batches come from; it is asked for what was committed before, if it remembers that.
        lineups: what is in force.
        now: the time that records carry, in microseconds since 1970 UTC.
        seconds: a monotonic clock, for the histogram.
        metrics: where results are counted once they are committed.
        window_size: how many decisions each partition remembers.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        lineups: Lineups,
        now: Callable[[], int],
        seconds: Callable[[], float],
        metrics: Metrics,
        window_size: int = DEFAULT_WINDOW,
    ) -> None:
        self._remembers = transport if isinstance(transport, Remembers) else None
        self._measures = transport if isinstance(transport, Measures) else None
        self._lineups, self._now, self._seconds, self._metrics = lineups, now, seconds, metrics
        self._window, self._window_size = DuplicateWindow(size=window_size), window_size
        self._reached: dict[Place, int] = {}
        self._passed: dict[Place, int] = {}
        self._assignment = self._remembers.assignment() if self._remembers else 0
        self._decide_seconds = metrics.histogram("penstock_decide_seconds")
        self._clipped = metrics.counter("penstock_clipped_values_total")
        self._filled = metrics.counter("penstock_filled_values_total")
        self._duplicates = metrics.counter("penstock_duplicate_requests_total")
        self._made: tuple[Received, Ruled, int] | None = None
        self._is_window_off = False
        self.totals: Counter[Key] = Counter()

    def answer(self, batch: Batch) -> tuple[Sequence[Result], None]:
        """Return the results of one batch; nothing is counted before they are kept."""
        lineup = self._lineups.current()  # also while nothing comes, so that the kill switch waits for no batch
        if not batch.messages:
            return (), None
        started = self._seconds()
        try:
            results = self._answer(batch.messages, lineup)
        except Exception as error:
            self._name_poison(batch.messages, lineup, error)
            raise
        self._decide_seconds.observe(self._seconds() - started)
        return results, None

    def keep(self) -> None:
        """Count the results of the last batch: they are committed."""
        if self._made is None:
            return
        received, ruled, repeated = self._made
        self._window.keep()
        self._reached.update(self._passed)
        for key, count in count_results(received, ruled).items():
            self.totals[key] += count
            self._metrics.counter("penstock_results_total", *key).inc(count)
        self._clipped.inc(ruled.clipped)
        self._filled.inc(ruled.filled)
        self._duplicates.inc(repeated)
        self._made = None
        if self._is_window_off:
            self._window.clear()
            self._is_window_off = False

    def drop(self) -> None:
        """Forget the last batch: its requests leave the window, which then holds what is committed and no more."""
        self._window.drop()
        self._is_window_off = False
        self._made = None

    def _answer(self, messages: Sequence[Message], lineup: Lineup) -> list[Result]:
        now = self._now()
        received = receive(messages, known_domains=lineup.domains)
        ruled = decide(received, lineup, now=now)
        self._made = received, ruled, self._settle_duplicates(received, ruled)
        results = record(received, ruled, catalogue=lineup.identity, now=now)
        self._note_oversize(received, ruled, results)
        return results

    def _note_oversize(self, received: Received, ruled: Ruled, results: Sequence[Result]) -> None:
        """See which decisions grew too large when they were written; the window must not remember them."""
        decided = len(ruled.rulings) - list(map(type, ruled.rulings)).count(Fault)
        if list(map(_KIND, results)).count("decision") == decided:
            return
        for row, place in enumerate(received.places):
            if not isinstance(ruled.rulings[row], Fault) and results[place].kind == "dead_letter":
                ruled.rulings[row] = Fault("oversize", "the decision was too large")
        self._is_window_off = True

    def _settle_duplicates(self, received: Received, ruled: Ruled) -> int:
        """Turn the rulings on conflicting requests into faults, and return how many requests repeat one."""
        self._check_assignment()
        messages = received.messages
        self._passed.clear()
        repeated, conflicts = 0, set[int]()
        for place, rows in _decided_by_place(received, ruled, only=self._only_place()):
            if not self._window.is_built(place):
                self._rebuild(place)
            ids = [received.requests[row].request_id for row in rows]
            admitted = self._window.admit(place, ids, [messages[received.places[row]].value for row in rows])
            # Dead letters after it may be passed over: a position taken for too early costs a reading, no more.
            self._passed[place] = messages[received.places[rows[-1]]].source.offset + 1
            repeated += admitted.repeated
            conflicts.update(rows[number] for number in admitted.conflicts)
        self._passed[_PLACE(messages[-1])] = messages[-1].source.offset + 1
        for row in conflicts:
            ruled.rulings[row] = _CONFLICT
        if conflicts:
            ruled.shadows[:] = [shadow for shadow in ruled.shadows if shadow[0] not in conflicts]
        return repeated

    def _only_place(self) -> Place | None:
        """Return the partition that all messages come from, where this worker reads just one."""
        places = () if self._remembers is None else self._remembers.places()
        return places[0] if len(places) == 1 else None

    def _check_assignment(self) -> None:
        """Forget partitions that others may have decided in: their position is not where this worker left it."""
        if self._remembers is None or self._remembers.assignment() == self._assignment:
            return
        self._assignment = self._remembers.assignment()
        committed = self._committed()
        for place in self._window.places():
            if place not in committed or committed[place] != self._reached.get(place):
                self._window.forget(place)

    def _committed(self) -> Positions:
        return {} if self._measures is None else self._measures.committed()

    def _rebuild(self, place: Place) -> None:
        """Read back what a partition has decided; where one scan finds it, that of the others of its topic too."""
        recalled = self._recall(place)
        committed = self._committed()
        for found, decisions in recalled.found.items():
            self._window.rebuild(found, decisions)
            self._reached[found] = committed.get(found, -1)
            log("rebuild duplicate window", topic=found[0], partition=found[1], decisions=len(decisions))
        if not recalled.is_complete:
            log("miss decisions in duplicate window", level="error", topic=place[0], places=len(recalled.found))
            self._metrics.counter("penstock_incomplete_windows_total").inc(len(recalled.found))

    def _recall(self, place: Place) -> Recalled[Known]:
        if self._remembers is None:
            return Recalled(found={place: ()}, is_complete=True)
        if not isinstance(self._remembers, Recalls):
            found = self._remembers.recent_results("decision", place=place, count=self._window_size)
            return Recalled(found={place: list(map(remember, found))}, is_complete=True)
        beside = [other for other in self._remembers.places() if other[0] == place[0] and other != place]
        unbuilt = [place, *(other for other in beside if not self._window.is_built(other))]
        return self._remembers.recall("decision", places=unbuilt, count=self._window_size, keep=remember)

    def _name_poison(self, messages: Sequence[Message], lineup: Lineup, error: Exception) -> None:
        """Log which messages cannot be answered even alone; deciding is pure, so trying again does no harm."""
        poison = [_name(message.source) for message in messages if not self._is_answerable(message, lineup)]
        log(
            "abandon batch",
            level="error",
            error=error,
            messages=len(messages),
            first=_name(messages[0].source),
            poison=", ".join(poison[:5]) or "none alone",
        )

    def _is_answerable(self, message: Message, lineup: Lineup) -> bool:
        now = self._now()
        try:
            received = receive([message], known_domains=lineup.domains)
            record(received, decide(received, lineup, now=now), catalogue=lineup.identity, now=now)
        except Exception:  # any exception is what is looked for
            return False
        return True


def count_results(received: Received, ruled: Ruled) -> Counter[Key]:
    """Count results by domain, kind (decision, fallback, shadow, dead_letter) and reason.

    A message without a legible request has the domain "unknown".
    """
    found: Counter[Key] = Counter()
    is_plain = Fault not in set(map(type, ruled.rulings)) and not any(map(_FALLBACK, ruled.rulings))
    if ruled.seats and is_plain and ruled.seats.count(ruled.seats[0]) == len(ruled.seats):
        found[received.requests[0].domain, "decision", ""] = len(ruled.rulings)
    else:
        found.update(map(_key, map(_DOMAIN, received.requests), ruled.rulings))
    for fault, _ in received.faults.values():
        found["unknown", "dead_letter", fault.reason] += 1
    for row, _, _ in ruled.shadows:
        found[received.requests[row].domain, "shadow", ""] += 1
    return found


_DOMAIN = attrgetter("domain")
_KIND = attrgetter("kind")
_PLACE = attrgetter("source.topic", "source.partition")
_FALLBACK = attrgetter("fallback")


def _key(domain: str, ruling: object) -> Key:
    if isinstance(ruling, Fault):
        return domain, "dead_letter", ruling.reason
    fallback: str | None = getattr(ruling, "fallback", None)
    return (domain, "decision", "") if fallback is None else (domain, "fallback", fallback)


def _decided_by_place(received: Received, ruled: Ruled, *, only: Place | None) -> Iterable[tuple[Place, Sequence[int]]]:
    """Return the rows that were decided, in order, by the partition they came from (`only` that one, if given)."""
    rows: Sequence[int] = range(len(ruled.rulings))
    if Fault in set(map(type, ruled.rulings)):
        rows = [row for row, ruling in enumerate(ruled.rulings) if not isinstance(ruling, Fault)]
    if only is not None or not rows:
        return [(only, rows)] if only is not None and rows else []
    by_place: dict[Place, list[int]] = {}
    for row in rows:
        by_place.setdefault(_PLACE(received.messages[received.places[row]]), []).append(row)
    return by_place.items()


def _name(source: Source) -> str:
    return f"{source.topic}/{source.partition}@{source.offset}"
