"""Second verb: requests become rulings, each a pure function of (request, artifact, salt).

A ruling is what a decision says of the world: its choices, what recourse made of them, and whether it is a fallback.
`verify` calls the same `rule` as the service does; there is no second path.
"""

# B request, S slot, A action, R choice (a real slot of a request), N component of a quantity

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.choose import ONE, draw, draw_uniforms, is_distribution, to_lattice
from policies.encode import Bucket, Encoder
from policies.events import AppliedRecourse, Choice, DecisionRequest, FallbackReason, Fault, microseconds
from policies.policy import Policy
from policies.quantities import settle_quantities
from policies.recourse.contract import Applied, Recourse
from policies.spec import PolicySpec
from serving.catalogue import Lineup, Seat
from serving.receive import Received


class Ruling(msgspec.Struct, frozen=True, gc=False):
    """Hold what was chosen for one request, before it is written down."""

    choices: tuple[Choice, ...]
    recourse: AppliedRecourse | None
    fallback: FallbackReason | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulings:
    """Hold one ruling or fault per request, in order, and how many values the encoder clipped or filled."""

    rows: list[Ruling | Fault]
    clipped: int
    filled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled:
    """Hold what a batch came to: for each request of `received` its seat and its ruling or fault; and the shadows'."""

    seats: list[Seat]
    rulings: list[Ruling | Fault]
    shadows: list[tuple[int, Seat, Ruling]]
    clipped: int
    filled: int


def decide(received: Received, lineup: Lineup, *, now: int) -> Ruled:
    """Rule on every request of a batch by the seat that its unit and domain give it.

    Args:
        received: the batch, decoded.
        lineup: the loaded catalogue with its salt.
        now: microseconds; a request whose deadline lies before it ends in the fallback `deadline`.
    """
    requests = received.requests
    assignments = [lineup.domains[request.domain] for request in requests]
    seats = [
        a.live if a.canary is None else a.seat_of(request, salt=lineup.salt)
        for a, request in zip(assignments, requests, strict=True)
    ]
    forced = [
        None if not a.kill and request.deadline is None else _forced(request, a.kill, now)
        for a, request in zip(assignments, requests, strict=True)
    ]
    rulings: list[Ruling | Fault] = [_UNRULED] * len(requests)
    clipped = filled = 0
    for seat, rows in _group(seats):
        part = rule(
            seat.artifact.policy,
            [requests[row] for row in rows],
            encoder=seat.encoder,
            recourse=seat.artifact.recourse,
            salt=lineup.salt,
            forced=[forced[row] for row in rows],
        )
        clipped, filled = clipped + part.clipped, filled + part.filled
        for row, ruling in zip(rows, part.rows, strict=True):
            rulings[row] = ruling
    shadows = _shadow(requests, [a.shadow for a in assignments], lineup)
    return Ruled(seats=seats, rulings=rulings, shadows=shadows, clipped=clipped, filled=filled)


def rule(
    policy: Policy,
    requests: Sequence[DecisionRequest],
    *,
    encoder: Encoder,
    recourse: Recourse | None,
    salt: bytes,
    forced: Sequence[FallbackReason | None] | None = None,
) -> Rulings:
    """Rule on requests of one domain by one artifact.

    Args:
        policy: proposes probabilities or quantities.
        requests: their order and company do not matter to any of them.
        encoder: of the policy's spec.
        recourse: the artifact's, or None.
        salt: keys the draws.
        forced: per request, the reason for which the fallback is taken unasked, or None.
    """
    reasons = [None] * len(requests) if forced is None else list(forced)
    encoded = encoder.encode_requests(requests)
    rows: list[Ruling | Fault] = [_UNRULED] * len(requests)
    for row, fault in encoded.faults.items():
        rows[row] = fault
    for bucket in encoded.buckets:
        part = _Bucket(policy.spec, bucket, [requests[row] for row in bucket.rows.tolist()], recourse)
        places = bucket.rows.tolist()
        for row, ruling in zip(places, part.rule(policy, salt, [reasons[row] for row in places]), strict=True):
            rows[row] = ruling
    return Rulings(rows=rows, clipped=encoded.clipped, filled=encoded.filled)


class _Bucket:
    """Rules on the requests of one bucket."""

    def __init__(
        self, spec: PolicySpec, bucket: Bucket, requests: list[DecisionRequest], recourse: Recourse | None
    ) -> None:
        self.spec, self.bucket, self.requests, self.recourse = spec, bucket, requests, recourse

    def rule(self, policy: Policy, salt: bytes, reasons: list[FallbackReason | None]) -> list[Ruling | Fault]:
        if all(reason == "kill" for reason in reasons):
            rows: list[Ruling | Fault] = [_UNRULED] * len(reasons)
        else:
            proposal = policy.propose(self.bucket.arrays, self.bucket.mask)
            rows = self._quantities(proposal) if self.spec.is_quantity else self._choices(proposal, salt)
        for place, reason in enumerate(reasons):
            if reason is not None:
                rows[place] = self._fall_back(place, reason)
        return rows

    def _choices(self, probabilities: NDArray[np.floating], salt: bytes) -> list[Ruling | Fault]:
        """Draw one action for each real slot of each request, on the lattice."""
        owners, slots = self._real_slots()
        table = probabilities[owners, slots]
        mask = self.bucket.mask[owners, slots]
        sound = is_distribution(table, mask)
        if not sound.all():
            table = np.where(sound[:, None], table, np.where(mask, 1.0, 0.0) / mask.sum(axis=1, keepdims=True))
        lattice = to_lattice(table)
        names = self._slot_names()
        ids = [self.requests[owner].request_id for owner in owners.tolist()]
        chosen = draw(lattice, draw_uniforms(ids, names, salt=salt))
        choices = self._record(lattice, chosen, mask, names, owners)
        rulings = self._gather(choices, owners)
        for owner in np.unique(owners[~sound]).tolist():
            rulings[owner] = Fault("policy_not_finite", "the policy's probabilities are no distribution for this row")
        return rulings

    def _real_slots(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the request and the slot of each choice, int64 [R] each, without the padding."""
        count = len(self.requests)
        if self.bucket.slot_ids is None:
            return np.arange(count), np.zeros(count, dtype=np.int64)
        lengths = np.array([len(row) for row in self.bucket.slot_ids])
        owners, slots = np.nonzero(np.arange(self.bucket.mask.shape[1]) < lengths[:, None])
        return owners, slots

    def _slot_names(self) -> list[str]:
        if self.bucket.slot_ids is None:
            return [""] * len(self.requests)
        return [name for row in self.bucket.slot_ids for name in row]

    def _record(
        self,
        lattice: NDArray[np.int64],
        chosen: NDArray[np.int64],
        mask: NDArray[np.bool_],
        names: list[str],
        owners: NDArray[np.int64],
    ) -> list[Choice]:
        """Write each choice with the lattice of its eligible actions, in canonical order."""
        propensities = (lattice[np.arange(len(lattice)), chosen] / ONE).tolist()
        cells = lattice[mask].tolist()
        ends = mask.sum(axis=1).cumsum().tolist()
        own, fixed = self.bucket.action_ids, self.spec.actions.ids or ()
        choices = []
        start = 0
        for place, end, action, name, propensity in zip(
            owners.tolist(), ends, chosen.tolist(), names, propensities, strict=True
        ):
            choices.append(
                Choice(
                    slot=name,
                    action=fixed[action] if own is None else own[place][action],
                    propensity=propensity,
                    lattice=tuple(cells[start:end]),
                )
            )
            start = end
        return choices

    def _gather(self, choices: list[Choice], owners: NDArray[np.int64]) -> list[Ruling | Fault]:
        if self.bucket.slot_ids is None:
            return [Ruling((choice,), None, None) for choice in choices]
        ends = np.bincount(owners, minlength=len(self.requests)).cumsum().tolist()
        starts = [0, *ends[:-1]]
        return [Ruling(tuple(choices[a:b]), None, None) for a, b in zip(starts, ends, strict=True)]

    def _quantities(self, proposal: NDArray[np.floating]) -> list[Ruling | Fault]:
        """Bring proposed quantities onto their grid and within their bounds, then through recourse."""
        quantities, sound = settle_quantities(proposal, spec=self.spec)
        rulings = self._apply(quantities)
        for place in np.flatnonzero(~sound).tolist():
            rulings[place] = Fault("policy_not_finite", "the policy's quantities are not finite for this row")
        return rulings

    def _apply(self, quantities: NDArray[np.float64]) -> list[Ruling | Fault]:
        """Send quantities through recourse; an infeasible row takes the fallback, or ends as a fault."""
        vectors = quantities.tolist()
        if self.recourse is None:
            return [Ruling((Choice(action=vector),), None, None) for vector in vectors]
        applied = self.recourse.apply(quantities, parameters=self.bucket.arrays)
        rows: list[Ruling | Fault] = [
            _applied_ruling(vector, applied, self.recourse, place, None) for place, vector in enumerate(vectors)
        ]
        for place in applied.faults:
            rows[place] = self._fall_back(place, "recourse_infeasible", detail=applied.faults[place])
        return rows

    def _fall_back(self, place: int, reason: FallbackReason, *, detail: str = "") -> Ruling | Fault:
        """Take the spec's fallback for one request; where it has none or none fits, the request ends as a fault."""
        fallback = self.spec.actions.fallback
        if fallback is None:
            return Fault(reason, detail or f"no decision was taken ({reason}) and the spec names no fallback")
        if isinstance(fallback, tuple):
            return self._fall_back_quantity(place, reason, fallback, detail)
        return self._fall_back_choice(place, reason, fallback)

    def _fall_back_choice(self, place: int, reason: FallbackReason, fallback: str) -> Ruling | Fault:
        slots = [""] if self.bucket.slot_ids is None else self.bucket.slot_ids[place]
        ids = self.spec.actions.ids if self.bucket.action_ids is None else self.bucket.action_ids[place]
        assert ids is not None
        choices = []
        for name, row in zip(slots, self.bucket.mask[place], strict=False):
            eligible = [ids[cell] for cell in np.flatnonzero(row).tolist()]
            action = eligible[0] if fallback == "first" else fallback
            if action not in eligible:
                return Fault(reason, f"the fallback action {fallback!r} is not eligible")
            choices.append(Choice(slot=name, action=action))
        return Ruling(tuple(choices), None, reason)

    def _fall_back_quantity(
        self, place: int, reason: FallbackReason, fallback: tuple[float, ...], detail: str
    ) -> Ruling | Fault:
        vector = list(fallback)
        if self.recourse is None:
            return Ruling((Choice(action=vector),), None, reason)
        own = {name: array[place : place + 1] for name, array in self.bucket.arrays.items()}
        applied = self.recourse.apply(np.array([vector], dtype=np.float64), parameters=own)
        if applied.faults:
            return Fault("recourse_infeasible", detail or applied.faults[0])
        return _applied_ruling(vector, applied, self.recourse, 0, reason)


_UNRULED = Fault("policy_not_finite", "the request was not ruled on")


def _applied_ruling(
    vector: list[float], applied: Applied, recourse: Recourse, place: int, fallback: FallbackReason | None
) -> Ruling:
    outputs: dict[str, Any] = {name: values[place].tolist() for name, values in applied.outputs.items()}
    record = AppliedRecourse(kind=recourse.kind, status=applied.status[place], outputs=outputs)
    choice = Choice(action=vector, applied=applied.values[place].tolist())
    return Ruling((choice,), record, fallback)


def _forced(request: DecisionRequest, kill: bool, now: int) -> FallbackReason | None:
    if kill:
        return "kill"
    if request.deadline is not None and microseconds(request.deadline) < now:
        return "deadline"
    return None


def _group(seats: Sequence[Seat]) -> list[tuple[Seat, list[int]]]:
    if len({id(seat) for seat in seats}) == 1:
        return [(seats[0], list(range(len(seats))))]
    groups: dict[int, tuple[Seat, list[int]]] = {}
    for row, seat in enumerate(seats):
        groups.setdefault(id(seat), (seat, []))[1].append(row)
    return list(groups.values())


def _shadow(
    requests: Sequence[DecisionRequest], seats: Sequence[Seat | None], lineup: Lineup
) -> list[tuple[int, Seat, Ruling]]:
    """Rule once more by the shadow policies; their faults are theirs alone and leave no record."""
    if all(seat is None for seat in seats):
        return []
    watched = [(row, seat) for row, seat in enumerate(seats) if seat is not None]
    found: list[tuple[int, Seat, Ruling]] = []
    for seat, places in _group([seat for _, seat in watched]):
        rows = [watched[place][0] for place in places]
        part = rule(
            seat.artifact.policy,
            [requests[row] for row in rows],
            encoder=seat.encoder,
            recourse=seat.artifact.recourse,
            salt=lineup.salt,
        )
        found += [(row, seat, r) for row, r in zip(rows, part.rows, strict=True) if isinstance(r, Ruling)]
    return found
