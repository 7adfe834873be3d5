"""Decisions of a uniform policy, or of a constant one for quantities, made in memory without an artifact."""

from collections.abc import Sequence

import numpy as np
from msgspec import Raw
from numpy.typing import NDArray

from policies.choose import ONE, draw, draw_uniforms, to_lattice
from policies.encode import Bucket, Encoder
from policies.events import Choice, Decision, DecisionRequest, Role, Source, to_bytes
from policies.spec import PolicySpec


def decide_uniformly(
    requests: Sequence[DecisionRequest], *, spec: PolicySpec, role: Role = "live", first_offset: int = 0
) -> list[Decision]:
    """Decide each request, at the request's own time, from consecutive offsets of one partition."""
    encoded = Encoder(spec).encode_requests(requests)
    assert encoded.faults == {}
    choices: dict[int, tuple[Choice, ...]] = {}
    for bucket in encoded.buckets:
        for place, row in enumerate(bucket.rows.tolist()):
            choices[row] = _choices(requests[row], bucket, place, spec)
    return [
        Decision(
            request=Raw(to_bytes(request)),
            policy="a" * 32,
            catalogue="c" * 32,
            platform="0" * 8,
            role=role,
            choices=choices[row],
            source=Source(topic="requests", partition=0, offset=first_offset + row),
            time=request.time,
        )
        for row, request in enumerate(requests)
    ]


def _choices(request: DecisionRequest, bucket: Bucket, place: int, spec: PolicySpec) -> tuple[Choice, ...]:
    if spec.is_quantity:
        return (Choice(action=[1.0] * len(spec.actions.names)),)
    slots = [""] if bucket.slot_ids is None else bucket.slot_ids[place]
    ids = list(spec.actions.ids or ()) if bucket.action_ids is None else bucket.action_ids[place]
    return tuple(_choice(request, slot, ids, bucket.mask[place, number]) for number, slot in enumerate(slots))


def _choice(request: DecisionRequest, slot: str, ids: list[str], mask: NDArray[np.bool_]) -> Choice:
    lattice = to_lattice((mask / mask.sum())[None].astype(np.float32))
    action = int(draw(lattice, draw_uniforms([request.request_id], [slot], salt=b""))[0])
    return Choice(
        slot=slot,
        action=ids[action],
        propensity=float(lattice[0, action] / ONE),
        lattice=tuple(lattice[0, mask].tolist()),
    )
