"""Recompute the decisions of a log, and name the first that differs.

From the key and the logged lattice follow action and propensity, exactly and everywhere. The lattice itself is
recomputed through the artifact: bit for bit on the platform that the decision names, else within 1e-6.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from policies.choose import ONE, draw, draw_uniforms
from policies.errors import ContentRefused, UsageProblem
from policies.events import AppliedRecourse, Choice, Decision, DecisionRequest, Fault, UnableToDecode, from_bytes
from policies.onnx_policy import platform_digest
from serving.catalogue import Lineup, Seat
from serving.decide import rule_by_seat
from serving.ruling import Part, Ruling

TOLERANCE = 1e-6
BATCH_SIZE = 256


class UnableToVerify(ContentRefused):
    """A decision names an artifact that was not given, so it cannot be recomputed alike."""


class UnableToReadLog(ContentRefused):
    """A line of the log is not a decision."""


class Difference(msgspec.Struct, kw_only=True, frozen=True):
    """Say where a recomputed decision differs from the logged one."""

    line: int
    request_id: str
    field: str
    logged: str
    recomputed: str


class Verification(msgspec.Struct, kw_only=True, frozen=True):
    """Say how many decisions were recomputed, how many bit for bit, and which differed first."""

    decisions: int
    bitwise: int
    within_tolerance: int
    fallbacks: int
    different: int
    first_difference: Difference | None


class Logged(NamedTuple):
    """One decision of a log with the request that it echoes."""

    line: int
    decision: Decision
    request: DecisionRequest


class _Known(NamedTuple):
    """What a log is held against: seats by policy, the catalogues given by identity, and the salt."""

    seats: Mapping[str, Seat]
    catalogues: Mapping[str, Lineup]
    salt: bytes


def verify(lines: Iterable[bytes], *, lineups: Sequence[Lineup]) -> Verification:
    """Recompute every decision of a log.

    Args:
        lines: decisions as JSON, one a line; blank lines are passed over.
        lineups: hold the artifacts that took them and the salt; the first that knows an artifact is used. Where one
            is the catalogue that a decision names, it must also be the one that let this artifact decide in this role.

    Raises:
        UnableToReadLog: a line is not a decision.
        UnableToVerify: an artifact is missing.
    """
    known = _Known(
        seats=seats_by_policy(lineups),
        catalogues={lineup.identity: lineup for lineup in lineups},
        salt=lineups[0].salt if lineups else b"",
    )
    counts = {"decisions": 0, "bitwise": 0, "within_tolerance": 0, "fallbacks": 0, "different": 0}
    first: Difference | None = None
    logged = _read(lines)
    while batch := list(islice(logged, BATCH_SIZE)):
        for entry, difference in _verify_batch(batch, known):
            counts["decisions"] += 1
            counts["fallbacks"] += entry.decision.fallback is not None
            is_same_platform = entry.decision.platform == platform_digest()
            counts["different" if difference else "bitwise" if is_same_platform else "within_tolerance"] += 1
            first = first or difference
    return Verification(first_difference=first, **counts)


def seats_by_policy(lineups: Iterable[Lineup]) -> dict[str, Seat]:
    """Return every seat of some lineups by its artifact's identity as records carry it."""
    seats: dict[str, Seat] = {}
    for lineup in lineups:
        for assignment in lineup.domains.values():
            for seat in (assignment.live, assignment.canary, assignment.shadow):
                if seat is not None:
                    seats.setdefault(seat.policy, seat)
    return seats


def read_lines(path: Path) -> Iterator[bytes]:
    """Read the lines of a log file."""
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise UsageProblem(f"expected a log of decisions at {path}: {error.strerror}") from error


def _read(lines: Iterable[bytes]) -> Iterator[Logged]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            decision = from_bytes(line, Decision)
            request = from_bytes(bytes(decision.request), DecisionRequest)
        except UnableToDecode as error:
            raise UnableToReadLog(f"line {number} is not a decision: {error}") from error
        yield Logged(number, decision, request)


def _verify_batch(batch: Sequence[Logged], known: _Known) -> Iterator[tuple[Logged, Difference | None]]:
    rulings: dict[int, Ruling | Fault] = {}
    for policy in dict.fromkeys(entry.decision.policy for entry in batch):
        own = [entry for entry in batch if entry.decision.policy == policy]
        if policy not in known.seats:
            given = ", ".join(known.seats) or "none"
            raise UnableToVerify(f"line {own[0].line}: artifact {policy} took this decision; given were {given}")
        rulings.update(_recompute(own, known.seats[policy], known.salt))
    for entry in batch:
        seat, lineup = known.seats[entry.decision.policy], known.catalogues.get(entry.decision.catalogue)
        found = _compare_company(entry, seat, lineup)
        yield entry, found or _compare(entry, rulings[entry.line], seat, known.salt)


def _recompute(own: Sequence[Logged], seat: Seat, salt: bytes) -> dict[int, Ruling | Fault]:
    forced = [None if e.decision.fallback == "recourse_infeasible" else e.decision.fallback for e in own]
    ruled = rule_by_seat(seat, [entry.request for entry in own], salt=salt, forced=forced)
    return {entry.line: ruling for entry, ruling in zip(own, ruled.rows, strict=True)}


def _compare_company(entry: Logged, seat: Seat, lineup: Lineup | None) -> Difference | None:
    """Return what a decision says of who decided, and why a fallback was taken, that cannot have been so."""
    decision, domain, own_domain = entry.decision, entry.request.domain, seat.artifact.spec.domain
    if domain != own_domain:
        return _difference(entry, "policy", f"{decision.policy} for {domain!r}", f"one that decides for {own_domain!r}")
    if decision.fallback == "deadline" and entry.request.deadline is None:
        return _difference(entry, "fallback", decision.fallback, "no deadline")
    if lineup is None or domain not in lineup.domains:
        return None
    assignment = lineup.domains[domain]
    is_shadow = decision.role == "shadow"
    wanted = assignment.shadow if is_shadow else assignment.seat_of(entry.request, salt=lineup.salt)
    if wanted is None or (wanted.policy, wanted.role) != (decision.policy, decision.role):
        expected = "no shadow" if wanted is None else f"{wanted.policy} as {wanted.role}"
        return _difference(entry, "role", f"{decision.policy} as {decision.role}", expected)
    if (assignment.kill and not is_shadow) != (decision.fallback == "kill"):
        return _difference(entry, "fallback", decision.fallback, "kill" if assignment.kill else "no kill")
    return None


def _compare(entry: Logged, ruling: Ruling | Fault, seat: Seat, salt: bytes) -> Difference | None:
    """Return the first field in which a logged decision is not what it must be."""
    logged = entry.decision
    if isinstance(ruling, Fault):
        return _difference(entry, "choices", logged.choices, ruling)
    if logged.fallback != ruling.fallback:
        return _difference(entry, "fallback", logged.fallback, ruling.fallback)
    if [c.slot for c in logged.choices] != [c.slot for c in ruling.choices]:
        return _difference(entry, "slots", [c.slot for c in logged.choices], [c.slot for c in ruling.choices])
    is_exact = logged.platform == platform_digest()
    encoded = cache(partial(_encode, seat, entry.request))
    for own, other in zip(logged.choices, ruling.choices, strict=True):
        found = _compare_choice(entry, own, other, encoded, salt)
        if found is not None:
            return found
    return _compare_recourse(entry, ruling, is_exact)


def _compare_choice(
    entry: Logged, own: Choice, other: Choice, encoded: Callable[[], Part], salt: bytes
) -> Difference | None:
    """Compare one choice; the request is `encoded` at most once, for whichever slot needs it first."""
    if own == other:  # the usual case; what was recomputed follows from key and lattice
        return None
    is_exact = entry.decision.platform == platform_digest()
    where = f"choices[{own.slot!r}]"
    if own.lattice is None or other.lattice is None:
        return _compare_plain(entry, own, other, where, is_exact)
    if len(own.lattice) != len(other.lattice) or not _are_close(own.lattice, other.lattice, is_exact):
        return _difference(entry, f"{where}.lattice", own.lattice, other.lattice)
    if sum(own.lattice) != ONE:
        return _difference(entry, f"{where}.lattice", f"a sum of {sum(own.lattice)}", f"a sum of {ONE}")
    cell = _drawn_cell(own.lattice, entry.request.request_id, own.slot, salt)
    if own.propensity != own.lattice[cell] / ONE:
        return _difference(entry, f"{where}.propensity", own.propensity, own.lattice[cell] / ONE)
    action = _eligible_ids(encoded(), own.slot)[cell]
    if own.action != action:
        return _difference(entry, f"{where}.action", own.action, action)
    return None if own.applied == other.applied else _difference(entry, f"{where}.applied", own.applied, other.applied)


def _encode(seat: Seat, request: DecisionRequest) -> Part:
    """Encode a request that has a ruling, so that it is sound."""
    (bucket,) = seat.encoder.encode_requests([request]).buckets
    return Part(seat.artifact.spec, bucket, [request])


def _eligible_ids(part: Part, slot: str) -> list[str]:
    """Return the ids of one slot's eligible actions in canonical order, the order of its lattice."""
    ids, place = part.action_ids(0), part.slot_names(0).index(slot)
    return [ids[cell] for cell in np.flatnonzero(part.bucket.mask[0, place]).tolist()]


def _drawn_cell(lattice: Sequence[int], request_id: str, slot: str, salt: bytes) -> int:
    cells = np.array([lattice], dtype=np.int64)
    return int(draw(cells, draw_uniforms([request_id], [slot], salt=salt))[0])


def _compare_plain(entry: Logged, own: Choice, other: Choice, where: str, is_exact: bool) -> Difference | None:
    """Compare choices without a lattice: fallbacks and quantities."""
    if (own.lattice is None) != (other.lattice is None):
        return _difference(entry, f"{where}.lattice", own.lattice, other.lattice)
    if own.propensity != other.propensity:
        return _difference(entry, f"{where}.propensity", own.propensity, other.propensity)
    for name, a, b in (("action", own.action, other.action), ("applied", own.applied, other.applied)):
        if a != b and (is_exact or not _are_near(a, b)):
            return _difference(entry, f"{where}.{name}", a, b)
    return None


def _compare_recourse(entry: Logged, ruling: Ruling, is_exact: bool) -> Difference | None:
    own, other = entry.decision.recourse, ruling.recourse
    if own == other:
        return None
    if own is None or other is None or _heading(own) != _heading(other) or own.outputs.keys() != other.outputs.keys():
        return _difference(entry, "recourse", own, other)
    for name, values in own.outputs.items():
        if values != other.outputs[name] and (is_exact or not _are_near(values, other.outputs[name])):
            return _difference(entry, f"recourse.outputs.{name}", values, other.outputs[name])
    return None


def _heading(recourse: AppliedRecourse) -> tuple[str, str]:
    return recourse.kind, recourse.status


def _are_close(own: Sequence[int], other: Sequence[int], is_exact: bool) -> bool:
    """Compare lattices: the same bits, or probabilities within the tolerance and the lattice's own rounding."""
    if is_exact:
        return tuple(own) == tuple(other)
    margin = TOLERANCE * ONE + len(own)
    return all(abs(a - b) <= margin for a, b in zip(own, other, strict=True))


def _are_near(own: object, other: object) -> bool:
    if isinstance(own, str) or isinstance(other, str) or own is None or other is None:
        return own == other
    a, b = np.asarray(own, dtype=np.float64), np.asarray(other, dtype=np.float64)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE))


def _difference(entry: Logged, field: str, logged: object, recomputed: object) -> Difference:
    request_id = entry.request.request_id
    return Difference(
        line=entry.line, request_id=request_id, field=field, logged=_short(logged), recomputed=_short(recomputed)
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
