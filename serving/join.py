"""Fourth verb: the one fold, held for minutes. Decisions wait for their outcomes and leave as rows of feedback.

A decision leaves when every reward of it is final, when its horizon is over, when it was held long enough, or when too
many are held; what is not known by then is said by its status. The committed position of each input is that of the
oldest message still held, so that a restart reads again what was in memory; what had left before that is recognized
by the feedback already committed. The durable join is the same fold over the whole log.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, takewhile
from typing import Final, final

import msgspec

from policies.errors import ContentRefused
from policies.events import (
    Decision,
    Fault,
    Outcome,
    Source,
    UnableToDecode,
    from_bytes,
    microseconds,
    shorten,
    to_bytes,
)
from policies.fold import fold
from policies.log import Feedback
from policies.spec import PolicySpec
from serving.assess import Assessment
from serving.contract import Batch, Message, Place, Positions, Remembers, Result, Transport
from serving.held import Held, echoed_request, horizon, is_complete
from serving.log import log
from serving.metrics import Metrics
from serving.record import dead_letter
from serving.rows import rows_of

_MICROSECONDS: Final = 1_000_000
_MAX_LOGGED_DOMAINS: Final = 100


@final
class Join:
    """Hold decisions and outcomes of any domains, and emit feedback and reports.

    Args:
        transport: where batches come from; it is asked for the feedback committed before, if it remembers that.
        specs: the spec of each domain, for good: what a change of the catalogue brings is known from the next start
            on. Decisions and outcomes of another domain are passed over, counted, and logged once per domain.
        now: microseconds since 1970 UTC.
        metrics: where fates are counted.
        hold_s: how long a decision is held at most, and an outcome without a decision.
        grace_s: how long a decision is held at least while messages keep coming, so that catching up on an old log does
            not take the outcomes that are still to be read for missing ones.
        max_open: how many requests are held at most, and how many may leave while the oldest one is held: this
            bounds both the memory and what a restart must recognize.
        unit_window_s: how long after its last decision a unit stays open.
        report_interval_s: how often the running estimate is reported.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        specs: Mapping[str, PolicySpec],
        now: Callable[[], int],
        metrics: Metrics,
        hold_s: float = 900.0,
        grace_s: float = 30.0,
        max_open: int = 200_000,
        unit_window_s: float = 1800.0,
        report_interval_s: float = 60.0,
    ) -> None:
        self._remembers = transport if isinstance(transport, Remembers) else None
        self._specs, self._now, self._metrics = specs, now, metrics
        self._hold, self._grace = round(hold_s * _MICROSECONDS), round(grace_s * _MICROSECONDS)
        self._max_open, self._report_interval = max_open, round(report_interval_s * _MICROSECONDS)
        self._assessments = {
            domain: Assessment(spec, unit_window_s=unit_window_s, metrics=metrics, since=now())
            for domain, spec in specs.items()
        }
        self._reported, self._has_news = now(), False
        self._assignment = self._remembers.assignment() if self._remembers else 0
        self._fates: Counter[tuple[str, str]] = Counter()
        self._emitted: dict[str, None] | None = None
        self._emission: list[Feedback] = []
        self._left = 0
        self._foreign: set[str] = set()
        self._forget()

    @property
    def open_count(self) -> int:
        """How many requests are held."""
        return len(self._held)

    def answer(self, batch: Batch) -> tuple[Sequence[Result], Positions]:
        """Take a batch in, and return what leaves with the positions of what stays."""
        now = self._now()
        self._remember_emitted()
        results = [letter for message in batch.messages for letter in self._take(message, now)]
        results += self._emit(self._due(now, is_idle=not batch.messages, is_end=batch.is_end), now)
        if batch.is_end or now - self._reported >= self._report_interval:
            results += self._report(now, is_end=batch.is_end)
        return results, self._positions()

    def keep(self) -> None:
        """Assess what left: it is committed."""
        now = self._now()
        for feedback in self._emission:
            domain = feedback.spec.domain
            self._assessments[domain].add(feedback, now=now)
            self._metrics.counter("penstock_feedback_rows_total", domain).inc(len(feedback))
            self._has_news = True
        for (domain, fate), count in self._fates.items():
            self._metrics.counter("penstock_outcomes_total", domain, fate).inc(count)
        for domain, count in self._waiting.items():
            self._metrics.gauge("penstock_open_decisions", domain).set(count)
        self._emission.clear()
        self._fates.clear()

    def drop(self) -> None:
        """Forget everything: it will be read again from the committed positions."""
        self._forget()

    def _forget(self) -> None:
        self._held: dict[str, Held] = {}
        self._decided: dict[str, None] = {}  # those of them that have a decision, by when the latest one came
        self._waiting = Counter(dict.fromkeys(self._specs, 0))  # how many of them, by domain
        self._heap: list[tuple[int, str]] = []
        self._open: dict[Place, dict[int, None]] = {}
        self._after: dict[Place, int] = {}
        self._emission.clear()
        self._fates.clear()
        self._emitted = None

    def _remember_emitted(self) -> None:
        """Read back which requests have left, after a start, a rewind or a change of partitions."""
        if self._remembers is not None and self._remembers.assignment() != self._assignment:
            self._assignment = self._remembers.assignment()
            self._forget()
        if self._emitted is not None:
            return
        self._emitted = {}
        for place in self._remembers.places() if self._remembers is not None else ():
            if not is_outcomes(place[0]):
                self._emitted.update(dict.fromkeys(self._left_before(place)))

    def _left_before(self, place: Place) -> list[str]:
        """Return the last requests that left; a request has several rows, so enough of them are read."""
        assert self._remembers is not None
        count = self._max_open
        while True:
            rows = self._remembers.recent_results("feedback", place=place, count=count)
            ids = list(dict.fromkeys(_ROW.decode(row.value).request_id for row in rows))
            if len(rows) < count or len(ids) >= self._max_open:
                return ids
            count *= 2

    def _take(self, message: Message, now: int) -> list[Result]:
        source = message.source
        place = (source.topic, source.partition)
        self._after[place] = source.offset + 1
        try:
            if is_outcomes(source.topic):
                self._take_outcome(from_bytes(message.value, Outcome), source, now)
            else:
                self._take_decision(from_bytes(message.value, Decision), source, now)
        except UnableToDecode as error:
            self._fates["unknown", "unreadable"] += 1
            return [dead_letter(message, error.fault, request_id=error.request_id, now=now)]
        return []

    def _take_decision(self, decision: Decision, source: Source, now: int) -> None:
        request = echoed_request(decision)
        if decision.role == "shadow":
            return
        if request.domain not in self._specs:
            self._pass_over(request.domain, "decision")
            return
        assert self._emitted is not None
        if request.request_id in self._emitted:
            return
        held = self._hold_open(request.request_id, source)
        if held.decisions:
            self._forget_decided(request.request_id, held)
        held.domain = request.domain
        held.left_before = self._left
        held.decisions.append((decision, source))
        self._decided[request.request_id] = None
        self._waiting[held.domain] += 1
        self._settle(request.request_id, held)
        wait = horizon(self._specs[request.domain], longest=self._hold)
        heapq.heappush(self._heap, (max(microseconds(decision.time) + wait, now + self._grace), request.request_id))

    def _take_outcome(self, outcome: Outcome, source: Source, now: int) -> None:
        assert self._emitted is not None
        if outcome.domain not in self._specs:
            self._pass_over(outcome.domain, "outcome")
        elif outcome.request_id in self._emitted:
            self._fates[outcome.domain, "late"] += 1
        else:
            is_new = outcome.request_id not in self._held
            held = self._hold_open(outcome.request_id, source)
            held.outcomes.append((outcome, source))
            if outcome.final:
                held.final.update((outcome.slot, name) for name in outcome.rewards)
            self._settle(outcome.request_id, held)
            if is_new:
                heapq.heappush(self._heap, (now + self._hold, outcome.request_id))

    def _pass_over(self, domain: str, what: str) -> None:
        self._fates["unknown", "foreign"] += 1
        if domain not in self._foreign and len(self._foreign) < _MAX_LOGGED_DOMAINS:
            self._foreign.add(domain)
            log("pass over domain", level="warning", domain=shorten(domain), first=what, known=", ".join(self._specs))

    def _hold_open(self, request_id: str, source: Source) -> Held:
        self._open.setdefault((source.topic, source.partition), {})[source.offset] = None
        return self._held.setdefault(request_id, Held())

    def _settle(self, request_id: str, held: Held) -> None:
        """See whether every reward of a request is final."""
        if held.decisions and not held.is_complete and is_complete(held, spec=self._specs[held.domain]):
            held.is_complete = True
            heapq.heappush(self._heap, (_AT_ONCE, request_id))

    def _due(self, now: int, *, is_idle: bool, is_end: bool) -> list[str]:
        """Return the requests that leave now."""
        if is_end:
            return list(self._held)
        due = dict.fromkeys(self._overtaken())
        limit = now + self._grace if is_idle else now
        early: list[tuple[int, str]] = []
        while self._heap and (self._heap[0][0] <= limit or len(self._held) - len(due) > self._max_open):
            time, request_id = heapq.heappop(self._heap)
            held = self._held.get(request_id)
            if held is None or request_id in due:
                continue
            if time <= now or len(self._held) - len(due) > self._max_open or self._is_over(held, now):
                due[request_id] = None
            else:
                early.append((time, request_id))
        for entry in early:
            heapq.heappush(self._heap, entry)
        return list(due)

    def _overtaken(self) -> list[str]:
        """Return the oldest decisions, where too many others have left since they came."""
        return list(takewhile(self._is_overtaken, self._decided))

    def _is_overtaken(self, request_id: str) -> bool:
        return self._left - self._held[request_id].left_before > self._max_open

    def _forget_decided(self, request_id: str, held: Held) -> None:
        del self._decided[request_id]
        self._waiting[held.domain] -= 1

    def _is_over(self, held: Held, now: int) -> bool:
        """Say whether a decision's own horizon is over; while nothing comes, that is enough."""
        if not held.decisions:
            return False
        first = min(microseconds(decision.time) for decision, _ in held.decisions)
        return first + horizon(self._specs[held.domain], longest=self._hold) <= now

    def _emit(self, due: Sequence[str], now: int) -> list[Result]:
        leaving = {request_id: self._held.pop(request_id) for request_id in due}
        for request_id, held in leaving.items():
            for source in held.sources():
                self._open[source.topic, source.partition].pop(source.offset, None)
            if held.decisions:
                self._forget_decided(request_id, held)
            else:
                self._fates[held.outcomes[0][0].domain, "orphan"] += len(held.outcomes)
        results: list[Result] = []
        for domain, spec in self._specs.items():
            own = {key: held for key, held in leaving.items() if held.decisions and held.domain == domain}
            if own:
                results += self._emit_domain(spec, own, now)
        self._shrink_emitted()
        return results

    def _emit_domain(self, spec: PolicySpec, leaving: Mapping[str, Held], now: int) -> list[Result]:
        assert self._emitted is not None
        self._emitted.update(dict.fromkeys(leaving))
        self._left += len(leaving)
        sources = {request_id: held.decisions[0][1] for request_id, held in leaving.items()}
        decisions = [decision for held in leaving.values() for decision, _ in held.decisions]
        outcomes = [outcome for held in leaving.values() for outcome in held.outcomes]
        try:
            folded = fold(decisions, outcomes, as_of=now, spec=spec)
        except ContentRefused as error:
            return self._emit_each(spec, leaving, now, error)
        self._emission.append(folded.feedback)
        lost = {"late": folded.late, "conflict": folded.conflicts, "orphan": folded.orphans, "unnamed": folded.unnamed}
        self._fates.update({(spec.domain, fate): count for fate, count in lost.items() if count})
        self._fates[spec.domain, "joined"] += len(outcomes)
        return [
            Result(kind="feedback", value=value, key=request_id.encode(), source=sources[request_id])
            for request_id, value in rows_of(folded.feedback, sources=sources)
        ]

    def _emit_each(
        self, spec: PolicySpec, leaving: Mapping[str, Held], now: int, error: ContentRefused
    ) -> list[Result]:
        """Emit one by one where the fold of all was refused; what cannot be folded alone is a dead letter."""
        if len(leaving) > 1:
            self._left -= len(leaving)
            return [
                result
                for request_id, held in leaving.items()
                for result in self._emit_domain(spec, {request_id: held}, now)
            ]
        ((request_id, held),) = leaving.items()
        self._fates[spec.domain, "unreadable"] += len(held.outcomes)
        fault = Fault("wrong_type", f"the decision cannot be joined: {error}")
        return [
            dead_letter(Message(value=to_bytes(decision), source=source), fault, request_id=request_id, now=now)
            for decision, source in held.decisions
        ]

    def _shrink_emitted(self) -> None:
        assert self._emitted is not None
        surplus = len(self._emitted) - 2 * self._max_open
        if surplus > self._max_open:  # seldom, because the whole is copied
            self._emitted = dict.fromkeys(islice(self._emitted, surplus, None))

    def _report(self, now: int, *, is_end: bool) -> list[Result]:
        """Return the running estimates, where something has come since the last report."""
        self._reported = now
        if not self._has_news or self._emission:
            return []
        self._has_news = False
        results = []
        for domain, assessment in self._assessments.items():
            assessment.close_units(now=now, is_over=is_end)
            results += [
                Result(kind="estimate", value=msgspec.json.encode(report), key=domain.encode(), source=_NOWHERE)
                for report in assessment.reports(now=now)
            ]
        return results

    def _positions(self) -> Positions:
        """Return, for each place read, the offset of the oldest message still held, or of the next one."""
        return {place: next(iter(self._open.get(place) or (after,))) for place, after in self._after.items()}


_AT_ONCE: Final = -(2**62)
_NOWHERE: Final = Source(topic="", partition=0, offset=0)


class _Row(msgspec.Struct, gc=False):
    request_id: str


_ROW: Final = msgspec.json.Decoder(_Row)


def is_outcomes(topic: str) -> bool:
    """Say whether a topic (or a file) holds outcomes, else decisions.

    >>> is_outcomes("penstock.shop.outcomes"), is_outcomes("decisions")
    (True, False)
    """
    return topic.rpartition(".")[2] == "outcomes"
