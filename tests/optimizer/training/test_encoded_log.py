import dataclasses

import numpy as np
import pytest

from optimizer.training.encoded_log import UnableToLearn, encode_log, split_by_unit
from policies.assemble import assemble
from policies.columns import Columns
from policies.feedback import Feedback
from policies.spec import Reward
from tests.helpers.taught_logs import Taught, cluster, market, shop, shop_spec

CLICK = {"click": 1.0}


def changed(feedback: Feedback, **columns: object) -> Feedback:
    return dataclasses.replace(feedback, **columns)  # type: ignore[arg-type]


def test_every_sound_row_is_laid_out_with_its_action_propensity_and_reward() -> None:
    log = shop(200, seed=1, skew=1.0)
    encoded = encode_log(log.feedback, spec=log.spec, reward=CLICK)
    (group,) = encoded.groups
    assert encoded.row_count == 200
    assert encoded.excluded == 0
    ids = [log.spec.actions.ids[place] for place in group.action[:, 0].tolist()] if log.spec.actions.ids else []
    assert ids == log.feedback.actions
    assert group.propensity[:, 0].tolist() == log.feedback.propensity.tolist()
    assert group.reward[:, 0].tolist() == log.feedback.rewards["click"].tolist()
    assert group.unit.tolist() == log.feedback.unit_hashes.tolist()


def test_own_rows_fall_into_groups_of_one_padded_size() -> None:
    log = market(300, seed=2)
    encoded = encode_log(log.feedback, spec=log.spec, reward=CLICK)
    assert sorted(group.mask.shape[2] for group in encoded.groups) == [2, 4, 8]
    assert encoded.row_count == 300
    for group in encoded.groups:
        chosen = np.take_along_axis(group.mask, group.action[:, :, None], axis=2)
        assert chosen.all()
        assert group.propensity[:, 0].tolist() == (1 / group.mask.sum(axis=2)[:, 0]).tolist()


def test_a_reward_of_the_whole_request_is_one_row() -> None:
    log = cluster(100, seed=3, is_whole=True)
    encoded = encode_log(log.feedback, spec=log.spec, reward=CLICK)
    assert encoded.has_whole_rewards
    assert encoded.row_count == 100
    assert not any(group.is_weighed.any() for group in encoded.groups)
    total = sum(float(group.whole_reward.sum()) for group in encoded.groups)
    assert total == pytest.approx(np.nansum(log.feedback.rewards["click"]))


def test_a_whole_request_with_a_fallback_among_its_choices_is_left_out() -> None:
    log = cluster(50, seed=3, is_whole=True)
    fallbacks: list[str | None] = list(log.feedback.fallbacks)
    fallbacks[log.feedback.slots.index("t0")] = "deadline"
    encoded = encode_log(changed(log.feedback, fallbacks=fallbacks), spec=log.spec, reward=CLICK)
    assert encoded.row_count == 49


@pytest.mark.parametrize(
    ("column", "value"), [("roles", "shadow"), ("fallbacks", "deadline"), ("propensity", np.nan), ("reward", np.nan)]
)
def test_a_row_that_cannot_be_weighed_is_left_out_and_counted(column: str, value: object) -> None:
    log = shop(100, seed=4)
    feedback = log.feedback
    if column == "reward":
        feedback = changed(feedback, rewards={"click": np.append(np.nan, feedback.rewards["click"][1:])})
    else:
        found = getattr(feedback, column)
        values = [value, *list(found)[1:]]
        feedback = changed(feedback, **{column: np.array(values) if column == "propensity" else values})
    encoded = encode_log(feedback, spec=log.spec, reward=CLICK)
    assert (encoded.row_count, encoded.excluded) == (99, 1)


def test_several_rewards_are_summed_by_weight_and_so_are_their_bounds() -> None:
    spec = shop_spec(rewards=(Reward(name="click", lower=0, upper=1), Reward(name="cost", lower=0, upper=4)))
    feedback = assemble(
        spec,
        columns=Columns(count=2, request={"x": np.ones(2), "y": np.zeros(2)}),
        actions=["a", "b"],
        propensity=np.full(2, 0.25),
        rewards={"click": np.array([1.0, 0.0]), "cost": np.array([2.0, 4.0])},
        request_ids=["p", "q"],
    )
    encoded = encode_log(feedback, spec=spec, reward={"click": 1.0, "cost": -0.5})
    assert sorted(encoded.rewards().tolist()) == [-2.0, 0.0]
    assert (encoded.reward_low, encoded.reward_high) == (-2.0, 1.0)


def test_a_reward_that_is_not_in_the_log_is_named_with_those_that_are() -> None:
    log = shop(10, seed=5)
    with pytest.raises(UnableToLearn, match=r"rewards of the log \(click\), found clik"):
        encode_log(log.feedback, spec=log.spec, reward={"clik": 1.0})


def test_a_log_that_never_explored_is_refused() -> None:
    log = shop(50, seed=6)
    with pytest.raises(UnableToLearn, match="expected a log that explores"):
        encode_log(changed(log.feedback, propensity=np.ones(50)), spec=log.spec, reward=CLICK)


def test_a_log_without_any_row_to_weigh_is_refused() -> None:
    log = shop(50, seed=6)
    with pytest.raises(UnableToLearn, match="found none among 50"):
        encode_log(changed(log.feedback, roles=["shadow"] * 50), spec=log.spec, reward=CLICK)


def test_units_lie_on_one_side_of_the_split_and_every_row_on_some_side() -> None:
    log = shop(400, seed=7)
    units = [f"user{row % 60}" for row in range(400)]
    feedback = assemble(
        log.spec,
        columns=log.feedback.columns,
        actions=log.feedback.actions,
        propensity=log.feedback.propensity,
        rewards=log.feedback.rewards,
        units=units,
    )
    encoded = encode_log(feedback, spec=log.spec, reward=CLICK)
    kept, held_out = split_by_unit(encoded)
    sides = [{unit for group in side.groups for unit in group.unit.tolist()} for side in (kept, held_out)]
    assert not encoded.is_row_unit
    assert sides[0] & sides[1] == set()
    assert len(sides[0] | sides[1]) == 60
    assert kept.row_count + held_out.row_count == 400
    assert 0.05 < held_out.row_count / 400 < 0.4


def test_a_log_of_one_unit_cannot_be_split() -> None:
    log = shop(20, seed=8)
    feedback = assemble(
        log.spec,
        columns=log.feedback.columns,
        actions=log.feedback.actions,
        propensity=log.feedback.propensity,
        rewards=log.feedback.rewards,
        units=["one"] * 20,
    )
    with pytest.raises(UnableToLearn, match="units on both sides"):
        split_by_unit(encode_log(feedback, spec=log.spec, reward=CLICK))


def test_a_uniform_log_is_told_from_a_skewed_one() -> None:
    even, skewed = shop(50, seed=9), shop(50, seed=9, skew=1.0)
    assert encode_log(even.feedback, spec=even.spec, reward=CLICK).is_uniform
    assert not encode_log(skewed.feedback, spec=skewed.spec, reward=CLICK).is_uniform


def test_the_digest_tells_logs_apart_and_one_log_always_alike() -> None:
    digests = [encode_log(log.feedback, spec=log.spec, reward=CLICK).digest() for log in map(_ten, (1, 1, 2))]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def _ten(seed: int) -> Taught:
    return shop(10, seed=seed)
