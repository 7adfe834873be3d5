"""Probabilities become choices: an integer lattice, an exact propensity, and draws keyed by the request.

A probability p is quantized to q = floor(p * 2^32); what is missing to (or too much for) 2^32 goes to the first largest
cell, so q / 2^32 is the exact propensity of each action. The draw is a keyed hash of the request's id: the same request
gets the same action wherever, whenever and beside whatever it is decided.
"""

# R row (one choice), A action

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Purpose = Literal["draw", "canary", "fold", "shard"]

ONE = 1 << 32
SUM_TOLERANCE = 1e-5
"""Probabilities of a row may miss one by this much (float32 graphs miss it by 2e-7) before the row is refused.

What is missing or too much goes to the first largest cell, which has at least 1 / A: so that cell stays positive for
any number of actions below 100,000, more than a request of the largest size can name.
"""

MAX_SALT_BYTES = 64
FOLD_COUNT = 5
_MASK = ONE - 1


def keyed(purpose: Purpose, salt: bytes, text: str) -> int:
    """Return the 64-bit keyed hash that every random-looking choice is made from; purposes never share a hash.

    >>> keyed("draw", b"", "request-1") == keyed("canary", b"", "request-1")
    False
    """
    return int.from_bytes(_hasher(purpose, salt, text.encode()).digest(), "little")


def draw_uniforms(request_ids: Iterable[str], slots: Iterable[str], *, salt: bytes) -> NDArray[np.int64]:
    """Return one whole number in [0, 2^32) per choice, from its request's id and slot alone: int64 [R]."""
    base = _hasher("draw", salt, b"")
    digests = []
    for request_id, slot in zip(request_ids, slots, strict=True):
        state = base.copy()
        state.update(f"{request_id}\x00{slot}".encode())
        digests.append(state.digest())
    hashes = np.frombuffer(b"".join(digests), dtype="<u8")
    return (hashes & np.uint64(_MASK)).astype(np.int64)


def unit_hashes(units: Iterable[str], *, purpose: Literal["shard", "fold"] = "shard") -> NDArray[np.uint64]:
    """Return the unsalted hash of each unit, uint64 [N]; equal texts are hashed once.

    The shard of a unit is `hash >> 56`.
    """
    base = _hasher(purpose, b"", b"")
    known: dict[str, bytes] = {}
    digests = []
    for unit in units:
        digest = known.get(unit)
        if digest is None:
            state = base.copy()
            state.update(unit.encode())
            digest = known[unit] = state.digest()
        digests.append(digest)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def folds_of(units: Iterable[str]) -> NDArray[np.int64]:
    """Return the cross-fitting fold of each unit, int64 [N] in [0, FOLD_COUNT)."""
    return (unit_hashes(units, purpose="fold") % np.uint64(FOLD_COUNT)).astype(np.int64)


def is_in_share(unit: str, *, share: float, salt: bytes) -> bool:
    """Say whether a unit belongs to the canary's share of the units."""
    return keyed("canary", salt, unit) < share * 2.0**64  # a whole number against a float: exact in Python


def to_lattice(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Quantize rows of probabilities to whole numbers that sum to 2^32 exactly.

    Args:
        probabilities: float [R, A], finite, not negative, rows summing to one within `SUM_TOLERANCE`; ineligible 0.

    Returns:
        int64 [R, A]; q / 2^32 is the propensity of the cell.

    >>> to_lattice(np.array([[0.25, 0.75]], dtype=np.float32)).tolist()
    [[1073741824, 3221225472]]
    """
    lattice = _floor(probabilities)
    _complete(lattice)
    return lattice


def quantize(
    probabilities: NDArray[np.floating], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Quantize rows that may be no distributions: their lattice, and whether each row is one.

    A row is one when it is finite, not negative, zero where ineligible and sums to one within `SUM_TOLERANCE`. Sums are
    taken of whole numbers, so that zeros beside a row never change what is said of it.

    Args:
        probabilities: float [R, A].
        mask: bool [R, A], true where an action is eligible.

    Returns:
        int64 [R, A], of no meaning where the row is no distribution, and bool [R].
    """
    bounded = (probabilities >= 0) & (probabilities <= 2)
    if not mask.all():
        bounded &= mask | (probabilities == 0)
    sound: NDArray[np.bool_] = np.asarray(bounded.all(axis=1))
    lattice = _floor(probabilities if sound.all() else np.where(sound[:, None], probabilities, 0))
    missing = _complete(lattice)
    sound &= np.abs(missing) <= SUM_TOLERANCE * ONE + mask.sum(axis=1)  # flooring takes up to one from each cell
    return lattice, sound


def is_distribution(probabilities: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say for each row, [R, A], whether it is a distribution over its eligible actions: bool [R]."""
    return quantize(probabilities, mask)[1]


def _floor(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return floor(p * 2^32); a cast truncates, which for numbers that are not negative is the floor."""
    return (probabilities.astype(np.float64) * ONE).astype(np.int64)


def _complete(lattice: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give what each row misses to 2^32 to its first largest cell, in place; return what was missing, int64 [R]."""
    missing: NDArray[np.int64] = ONE - lattice.sum(axis=1)
    lattice[np.arange(len(lattice)), lattice.argmax(axis=1)] += missing
    return missing


def draw(lattice: NDArray[np.int64], uniforms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the first action whose cumulative lattice exceeds the uniform: int64 [R]."""
    chosen: NDArray[np.int64] = (lattice.cumsum(axis=1) > uniforms[:, None]).argmax(axis=1)
    return chosen


def _hasher(purpose: Purpose, salt: bytes, text: bytes) -> "blake2b":
    if len(salt) > MAX_SALT_BYTES:
        raise ValueError(f"a salt has at most {MAX_SALT_BYTES} bytes, found {len(salt)}")
    return blake2b(text, digest_size=8, key=salt, person=purpose.encode())
