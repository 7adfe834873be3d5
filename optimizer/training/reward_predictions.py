"""Rewards predicted for every action of a log by the default model, for the objective dr.

The model of a fold has learned from the other folds of the part that is trained on, so no reward predicts itself and
nothing that is held out is seen.
"""

# B request, S slot, A action, P feature, N weighed choice

import numpy as np
from numpy.typing import NDArray

from optimizer.training.encoded_log import EncodedLog, Group
from optimizer.training.log_tensors import Predictions
from policies.evaluation.reward_model import FittedRewardModel, RewardModel, own_row_features
from policies.spec import Field, PolicySpec

Reals = NDArray[np.float64]


def predict_rewards(train: EncodedLog, held_out: EncodedLog) -> tuple[list[Predictions], list[Predictions]]:
    """Return the predicted reward of every action for each group of both parts, float64 [B, S, A] each.

    Raises:
        UnableToModelRewards: there are too many columns, or too few units.
    """
    is_shared = bool(train.spec.on("action"))
    features = [[_features(group, train.spec) for group in log.groups] for log in (train, held_out)]
    model: RewardModel | None = None
    for group, columns in zip(train.groups, features[0], strict=True):
        request, slot = np.nonzero(group.is_weighed)
        action = group.action[request, slot]
        if model is None:
            action_count = 1 if is_shared else group.mask.shape[2]
            model = RewardModel.empty(feature_count=columns.shape[-1], action_count=action_count)
        model = model.add(
            columns[request, slot, action] if is_shared else columns[request, slot],
            actions=np.zeros_like(action) if is_shared else action,
            reward=group.reward[request, slot],
            fold=group.fold[request],
        )
    assert model is not None
    fitted = model.fit()
    predicted = [
        [_predict(fitted, group, columns) for group, columns in zip(log.groups, part, strict=True)]
        for log, part in zip((train, held_out), features, strict=True)
    ]
    return predicted[0], predicted[1]


def _predict(fitted: FittedRewardModel, group: Group, features: Reals) -> Predictions:
    fold = np.repeat(group.fold, group.mask.shape[1])
    flat = features.reshape(-1, *features.shape[2:])
    return fitted.predict(flat, fold=fold).reshape(group.mask.shape)


def _features(group: Group, spec: PolicySpec) -> Reals:
    """Return features [B, S, P], or [B, S, A, P] where actions have fields of their own."""
    count, slot_count, _ = group.mask.shape
    parts = [_scaled(group.arrays["request"], spec.flat_fields)] if spec.flat_fields else []
    for field in spec.sequence_fields:
        parts += _of_sequence(group.arrays[f"sequence_{field.name}"], group.arrays[f"length_{field.name}"], field)
    request = np.concatenate([*parts, np.empty((count, 0))], axis=1)
    shared = np.broadcast_to(request[:, None, :], (count, slot_count, request.shape[1]))
    if spec.on("slot"):
        shared = np.concatenate([shared, _scaled(group.arrays["slots"], spec.on("slot"))], axis=2)
    if not spec.on("action"):
        return shared
    actions = _scaled(group.arrays["actions"], spec.on("action"))
    rows = np.repeat(actions, slot_count, axis=0)
    own = own_row_features(shared.reshape(count * slot_count, -1), rows).columns
    return own.reshape(count, slot_count, *own.shape[1:])


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
