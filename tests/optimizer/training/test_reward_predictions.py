import dataclasses

import numpy as np
import pytest

from optimizer.training.encoded_log import encode_log, split_by_unit
from optimizer.training.reward_predictions import predict_rewards
from policies.assemble import assemble
from policies.columns import Columns
from policies.spec import ActionSet, Field, PolicySpec, Reward
from tests.helpers.taught_logs import Taught, cluster, market, shop

CLICK = {"click": 1.0}


@pytest.mark.parametrize(
    "log", [shop(300, seed=1), market(300, seed=1), cluster(300, seed=1)], ids=["ids", "own", "slots"]
)
def test_every_cell_of_both_parts_is_predicted_within_the_rewards_that_were_seen(log: Taught) -> None:
    sides = split_by_unit(encode_log(log.feedback, spec=log.spec, reward=CLICK))
    for side, predicted in zip(sides, predict_rewards(*sides), strict=True):
        assert [cells.shape for cells in predicted] == [group.mask.shape for group in side.groups]
        assert all((cells >= 0).all() and (cells <= 1).all() for cells in predicted)


def test_the_model_learns_what_a_row_of_its_own_earns() -> None:
    log = market(3_000, seed=2)
    sides = split_by_unit(encode_log(log.feedback, spec=log.spec, reward=CLICK))
    _, predicted = predict_rewards(*sides)
    group, cells = sides[1].groups[0], predicted[0]
    truth = 1 - group.arrays["actions"][:, None, :, 0]
    # 0.03 is about three standard errors of a line fitted to 2,400 coin flips.
    assert np.abs(cells - truth)[group.mask].max() < 0.1
    assert np.abs(cells - truth)[group.mask].mean() < 0.03


def test_no_prediction_depends_on_a_reward_that_is_held_out() -> None:
    log = shop(300, seed=3)
    kept, held_out = split_by_unit(encode_log(log.feedback, spec=log.spec, reward=CLICK))
    (group,) = held_out.groups
    flipped = dataclasses.replace(held_out, groups=(dataclasses.replace(group, reward=1 - group.reward),))
    for before, after in zip(predict_rewards(kept, held_out), predict_rewards(kept, flipped), strict=True):
        assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_no_training_reward_predicts_itself() -> None:
    log = shop(300, seed=3)
    kept, held_out = split_by_unit(encode_log(log.feedback, spec=log.spec, reward=CLICK))
    (group,) = kept.groups
    in_fold = group.fold == group.fold[0]
    changed = group.reward.copy()
    changed[in_fold] = 1 - changed[in_fold]
    other = dataclasses.replace(kept, groups=(dataclasses.replace(group, reward=changed),))
    before, after = predict_rewards(kept, held_out)[0][0], predict_rewards(other, held_out)[0][0]
    assert (before[in_fold] == after[in_fold]).all()
    assert (before[~in_fold] != after[~in_fold]).any()


def test_categories_and_sequences_are_features_too() -> None:
    generator = np.random.default_rng(4)
    spec = PolicySpec(
        domain="plant",
        fields=(
            Field(name="kind", vocabulary=("wet", "dry")),
            Field(name="inflow", lower=0, upper=10, steps=3),
        ),
        actions=ActionSet(kind="choice", ids=("open", "shut")),
        rewards=(Reward(name="click", lower=0, upper=1),),
    )
    kinds = generator.choice(["wet", "dry"], 400)
    last = generator.uniform(0, 10, 400)
    sequences = [[5.0] * (row % 3) + [value] for row, value in enumerate(last.tolist())]
    action = generator.integers(0, 2, 400)
    reward = np.where(kinds == "wet", 0.5 * (action == 0), last / 10 * (action == 1))
    feedback = assemble(
        spec,
        columns=Columns(count=400, request={"kind": kinds.tolist(), "inflow": sequences}),
        actions=[("open", "shut")[place] for place in action.tolist()],
        propensity=np.full(400, 0.5),
        rewards={"click": reward},
    )
    sides = split_by_unit(encode_log(feedback, spec=spec, reward=CLICK))
    predicted, group = predict_rewards(*sides)[1][0], sides[1].groups[0]
    error = np.take_along_axis(predicted, group.action[:, :, None], axis=2)[:, :, 0] - group.reward
    mean_error = group.reward - group.reward.mean()
    assert np.square(error).mean() < 0.3 * np.square(mean_error).mean()
