"""Quantities through recourse, and fallbacks of every kind."""

# B request of a bucket, N component of a quantity

import numpy as np
from numpy.typing import NDArray

from policies.events import AppliedRecourse, Choice, FallbackReason, Fault
from policies.quantities import settle_quantities
from policies.recourse.contract import Applied, Recourse
from serving.ruling import Part, Ruling


def propose_quantities(part: Part, proposal: NDArray[np.floating], recourse: Recourse | None) -> list[Ruling | Fault]:
    """Bring proposed quantities, [B, N], onto their grid and within their bounds, then through recourse.

    An infeasible row takes the fallback, or ends as a fault.
    """
    quantities, sound = settle_quantities(proposal, spec=part.spec)
    rulings = _apply(part, quantities, recourse)
    for place in np.flatnonzero(~sound).tolist():
        rulings[place] = Fault("policy_not_finite", "the policy's quantities are not finite for this row")
    return rulings


def fall_back(
    part: Part, place: int, reason: FallbackReason, recourse: Recourse | None, *, detail: str = ""
) -> Ruling | Fault:
    """Take the spec's fallback for one request; where it has none or none fits, the request ends as a fault."""
    fallback = part.spec.actions.fallback
    if fallback is None:
        return Fault(reason, detail or f"no decision was taken ({reason}) and the spec names no fallback")
    if isinstance(fallback, tuple):
        return _fall_back_quantity(part, place, reason, fallback, recourse, detail)
    return _fall_back_choice(part, place, reason, fallback)


def _apply(part: Part, quantities: NDArray[np.float64], recourse: Recourse | None) -> list[Ruling | Fault]:
    vectors = quantities.tolist()
    if recourse is None:
        return [Ruling((Choice(action=vector),), None, None) for vector in vectors]
    applied = recourse.apply(quantities, parameters=part.bucket.arrays)
    rows: list[Ruling | Fault] = [*_rulings(vectors, applied, recourse, None)]
    for place, detail in applied.faults.items():
        rows[place] = fall_back(part, place, "recourse_infeasible", recourse, detail=detail)
    return rows


def _fall_back_choice(part: Part, place: int, reason: FallbackReason, fallback: str) -> Ruling | Fault:
    ids = part.action_ids(place)
    choices = []
    for name, row in zip(part.slot_names(place), part.bucket.mask[place], strict=False):
        eligible = [ids[cell] for cell in np.flatnonzero(row).tolist()]
        action = eligible[0] if fallback == "first" else fallback
        if action not in eligible:
            return Fault(reason, f"the fallback action {fallback!r} is not eligible")
        choices.append(Choice(slot=name, action=action))
    return Ruling(tuple(choices), None, reason)


def _fall_back_quantity(
    part: Part,
    place: int,
    reason: FallbackReason,
    fallback: tuple[float, ...],
    recourse: Recourse | None,
    detail: str,
) -> Ruling | Fault:
    vector = list(fallback)
    if recourse is None:
        return Ruling((Choice(action=vector),), None, reason)
    own = {name: array[place : place + 1] for name, array in part.bucket.arrays.items()}
    applied = recourse.apply(np.array([vector], dtype=np.float64), parameters=own)
    if applied.faults:
        return Fault("recourse_infeasible", detail or applied.faults[0])
    return _rulings([vector], applied, recourse, reason)[0]


def _rulings(
    vectors: list[list[float]], applied: Applied, recourse: Recourse, fallback: FallbackReason | None
) -> list[Ruling]:
    """Return a ruling for each proposed vector; arrays become lists a whole batch at a time."""
    kind, names = recourse.kind, list(applied.outputs)
    columns = [values.tolist() for values in applied.outputs.values()]
    rows = zip(*columns, strict=True) if columns else [()] * len(vectors)
    return [
        Ruling(
            (Choice(action=vector, applied=own),),
            AppliedRecourse(kind=kind, status=status, outputs=dict(zip(names, row, strict=True))),
            fallback,
        )
        for vector, own, status, row in zip(vectors, applied.values.tolist(), applied.status, rows, strict=True)
    ]
