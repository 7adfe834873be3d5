"""Drawing: probabilities become choices on the lattice, for all buckets of a batch in one pass.

Rows of fewer actions are filled up with zeros to share one table; a cell of zero is never drawn, so what is drawn for
a row does not depend on the others.
"""

# B request of a bucket, S slot, A action, R choice (a real slot of a request)

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from policies.choose import ONE, draw, draw_uniforms, quantize
from policies.events import Choice, Fault
from serving.ruling import Part, Ruling

T = TypeVar("T", bound=np.generic)

_NO_DISTRIBUTION = Fault("policy_not_finite", "the policy's probabilities are no distribution for this row")


def draw_choices(
    parts: Sequence[Part], proposals: Sequence[NDArray[np.floating]], *, salt: bytes
) -> Iterator[list[Ruling | Fault]]:
    """Draw one action for each real slot of each request; yield the rulings of one part after the other.

    Args:
        parts: the buckets of a batch.
        proposals: their probabilities, [B, S, A] each.
        salt: keys the draws.
    """
    if not parts:
        return
    cells = [_real_cells(part) for part in parts]
    table = _stack([p[owners, slots] for p, (owners, slots) in zip(proposals, cells, strict=True)])
    mask = _stack([part.bucket.mask[owners, slots] for part, (owners, slots) in zip(parts, cells, strict=True)])
    lattice, sound = quantize(table, mask)
    names = list(chain.from_iterable(map(_slot_names, parts)))
    owned = list(zip(parts, (owners.tolist() for owners, _ in cells), strict=True))
    ids = [request_id for part, owners in owned for request_id in _request_ids(part, owners)]
    chosen = draw(lattice, draw_uniforms(ids, names, salt=salt))
    choices = _record(owned, names, lattice, mask, chosen)
    start = 0
    for part, (owners, _) in zip(parts, cells, strict=True):
        stop = start + len(owners)
        yield _gather(part, choices[start:stop], owners, sound[start:stop])
        start = stop


def _real_cells(part: Part) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the request and the slot of each choice of a part, int64 [R] each, without the padding."""
    if part.bucket.slot_ids is None:
        return np.arange(len(part.requests)), np.zeros(len(part.requests), dtype=np.int64)
    lengths = np.array([len(row) for row in part.bucket.slot_ids])
    owners, slots = np.nonzero(np.arange(part.bucket.mask.shape[1]) < lengths[:, None])
    return owners, slots


def _stack(tables: list[NDArray[T]]) -> NDArray[T]:
    """Put tables, [R, A] each, below each other, with zeros where a row has fewer actions."""
    if len(tables) == 1:
        return tables[0]
    width = max(table.shape[1] for table in tables)
    if all(table.shape[1] == width for table in tables):
        return np.concatenate(tables)
    stacked = np.zeros((sum(map(len, tables)), width), dtype=tables[0].dtype)
    start = 0
    for table in tables:
        stacked[start : start + len(table), : table.shape[1]] = table
        start += len(table)
    return stacked


def _slot_names(part: Part) -> list[str]:
    """Return the name of the slot of each choice of a part."""
    if part.bucket.slot_ids is None:
        return [""] * len(part.requests)
    return list(chain.from_iterable(part.bucket.slot_ids))


def _request_ids(part: Part, owners: list[int]) -> list[str]:
    """Return the id of the request of each choice of a part."""
    ids = [request.request_id for request in part.requests]
    return ids if part.bucket.slot_ids is None else [ids[owner] for owner in owners]


def _actions(part: Part, owners: list[int], chosen: Sequence[int]) -> list[str]:
    """Return the action of each choice of a part."""
    own = part.bucket.action_ids
    if own is None:
        fixed = part.spec.actions.ids or ()
        return [fixed[place] for place in chosen]
    return [own[owner][place] for owner, place in zip(owners, chosen, strict=True)]


def _lattices(lattice: NDArray[np.int64], mask: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Return the lattice of each choice's eligible actions, in canonical order."""
    if mask.all():
        return list(map(tuple, lattice.tolist()))
    eligible, ends = lattice[mask].tolist(), mask.sum(axis=1).cumsum().tolist()
    return [tuple(eligible[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _record(
    owned: Sequence[tuple[Part, list[int]]],
    names: list[str],
    lattice: NDArray[np.int64],
    mask: NDArray[np.bool_],
    chosen: NDArray[np.int64],
) -> list[Choice]:
    """Write each choice with its propensity and the lattice of its eligible actions."""
    propensities = (lattice[np.arange(len(lattice)), chosen] / ONE).tolist()
    places, actions = chosen.tolist(), list[str]()
    for part, owners in owned:
        actions += _actions(part, owners, places[len(actions) : len(actions) + len(owners)])
    return [
        Choice(slot=name, action=action, propensity=propensity, lattice=row)
        for name, action, propensity, row in zip(names, actions, propensities, _lattices(lattice, mask), strict=True)
    ]


def _gather(
    part: Part, choices: list[Choice], owners: NDArray[np.int64], sound: NDArray[np.bool_]
) -> list[Ruling | Fault]:
    """Put the choices of each request together; one slot without a distribution makes the request a fault."""
    rulings: list[Ruling | Fault]
    if part.bucket.slot_ids is None:
        rulings = [Ruling((choice,), None, None) for choice in choices]
    else:
        ends = np.bincount(owners, minlength=len(part.requests)).cumsum().tolist()
        rulings = [Ruling(tuple(choices[a:b]), None, None) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    if not sound.all():
        for owner in set(owners[~sound].tolist()):
            rulings[owner] = _NO_DISTRIBUTION
    return rulings
