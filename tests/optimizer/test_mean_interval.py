import math

import numpy as np
import pytest

from optimizer.mean_interval import mean_interval


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (9, 2.26216), (99, 1.98422)]
)
def test_intervals_are_as_wide_as_the_tables_say(freedom: int, quantile: float) -> None:
    """Source: tables of Student's t, two-sided 95 %, to six digits."""
    found = mean_interval(np.random.default_rng(freedom).normal(size=freedom + 1))
    assert found.high - found.mean == pytest.approx(quantile * found.standard_error, rel=3e-6)


def test_the_interval_lies_about_the_mean() -> None:
    values = np.array([3.0, 5.0, 10.0])
    found = mean_interval(values)
    assert (found.mean, found.count) == (6.0, 3)
    assert found.standard_error == pytest.approx(math.sqrt(13.0 / 3.0), rel=1e-12)
    assert found.high - 6.0 == pytest.approx(4.30265 * math.sqrt(13.0 / 3.0), rel=1e-5)
    assert 6.0 - found.low == pytest.approx(found.high - 6.0, rel=1e-12)


def test_one_value_has_no_error() -> None:
    found = mean_interval(np.array([3.0]))
    assert found.mean == 3.0
    assert math.isnan(found.standard_error)


def test_95_of_100_intervals_hold_the_truth() -> None:
    generator = np.random.default_rng(1)
    found = [mean_interval(generator.standard_normal(5)) for _ in range(2000)]
    assert np.mean([one.low <= 0.0 <= one.high for one in found]) == pytest.approx(0.95, abs=0.015)  # 3 s.e.
