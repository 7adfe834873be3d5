"""What the default reward model sees of a request and an action: the spec's fields, scaled by its bounds.

Numbers come to [0, 1], categories become one-hot, a sequence gives its last and its mean value. Scaling by the spec
and not by the data keeps the sums of parts of a log mergeable.
"""

# B request, S slot, A action, T step, P feature

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.evaluation.reward_model import own_row_features
from policies.spec import Field, PolicySpec

Reals = NDArray[np.float64]
Places = NDArray[np.int64]


def choice_features(arrays: Mapping[str, NDArray[Any]], *, mask: NDArray[np.bool_], spec: PolicySpec) -> Reals:
    """Return the features of each choice: [B, S, P], or [B, S, A, P] where actions have fields of their own.

    Args:
        arrays: the encoded requests of one bucket.
        mask: [B, S, A], for the sizes of the axes.
        spec: names the columns and bounds them.

    Raises:
        UnableToModelRewards: there are too many columns.
    """
    count, slot_count, _ = mask.shape
    parts = [_scaled(arrays["request"], spec.flat_fields)] if spec.flat_fields else []
    for field in spec.sequence_fields:
        parts += _of_sequence(arrays[f"sequence_{field.name}"], arrays[f"length_{field.name}"], field)
    request = np.concatenate([*parts, np.empty((count, 0))], axis=1)
    shared: Reals = np.broadcast_to(request[:, None, :], (count, slot_count, request.shape[1]))
    if spec.on("slot"):
        shared = np.concatenate([shared, _scaled(arrays["slots"], spec.on("slot"))], axis=2)
    if not spec.on("action"):
        return shared
    rows = np.repeat(_scaled(arrays["actions"], spec.on("action")), slot_count, axis=0)
    own = own_row_features(shared.reshape(count * slot_count, shared.shape[2]), rows).columns
    return own.reshape(count, slot_count, *own.shape[1:])


def logged_features(
    arrays: Mapping[str, NDArray[Any]], *, spec: PolicySpec, request: Places, action: Places, slot: Places
) -> Reals:
    """Return the features of some choices alone, [N, P]: what `choice_features` has at their places.

    Args:
        arrays: the encoded requests of one bucket.
        spec: names the columns and bounds them.
        request: int64 [N], places on the axis of requests.
        action: int64 [N], places on that of actions.
        slot: int64 [N], places on that of slots.

    Raises:
        UnableToModelRewards: there are too many columns.
    """
    axes = {"slots": slot, "actions": action}
    picked = {
        name: values[request, axes[name]][:, None] if name in axes else values[request]
        for name, values in arrays.items()
    }
    mask = np.ones((len(request), 1, 1), dtype=bool)
    features = choice_features(picked, mask=mask, spec=spec)
    return features.reshape(len(request), features.shape[-1])


def _scaled(values: Reals, fields: tuple[Field, ...]) -> Reals:
    """Scale numbers to [0, 1] by their bounds and make categories one-hot, along the last axis."""
    parts, start = [], 0
    for field in fields:
        part = values[..., start : start + field.width]
        start += field.width
        low, high = np.array(field.lowers), np.array(field.uppers)
        if field.is_category:
            parts.append((part == np.arange(int(high[0]) + 1)).astype(np.float64))
        else:
            parts.append((part - low) / np.where(high > low, high - low, 1.0))
    return np.concatenate(parts, axis=-1)


def _of_sequence(sequence: Reals, length: Reals, field: Field) -> list[Reals]:
    """Return the last and the mean value of a right-aligned sequence [B, T, W], scaled; zeros where it is empty."""
    scaled = _scaled(sequence, (field,))
    steps = scaled.shape[1]
    is_there = (np.arange(steps) >= steps - length[:, None])[:, :, None]
    mean = (scaled * is_there).sum(axis=1) / np.maximum(length, 1)[:, None]
    return [np.where(length[:, None] > 0, scaled[:, -1], 0.0), mean]
