from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from policies.errors import Unable
from policies.evaluation.reward_model import MAX_COLUMNS, RewardModel, UnableToModelRewards, own_row_features

FEATURES, ACTIONS = 3, 4


class Log:
    """Rows whose mean reward is linear in the features, with other coefficients for each action."""

    def __init__(self, count: int, *, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.features = generator.uniform(-1, 1, (count, FEATURES))
        self.actions = generator.integers(ACTIONS, size=count)
        self.fold = generator.integers(5, size=count)
        self.truth = 0.5 + self.features @ np.random.default_rng(0).uniform(-0.15, 0.15, (FEATURES, ACTIONS))
        mean = self.truth[np.arange(count), self.actions]
        self.reward = (generator.random(count) < mean).astype(np.float64)

    def sums(self, rows: NDArray[np.int64] | slice = slice(None)) -> RewardModel:
        return RewardModel.empty(feature_count=FEATURES, action_count=ACTIONS).add(
            self.features[rows], actions=self.actions[rows], reward=self.reward[rows], fold=self.fold[rows]
        )


def close(one: RewardModel, other: RewardModel) -> bool:
    pairs = ((one.gram, other.gram), (one.moment, other.moment), (one.square, other.square))
    return all(np.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in pairs)


def test_the_model_is_the_ridge_regression_of_the_other_folds() -> None:
    log = Log(600, seed=1)
    predicted = log.sums().fit(ridge=0.7).predict(log.features, fold=log.fold)
    fold, action = 2, 3
    others, here = log.fold != fold, log.fold == fold
    mean = log.reward[others].mean()
    chosen = others & (log.actions == action)
    x = np.column_stack([np.ones(chosen.sum()), log.features[chosen]])
    beta = np.linalg.solve(x.T @ x + 0.7 * np.eye(FEATURES + 1), x.T @ (log.reward[chosen] - mean))
    expected = mean + np.column_stack([np.ones(here.sum()), log.features[here]]) @ beta
    assert predicted[here, action] == pytest.approx(expected, rel=1e-10)


def test_no_reward_predicts_itself() -> None:
    log = Log(300, seed=2)
    before = log.sums().fit().predict(log.features, fold=log.fold)
    log.reward[log.fold == 1] = 1.0 - log.reward[log.fold == 1]
    after = log.sums().fit().predict(log.features, fold=log.fold)
    own, other = log.fold == 1, log.fold == 0
    assert np.array_equal(before[own], after[own])
    assert not np.allclose(before[other], after[other])


def test_the_model_learns_what_separates_the_actions() -> None:
    log = Log(20_000, seed=3)
    fitted = log.sums().fit()
    error = fitted.predict(log.features, fold=log.fold) - log.truth
    assert np.sqrt((error**2).mean()) < 0.02
    assert log.truth.std() > 0.1


def test_the_out_of_fold_error_is_that_of_the_predictions() -> None:
    log = Log(3_000, seed=4)
    fitted = log.sums().fit()
    predicted = fitted.predict(log.features, fold=log.fold)[np.arange(3_000), log.actions]
    assert fitted.out_of_fold_error == pytest.approx(np.sqrt(((log.reward - predicted) ** 2).mean()), rel=1e-9)


@given(st.integers(0, 2**31), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_parts_in_any_order_give_the_same_model(seed: int, parts: int) -> None:
    log = Log(400, seed=seed)
    generator = np.random.default_rng(seed)
    part = generator.integers(parts, size=400)
    merged = reduce(RewardModel.merge, [log.sums(np.flatnonzero(part == one)) for one in generator.permutation(parts)])
    whole = log.sums()
    assert close(merged, whole)
    one, other = (sums.fit().predict(log.features, fold=log.fold) for sums in (merged, whole))
    assert one == pytest.approx(other, rel=1e-12, abs=1e-12)


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_merge_is_commutative_and_associative(one: int, two: int, three: int) -> None:
    a, b, c = (Log(30, seed=seed).sums() for seed in (one, two, three))
    assert np.array_equal(a.merge(b).gram, b.merge(a).gram)
    assert close(a.merge(b).merge(c), a.merge(b.merge(c)))


def test_an_action_that_was_never_logged_is_predicted_at_the_mean() -> None:
    log = Log(300, seed=5)
    log.actions = log.actions % 3
    predicted = log.sums().fit().predict(log.features, fold=log.fold)
    for fold in range(5):
        expected = log.reward[log.fold != fold].mean()
        assert predicted[log.fold == fold, 3] == pytest.approx(np.full((log.fold == fold).sum(), expected))


def test_predictions_stay_within_the_rewards_seen() -> None:
    log = Log(100, seed=6)
    predicted = log.sums().fit(ridge=1e-3).predict(50 * log.features, fold=log.fold)
    assert (predicted.min(), predicted.max()) == (0.0, 1.0)


def test_own_action_rows_share_one_model_over_products() -> None:
    generator = np.random.default_rng(7)
    request, actions = generator.uniform(-1, 1, (4_000, 2)), generator.uniform(-1, 1, (4_000, 5, 2))
    truth = 0.3 * request[:, None, 0] * actions[..., 1] + 0.1 * actions[..., 0]
    chosen, fold = generator.integers(5, size=4_000), generator.integers(5, size=4_000)
    rows = np.arange(4_000)
    features = own_row_features(request, actions)
    model = RewardModel.empty(feature_count=features.columns.shape[2], action_count=1).add(
        features.columns[rows, chosen],
        actions=np.zeros(4_000, dtype=np.int64),
        reward=truth[rows, chosen],
        fold=fold,
    )
    predicted = model.fit(ridge=1e-6).predict(features.columns, fold=fold)
    assert predicted == pytest.approx(truth.clip(model.reward_low, model.reward_high), abs=1e-6)
    assert (features.has_products, features.note) == (True, "")


def test_products_are_left_out_above_the_limit_and_it_says_so() -> None:
    features = own_row_features(np.ones((2, 20)), np.ones((2, 3, 20)))
    assert features.columns.shape == (2, 3, 40)
    assert "leaves out products" in features.note


def test_too_many_columns_are_named() -> None:
    with pytest.raises(UnableToModelRewards, match="301 columns, at most 256") as caught:
        own_row_features(np.ones((2, 200)), np.ones((2, 3, 100)))
    assert isinstance(caught.value, Unable)
    with pytest.raises(UnableToModelRewards, match="257 columns"):
        RewardModel.empty(feature_count=MAX_COLUMNS, action_count=2)
    with pytest.raises(UnableToModelRewards, match="sums for 201 columns and 1000 actions"):
        RewardModel.empty(feature_count=200, action_count=1_000)


def test_a_log_of_one_fold_cannot_be_learned_from() -> None:
    log = Log(50, seed=8)
    log.fold[:] = 3
    with pytest.raises(UnableToModelRewards, match="fold 3 learns from the other 4 folds"):
        log.sums().fit()


def test_no_rows_change_nothing() -> None:
    log = Log(50, seed=9)
    nothing = log.sums(slice(0, 0))
    assert nothing.row_count == 0
    assert np.array_equal(log.sums().merge(nothing).gram, log.sums().gram)


def test_what_does_not_fit_is_a_programming_error() -> None:
    log = Log(50, seed=10)
    log.actions[0] = ACTIONS
    with pytest.raises(ValueError, match="actions must lie in 0…3"):
        log.sums()
    log.actions[0] = 0
    log.features[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        log.sums()
    log.features[0, 0] = 0.0
    with pytest.raises(ValueError, match="do not merge"):
        log.sums().merge(RewardModel.empty(feature_count=2, action_count=ACTIONS))
    with pytest.raises(ValueError, match="ridge must be positive"):
        log.sums().fit(ridge=0.0)
    with pytest.raises(ValueError, match="do not fit"):
        log.sums().fit().predict(np.ones((50, 2)), fold=log.fold)
    with pytest.raises(ValueError, match="shared model"):
        log.sums().fit().predict(np.ones((50, 2, FEATURES)), fold=log.fold)
