import numpy as np
import pytest

from policies.errors import ContentRefused, UsageProblem
from policies.evaluation.bounds import UnableToBound, UnableToTrustFloor, checked_reward_bounds, checked_weight_bound
from policies.evaluation.scored import Scored
from policies.evaluation.sums import Sums


def sums(*, reward: float = 1.0, propensity: float = 0.1) -> Sums:
    target = np.array([0.1, 0.5])
    return Sums.empty().add(Scored(reward=np.array([0.0, reward]), propensity=np.full(2, propensity), target=target))


def test_a_bound_is_read_off_the_log_when_none_is_given() -> None:
    assert checked_weight_bound(sums(), bound=None) == (5.0, "log")
    assert checked_weight_bound(sums(propensity=1.0), bound=None) == (1.0, "log")
    assert checked_weight_bound(Sums.empty(), bound=None) == (1.0, "log")


def test_a_given_bound_stands_with_its_source() -> None:
    assert checked_weight_bound(sums(), bound=20.0, source="flag") == (20.0, "flag")
    assert checked_weight_bound(sums(), bound=20.0, source="floor") == (20.0, "floor")


def test_a_bound_may_round_below_the_weight_it_bounds() -> None:
    assert checked_weight_bound(sums(), bound=5.0 * (1 - 1e-12)).value == 5.0


def test_a_bound_below_a_weight_that_was_found_is_a_usage_problem_naming_both() -> None:
    with pytest.raises(UnableToBound, match="found is 5, above the weight bound 4") as caught:
        checked_weight_bound(sums(), bound=4.0)
    assert isinstance(caught.value, UsageProblem)


def test_a_weight_above_the_floors_bound_condemns_the_log() -> None:
    with pytest.raises(UnableToTrustFloor, match="some propensity lies below its floor") as caught:
        checked_weight_bound(sums(), bound=4.0, source="floor")
    assert isinstance(caught.value, ContentRefused)


@pytest.mark.parametrize("bound", [0.5, 0.0, float("nan"), float("inf")])
def test_a_bound_that_cannot_be_is_refused(bound: float) -> None:
    with pytest.raises(UnableToBound, match="at least 1"):
        checked_weight_bound(sums(), bound=bound)


def test_rewards_between_zero_and_one_need_no_bounds() -> None:
    assert checked_reward_bounds(sums(), bounds=None) == (0.0, 1.0)
    assert checked_reward_bounds(Sums.empty(), bounds=None) == (0.0, 1.0)


@pytest.mark.parametrize("reward", [1.5, -0.5])
def test_other_rewards_need_them(reward: float) -> None:
    with pytest.raises(UnableToBound, match=r"no bounds were given.*--reward-bounds"):
        checked_reward_bounds(sums(reward=reward), bounds=None)
    with pytest.raises(UnableToBound, match=r"the bounds given are \[0, 1\]"):
        checked_reward_bounds(sums(reward=reward), bounds=(0.0, 1.0))
    assert checked_reward_bounds(sums(reward=reward), bounds=(-1.0, 2.0)) == (-1.0, 2.0)


@pytest.mark.parametrize("bounds", [(1.0, 0.0), (1.0, 1.0), (0.0, float("nan")), (float("-inf"), 1.0)])
def test_bounds_are_two_numbers_in_order(bounds: tuple[float, float]) -> None:
    with pytest.raises(UnableToBound, match="two numbers"):
        checked_reward_bounds(sums(), bounds=bounds)
