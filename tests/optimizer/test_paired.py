import math

import numpy as np
import pytest

from optimizer.paired import paired_difference


def test_what_is_compared_with_itself_differs_by_nothing() -> None:
    costs = np.random.default_rng(2).normal(100.0, 30.0, 40)
    found = paired_difference(costs, costs.copy())
    assert (found.mean, found.low, found.high, found.standard_error, found.count) == (0.0, 0.0, 0.0, 0.0, 40)


def test_a_constant_difference_has_no_width_whatever_the_luck() -> None:
    costs = np.array([1.0, 250.0, 37.0, 1e6])
    found = paired_difference(costs + 2.0, costs)
    assert (found.mean, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0), abs=1e-9)


def test_luck_that_is_shared_does_not_widen_the_interval() -> None:
    generator = np.random.default_rng(3)
    luck, own = generator.normal(0.0, 100.0, 50), generator.normal(1.0, 0.1, 50)
    found = paired_difference(luck + own, luck)
    assert found.standard_error == pytest.approx(own.std(ddof=1) / math.sqrt(50), rel=1e-9)
    assert found.low > 0


def test_one_scenario_has_a_difference_and_no_interval() -> None:
    found = paired_difference(np.array([5.0]), np.array([3.0]))
    assert found.mean == 2.0
    assert math.isnan(found.high)


@pytest.mark.parametrize("count", [0, 4])
def test_costs_of_different_scenarios_or_of_none_are_not_compared(count: int) -> None:
    with pytest.raises(ValueError, match="the same scenarios"):
        paired_difference(np.zeros(0 if count == 0 else 3), np.zeros(count))
