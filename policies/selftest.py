"""Inputs that no log has shown: random and extreme observations of a spec, and the self-test vectors of an artifact.

The vectors say what a graph gave where it was exported; whoever loads it computes them again.
"""

# B request, S slot, A action, F column, T step, W width

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.errors import Unable
from policies.signature import graph_inputs
from policies.spec import Field, PolicySpec

Arrays = dict[str, NDArray[Any]]
Group = tuple[Arrays, NDArray[np.bool_]]
"""The graph's inputs but the mask, and the mask: requests of one padded size."""

SELFTEST_TOLERANCE = 1e-5
"""How far a self-test may be off: float32 sums of another CPU (docs/reference/formats.md, "Artifact")."""

_EDGE_SHARE = 0.2  # of the values lie on one of their bounds
_OWN_SIZES = ((1, 1), (1, 2), (1, 4), (1, 8), (1, 64))
_SLOT_SIZES = ((1, 1), (2, 1), (4, 1), (8, 1))
_OWN_AND_SLOT_SIZES = ((1, 1), (2, 4), (4, 16), (2, 64))


class SelftestInvalid(Unable):
    """The arrays of `selftest.npz` are not groups of inputs with what is expected of them."""


class Proposing(Protocol):
    """What can be run on a group: a policy, of any make."""

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_], /) -> NDArray[np.floating]:
        """Return probabilities [B, S, A] or quantities [B, N]."""


def random_inputs(spec: PolicySpec, *, count: int, seed: int) -> list[Group]:
    """Draw observations that the spec allows: bounds, unseen categories, empty sequences and lone actions among them.

    Row 0 of each group lies on all lower bounds with empty sequences and one eligible action, row 1 on all upper bounds
    with full sequences and all actions; the others are mixed. Own actions and slots come in several padded sizes, one
    group each, and are padded with zeros as the encoder pads them.

    Returns:
        groups of `count` requests: float64 arrays by the names of the graph's inputs, and the mask, bool [B, S, A].
    """
    rng = np.random.default_rng(seed)
    return [_draw_group(spec, count, size, rng) for size in _sizes(spec)]


def selftest_of(policy: Proposing, *, spec: PolicySpec, count: int = 8, seed: int = 0) -> Arrays:
    """Return the self-test vectors of a policy, as `selftest.npz` holds them: random inputs and what it proposes."""
    groups = random_inputs(spec, count=count, seed=seed)
    return pack_selftest([(arrays, mask, policy.propose(arrays, mask)) for arrays, mask in groups])


def pack_selftest(groups: Sequence[tuple[Arrays, NDArray[np.bool_], NDArray[np.floating]]]) -> Arrays:
    """Lay groups out in one dict: `<group>/<input>`, `<group>/mask` and `<group>/expected`."""
    packed: Arrays = {}
    for place, (arrays, mask, expected) in enumerate(groups):
        for name, array in {**arrays, "mask": mask, "expected": expected}.items():
            packed[f"{place}/{name}"] = array
    return packed


def unpack_selftest(
    packed: Mapping[str, NDArray[Any]], *, spec: PolicySpec
) -> list[tuple[Arrays, NDArray[np.bool_], NDArray[np.floating]]]:
    """Read groups back, checked against the spec's inputs.

    Raises:
        SelftestInvalid: there is no group, or an array is missing, unexpected, or of another shape or kind.
    """
    places = sorted({name.partition("/")[0] for name in packed})
    if not places:
        raise SelftestInvalid("expected at least one group of self-test vectors, found none")
    return [_read_group(packed, place, spec) for place in places]


def tolerance_scale(spec: PolicySpec) -> NDArray[np.float64] | float:
    """Return what tolerances are multiplied by: 1 for probabilities, max(1, upper - lower) [N] for quantities."""
    if not spec.is_quantity:
        return 1.0
    return np.maximum(1.0, np.subtract(spec.actions.upper, spec.actions.lower))


def _read_group(
    packed: Mapping[str, NDArray[Any]], place: str, spec: PolicySpec
) -> tuple[Arrays, NDArray[np.bool_], NDArray[np.floating]]:
    prefix = f"{place}/"
    group = {name.removeprefix(prefix): array for name, array in packed.items() if name.startswith(prefix)}
    tensors = graph_inputs(spec)
    wanted = {tensor.name for tensor in tensors} | {"expected"}
    if set(group) != wanted:
        raise SelftestInvalid(f"group {place!r}: expected {sorted(wanted)}, found {sorted(group)}")
    expected = group.pop("expected")
    sizes: dict[int | str, int] = {"batch": len(expected) if expected.ndim else -1}
    for tensor in tensors:
        array = group[tensor.name]
        rank_fits = array.dtype == tensor.dtype and array.ndim == len(tensor.axes)
        if not rank_fits or any(
            size != (axis if isinstance(axis, int) else sizes.setdefault(axis, size))
            for axis, size in zip(tensor.axes, array.shape, strict=True)
        ):
            found = f"{array.dtype} of shape {array.shape}"
            where = f"group {place!r}, {tensor.name!r}"
            raise SelftestInvalid(f"{where}: expected {tensor.dtype} {tensor.axes}, found {found}")
    return group, group.pop("mask"), expected


def _sizes(spec: PolicySpec) -> tuple[tuple[int, int], ...]:
    """Return the padded sizes (S, A) to try."""
    ids = spec.actions.ids
    if spec.has_own_actions:
        return _OWN_AND_SLOT_SIZES if spec.has_slots else _OWN_SIZES
    width = 1 if ids is None else len(ids)
    return tuple((slots, width) for slots, _ in (_SLOT_SIZES if spec.has_slots else ((1, 1),)))


def _draw_group(spec: PolicySpec, count: int, size: tuple[int, int], rng: np.random.Generator) -> Group:
    slot_count, action_count = size
    slot_rows = _draw_lengths(count, slot_count, rng) if spec.has_slots else np.ones(count, int)
    action_rows = _draw_lengths(count, action_count, rng) if spec.has_own_actions else np.full(count, action_count)
    has_slot = np.arange(slot_count) < slot_rows[:, None]
    has_action = np.arange(action_count) < action_rows[:, None]
    arrays: Arrays = {"request": _draw_values(spec.flat_fields, (count,), rng)} if spec.flat_fields else {}
    for field in spec.sequence_fields:
        steps, lengths = _draw_sequence(field, count, rng)
        arrays[f"sequence_{field.name}"], arrays[f"length_{field.name}"] = steps, lengths
    if spec.on("action"):
        arrays["actions"] = _draw_values(spec.on("action"), (count, action_count), rng) * has_action[:, :, None]
    if spec.on("slot"):
        arrays["slots"] = _draw_values(spec.on("slot"), (count, slot_count), rng) * has_slot[:, :, None]
    return arrays, _draw_mask(has_slot, has_action, is_quantity=spec.is_quantity, rng=rng)


def _draw_lengths(count: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the real lengths of tables that are padded to `size`: more than half of it; row 1 is full."""
    lengths = rng.integers(size // 2 + 1, size + 1, size=count)
    lengths[1:2] = size
    return lengths


def _draw_values(fields: Sequence[Field], shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw values [*shape, F] within the fields' bounds; codes of categories are whole."""
    lower = np.array([low for field in fields for low in field.lowers])
    upper = np.array([high for field in fields for high in field.uppers])
    is_code = np.array([field.is_category for field in fields for _ in range(field.width)])
    size = (*shape, len(lower))
    values = lower + (upper - lower) * rng.random(size)
    values = np.where(is_code, np.minimum(np.floor(lower + (upper - lower + 1) * rng.random(size)), upper), values)
    edge = rng.random(size)
    values = np.where(edge < _EDGE_SHARE / 2, lower, np.where(edge > 1 - _EDGE_SHARE / 2, upper, values))
    values[:1], values[1:2] = lower, upper
    return np.clip(values, lower, upper)


def _draw_sequence(
    field: Field, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw right-aligned sequences [B, T, W] and their lengths [B]: none, full, and any between."""
    assert field.steps is not None
    lengths = rng.integers(0, field.steps + 1, size=count)
    lengths[:1], lengths[1:2] = 0, field.steps
    is_step = np.arange(field.steps) >= field.steps - lengths[:, None]
    return _draw_values((field,), (count, field.steps), rng) * is_step[:, :, None], lengths.astype(np.float64)


def _draw_mask(
    has_slot: NDArray[np.bool_], has_action: NDArray[np.bool_], *, is_quantity: bool, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw which actions are eligible, bool [B, S, A]: at least one for each slot; one in row 0, all in row 1."""
    present: NDArray[np.bool_] = has_slot[:, :, None] & has_action[:, None, :]
    if is_quantity:
        return present
    score = np.where(present, rng.random(present.shape), -1.0)
    is_best = score == score.max(axis=2, keepdims=True)
    threshold = rng.random((*present.shape[:2], 1))
    threshold[:1], threshold[1:2] = 1.0, 0.0
    mask: NDArray[np.bool_] = present & (is_best | (score >= threshold))
    return mask
