"""The one fold: decisions joined to outcomes become feedback, whatever the order in which they arrive.

For each (request_id, slot, reward) the highest revision wins; a reward that is absent is unchanged, null is retracted.
`final` covers the rewards named in its outcome: a revision above the lowest final one is late, counted and kept apart.
The same revision with another value is a conflict, and the first by (topic, partition, offset) stands. What has no
outcome is pending before its horizon and takes the reward's default after it.
"""

# N row (one choice), M component of a quantity

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, final

import msgspec
import numpy as np

from policies.assemble import assemble
from policies.choose import ONE
from policies.columns import Columns, columns_of
from policies.errors import ContentRefused
from policies.events import (
    Choice,
    Decision,
    DecisionRequest,
    Outcome,
    Source,
    UnableToDecode,
    check_envelope,
    from_bytes,
    microseconds,
)
from policies.log import Feedback, Numbers, Ragged, naming_the_request
from policies.settle import Entry, Late, Place, settle, unanswered
from policies.spec import PolicySpec, Reward


class UnableToFold(ContentRefused):
    """A decision's own request cannot be read, so that its outcome has nothing to be joined to."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """Hold the feedback and what did not go into it.

    Attributes:
        feedback: one row per choice.
        late: how many rewards came after the final one; `kept_apart` are they.
        conflicts: how many rewards lost to another value of the same revision.
        duplicates: how many decisions came again from another place or time, otherwise alike.
        decision_conflicts: how many decisions lost to another decision on the same request.
        orphans: how many outcomes name a request or a slot that no decision has.
        unnamed: how many rewards the spec does not name.
        foreign: how many records belong to another domain.
    """

    feedback: Feedback
    late: int
    kept_apart: tuple[Late, ...]
    conflicts: int
    duplicates: int
    decision_conflicts: int
    orphans: int
    unnamed: int
    foreign: int


def fold(
    decisions: Iterable[Decision], outcomes: Iterable[tuple[Outcome, Source]], *, as_of: int, spec: PolicySpec
) -> Folded:
    """Join decisions to outcomes as of a time in microseconds since 1970 UTC; the order of either never matters.

    A decision that comes again counts once; the first by its source stands. A shadow's decision is left out where the
    request has another one, and else it stays pending: the outcome is that of what was done.

    Raises:
        UnableToFold: a decision's request cannot be read, or an outcome's envelope is not sound.
        UnableToUseFeedback: a request's tables or a choice are not what the spec says.
    """
    folding = Folding(spec)
    folding.add(decisions, outcomes)
    return folding.result(as_of=as_of)


class Folding:
    """Gather decisions and outcomes in parts; any split into parts, in any order, folds alike.

    A streaming join holds one for minutes: it adds what comes, takes results, and releases what is old enough.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self._decided: dict[str, dict[bytes, _Decided]] = defaultdict(dict)
        self._told: dict[str, dict[Place, Outcome]] = defaultdict(dict)
        self._foreign = 0

    def add(self, decisions: Iterable[Decision] = (), outcomes: Iterable[tuple[Outcome, Source]] = ()) -> None:
        """Gather records; the same record again changes nothing.

        Raises:
            UnableToFold: a decision's request cannot be read, or an outcome's envelope is not sound.
        """
        for decision in decisions:
            data = msgspec.json.encode(decision)
            decided = _Decided(_place(decision.source, data), microseconds(decision.time), decision, _request(decision))
            if decided.request.domain == self.spec.domain:
                self._decided[decided.request.request_id][data] = decided
            else:
                self._foreign += 1
        for outcome, source in outcomes:
            _check_outcome(outcome)
            if outcome.domain == self.spec.domain:
                self._told[outcome.request_id][_place(source, msgspec.json.encode(outcome))] = outcome
            else:
                self._foreign += 1

    def release(self, *, decided_before: int) -> "Folding":
        """Hand over the requests first decided before a time in microseconds since 1970 UTC, and forget them here.

        Outcomes before that time that no decision has asked for go along, where they count as orphans.
        """
        part = Folding(self.spec)
        part._foreign, self._foreign = self._foreign, 0
        for request_id in [key for key, same in self._decided.items() if _first(same).time < decided_before]:
            part._decided[request_id] = self._decided.pop(request_id)
            if request_id in self._told:
                part._told[request_id] = self._told.pop(request_id)
        for request_id in [key for key in self._told if key not in self._decided]:
            if all(microseconds(outcome.time) < decided_before for outcome in self._told[request_id].values()):
                part._told[request_id] = self._told.pop(request_id)
        return part

    def __len__(self) -> int:
        return len(self._decided)

    @property
    def first_decided(self) -> int | None:
        """The time of the oldest decision held, in microseconds since 1970 UTC; None when none is held."""
        return min((_first(same).time for same in self._decided.values()), default=None)

    def result(self, *, as_of: int) -> Folded:
        """Return what is known as of a time in microseconds since 1970 UTC.

        Raises:
            UnableToUseFeedback: a request's tables or a choice are not what the spec says.
        """
        join = _Join(self.spec, as_of=as_of)
        rows: list[_Row] = []
        duplicates = conflicts = 0
        for request_id, same in self._decided.items():
            stands = _first(same)
            alike = _count_alike(stands, same)
            duplicates += alike
            conflicts += _count_rivals(stands, same) - alike
            rows.extend(join.rows(stands, self._told.get(request_id, {})))
        alone = sum(len(told) for request_id, told in self._told.items() if request_id not in self._decided)
        return Folded(
            feedback=_feedback(self.spec, rows),
            late=len(join.late),
            kept_apart=tuple(sorted(join.late, key=lambda late: late[:4])),
            conflicts=join.conflicts,
            duplicates=duplicates,
            decision_conflicts=conflicts,
            orphans=join.orphans + alone,
            unnamed=join.unnamed,
            foreign=self._foreign,
        )


class _Decided(NamedTuple):
    place: Place
    time: int
    decision: Decision
    request: DecisionRequest


class _Row(NamedTuple):
    decided: _Decided
    choice: Choice | None
    slot: str
    rewards: tuple[float, ...]
    statuses: tuple[str | None, ...]


def _place(source: Source, data: bytes) -> Place:
    # The bytes only tell records apart that were given one place, so that no order of arrival decides between them.
    return (source.topic, source.partition, source.offset, data)


def _request(decision: Decision) -> DecisionRequest:
    try:
        return from_bytes(bytes(decision.request), DecisionRequest)
    except UnableToDecode as error:
        at = decision.source
        raise UnableToFold(
            f"the request inside the decision from {at.topic}/{at.partition}@{at.offset} cannot be read: {error}"
        ) from error


def _check_outcome(outcome: Outcome) -> None:
    fault = check_envelope(outcome)
    if fault is not None:
        raise UnableToFold(f"the outcome of {outcome.request_id!r} cannot be folded: {fault.reason}: {fault.detail}")


def _first(same: dict[bytes, _Decided]) -> _Decided:
    """Return the decision that stands: what was done comes before what a shadow would have done."""
    return min(same.values(), key=lambda decided: (decided.decision.role == "shadow", decided.place))


def _count_rivals(stands: _Decided, same: dict[bytes, _Decided]) -> int:
    is_shadow = stands.decision.role == "shadow"
    return sum((decided.decision.role == "shadow") == is_shadow for decided in same.values()) - 1


def _count_alike(stands: _Decided, same: dict[bytes, _Decided]) -> int:
    if len(same) == 1:
        return 0
    blank = _blank(stands.decision)
    return sum(_blank(decided.decision) == blank for decided in same.values()) - 1


def _blank(decision: Decision) -> bytes:
    nowhere = Source(topic="", partition=0, offset=0)
    return msgspec.json.encode(msgspec.structs.replace(decision, time=0, source=nowhere))


class _Join:
    """Settles the rewards of one request after another, and counts what does not go in."""

    def __init__(self, spec: PolicySpec, *, as_of: int) -> None:
        self._spec = spec
        self._as_of = as_of
        self._names = frozenset(reward.name for reward in spec.rewards)
        self.late: list[Late] = []
        self.conflicts = self.orphans = self.unnamed = 0

    def rows(self, decided: _Decided, told: dict[Place, Outcome]) -> Iterable[_Row]:
        """Yield a row per choice, and one with slot "" where a many-slot request has a reward of the whole."""
        choices = {choice.slot: choice for choice in decided.decision.choices}
        if decided.decision.role == "shadow":
            told = {}
        entries = self._entries(told, {*choices, ""} if self._spec.has_slots else set(choices))
        is_whole_told = self._spec.has_slots and any(slot == "" for slot, _ in entries)
        slots: dict[str, Choice | None] = {"": None, **choices} if is_whole_told else {**choices}
        for slot, choice in slots.items():
            settled = [self._settle(decided, slot, choice, reward, entries) for reward in self._spec.rewards]
            yield _Row(decided, choice, slot, tuple(v for v, _ in settled), tuple(status for _, status in settled))

    def _entries(self, told: dict[Place, Outcome], slots: set[str]) -> dict[tuple[str, str], list[Entry]]:
        entries: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for place, outcome in told.items():
            if outcome.slot not in slots:
                self.orphans += 1
                continue
            self.unnamed += len(outcome.rewards.keys() - self._names)
            for name, value in outcome.rewards.items():
                if name in self._names:
                    entries[outcome.slot, name].append(Entry(outcome.revision, place, value, outcome.final))
        return entries

    def _settle(
        self,
        decided: _Decided,
        slot: str,
        choice: Choice | None,
        reward: Reward,
        entries: dict[tuple[str, str], list[Entry]],
    ) -> tuple[float, str | None]:
        own = entries.get((slot, reward.name))
        if own is not None:
            settled = settle(own)
            request_id = decided.request.request_id
            self.late.extend(Late(request_id, slot, reward.name, e.revision, e.value) for e in settled.late)
            self.conflicts += settled.conflicts
            return settled.value, settled.status
        if choice is None or (self._spec.has_slots and ("", reward.name) in entries):
            return math.nan, None
        return unanswered(reward, decided=decided.time, as_of=self._as_of)


def _feedback(spec: PolicySpec, rows: list[_Row]) -> Feedback:
    """Lay the rows out as columns; a quantity's vectors are float64 [N, M]."""
    requests = list({row.decided.request.request_id: row.decided.request for row in rows}.values())
    numbers = {request.request_id: number for number, request in enumerate(requests)}
    choices = [row.choice for row in rows]
    proposed = [None if choice is None else choice.action for choice in choices]
    applied = [None if choice is None else choice.applied for choice in choices]
    return assemble(
        spec,
        columns=_columns(requests, spec),
        request_ids=[row.decided.request.request_id for row in rows],
        request_rows=np.array([numbers[row.decided.request.request_id] for row in rows], dtype=np.int64),
        slots=[row.slot for row in rows],
        units=[row.decided.request.unit for row in rows],
        steps=np.array([row.decided.request.step for row in rows], dtype=np.int64),
        times=np.array([row.decided.time for row in rows], dtype=np.int64),
        actions=_texts(proposed),
        action_values=_vectors(proposed, spec),
        applied_actions=None if spec.is_quantity or not any(applied) else _texts(applied),
        applied_values=_vectors(applied, spec),
        propensity=_numbers([None if choice is None else choice.propensity for choice in choices]),
        probabilities=_probabilities(choices),
        propensity_floor=_floors(choices, spec.floor),
        rewards={r.name: _numbers([row.rewards[at] for row in rows]) for at, r in enumerate(spec.rewards)},
        statuses={r.name: [row.statuses[at] for row in rows] for at, r in enumerate(spec.rewards)},
        policies=[row.decided.decision.policy for row in rows],
        roles=[row.decided.decision.role for row in rows],
        fallbacks=[row.decided.decision.fallback for row in rows],
    )


def _columns(requests: list[DecisionRequest], spec: PolicySpec) -> Columns:
    with naming_the_request(lambda row: requests[row].request_id):
        return columns_of(requests, spec=spec)


def _texts(values: list[Any]) -> list[str | None]:
    return [value if isinstance(value, str) else None for value in values]


def _numbers(values: list[Any]) -> Numbers:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _vectors(values: list[Any], spec: PolicySpec) -> Numbers | None:
    """Return vectors as float64 [N, M]; None where the spec has none, or no row has one."""
    if not spec.is_quantity or all(value is None for value in values):
        return None
    size = len(spec.actions.names)
    wrong = next((v for v in values if v is not None and (isinstance(v, str) or len(v) != size)), None)
    if wrong is not None:
        raise UnableToFold(f"expected a quantity of {size} components in each decision, found {wrong!r}")
    return np.array([[math.nan] * size if value is None else value for value in values], dtype=np.float64)


def _probabilities(choices: list[Choice | None]) -> Ragged | None:
    lattices = [() if choice is None or choice.lattice is None else choice.lattice for choice in choices]
    lengths = np.fromiter(map(len, lattices), dtype=np.int64, count=len(lattices))
    total = int(lengths.sum())
    cells = np.fromiter(chain.from_iterable(lattices), dtype=np.float64, count=total)
    return Ragged(lengths=lengths, values=cells / ONE) if total else None


def _floors(choices: list[Choice | None], floor: float) -> Numbers:
    """Return the least propensity of an eligible action, which the lattice rounds down; NaN where it is not known."""
    counts = _numbers([None if c is None or c.lattice is None else len(c.lattice) for c in choices])
    return np.floor(floor / counts * ONE) / ONE if floor > 0 else np.full(len(choices), math.nan)
