"""Second verb: requests become rulings, each a pure function of (request, artifact, salt).

A ruling is what a decision says of the world: its choices, what recourse made of them, and whether it is a fallback.
`verify` calls the same `rule` as the service does; there is no second path.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from policies.encode import Encoder
from policies.events import DecisionRequest, FallbackReason, Fault, microseconds
from policies.policy import Policy
from policies.recourse.contract import Recourse
from serving.catalogue import Lineup, Seat
from serving.drawing import draw_choices
from serving.quantities import fall_back, propose_quantities
from serving.receive import Received
from serving.ruling import Part, Ruling


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
    seats, forced = _seats(requests, lineup), _forced(requests, lineup, now)
    rulings: list[Ruling | Fault] = [_UNRULED] * len(requests)
    clipped = filled = 0
    for seat, rows in _group(seats):
        is_all = len(rows) == len(requests)
        chosen = requests if is_all else [requests[row] for row in rows]
        reasons = None if forced is None else [forced[row] for row in rows]
        part = rule_by_seat(seat, chosen, salt=lineup.salt, forced=reasons)
        clipped, filled = clipped + part.clipped, filled + part.filled
        if is_all:
            rulings = part.rows
            continue
        for row, ruling in zip(rows, part.rows, strict=True):
            rulings[row] = ruling
    shadows = _shadow(requests, lineup)
    return Ruled(seats=seats, rulings=rulings, shadows=shadows, clipped=clipped, filled=filled)


def rule_by_seat(
    seat: Seat,
    requests: Sequence[DecisionRequest],
    *,
    salt: bytes,
    forced: Sequence[FallbackReason | None] | None = None,
) -> Rulings:
    """Rule on requests of one domain by the artifact of a seat, as `rule` does."""
    return rule(
        seat.artifact.policy,
        requests,
        encoder=seat.encoder,
        recourse=seat.artifact.recourse,
        salt=salt,
        forced=forced,
    )


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
    parts = [Part(policy.spec, bucket, [requests[r] for r in bucket.rows.tolist()]) for bucket in encoded.buckets]
    drawn = parts if forced is None else [part for part in parts if _is_drawn(part, reasons)]
    proposals = [policy.propose(part.bucket.arrays, part.bucket.mask) for part in drawn]
    if policy.spec.is_quantity:
        for part, proposal in zip(drawn, proposals, strict=True):
            _set(rows, part, propose_quantities(part, proposal, recourse))
    else:
        for part, rulings in zip(drawn, draw_choices(drawn, proposals, salt=salt), strict=True):
            _set(rows, part, rulings)
    for part in parts if any(reasons) else ():
        for place, row in enumerate(part.bucket.rows.tolist()):
            reason = reasons[row]
            if reason is not None:
                rows[row] = fall_back(part, place, reason, recourse)
    return Rulings(rows=rows, clipped=encoded.clipped, filled=encoded.filled)


def _is_drawn(part: Part, reasons: Sequence[FallbackReason | None]) -> bool:
    return any(reasons[row] != "kill" for row in part.bucket.rows.tolist())


def _set(rows: list[Ruling | Fault], part: Part, rulings: Sequence[Ruling | Fault]) -> None:
    if len(rulings) == len(rows):
        rows[:] = rulings
        return
    for row, ruling in zip(part.bucket.rows.tolist(), rulings, strict=True):
        rows[row] = ruling


_UNRULED = Fault("policy_not_finite", "the request was not ruled on")


def _seats(requests: Sequence[DecisionRequest], lineup: Lineup) -> list[Seat]:
    """Return who decides each request."""
    domains = lineup.domains
    if all(assignment.canary is None for assignment in domains.values()):
        return [domains[request.domain].live for request in requests]
    return [domains[request.domain].seat_of(request, salt=lineup.salt) for request in requests]


def _forced(requests: Sequence[DecisionRequest], lineup: Lineup, now: int) -> list[FallbackReason | None] | None:
    """Return, per request, why its fallback is taken unasked; None where no domain and no request may have a reason."""
    domains = lineup.domains
    if {request.deadline for request in requests} <= {None} and not any(a.kill for a in domains.values()):
        return None
    return [_reason(request, domains[request.domain].kill, now) for request in requests]


def _reason(request: DecisionRequest, kill: bool, now: int) -> FallbackReason | None:
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


def _shadow(requests: Sequence[DecisionRequest], lineup: Lineup) -> list[tuple[int, Seat, Ruling]]:
    """Rule once more by the shadow policies; their faults are theirs alone and leave no record."""
    domains = lineup.domains
    if all(assignment.shadow is None for assignment in domains.values()):
        return []
    seats = [domains[request.domain].shadow for request in requests]
    watched = [(row, seat) for row, seat in enumerate(seats) if seat is not None]
    found: list[tuple[int, Seat, Ruling]] = []
    for seat, places in _group([seat for _, seat in watched]):
        rows = [watched[place][0] for place in places]
        part = rule_by_seat(seat, [requests[row] for row in rows], salt=lineup.salt)
        found += [(row, seat, r) for row, r in zip(rows, part.rows, strict=True) if isinstance(r, Ruling)]
    return found
