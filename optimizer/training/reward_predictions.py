"""Rewards predicted for every action of a log by the default model, for the objective dr.

The model of a fold has learned from the other folds of the part that is trained on, so no reward predicts itself and
nothing that is held out is seen.
"""

# B request, S slot, A action, P feature, N weighed choice

import numpy as np
from numpy.typing import NDArray

from optimizer.training.encoded_log import EncodedLog, Group
from optimizer.training.log_tensors import Predictions
from policies.evaluation.features import choice_features
from policies.evaluation.reward_model import FittedRewardModel, RewardModel

Reals = NDArray[np.float64]


def predict_rewards(train: EncodedLog, held_out: EncodedLog) -> tuple[list[Predictions], list[Predictions]]:
    """Return the predicted reward of every action for each group of both parts, float64 [B, S, A] each.

    Raises:
        UnableToModelRewards: there are too many columns, or too few units.
    """
    is_shared = bool(train.spec.on("action"))
    features = [
        [choice_features(group.arrays, mask=group.mask, spec=train.spec) for group in log.groups]
        for log in (train, held_out)
    ]
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
