import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.evaluation.bounds import RewardBounds
from policies.evaluation.intervals import (
    Interval,
    Line,
    Pairs,
    corrected_interval,
    cressie_read,
    f_quantile,
    weighted_interval,
)
from policies.evaluation.scored import Column, Scored
from policies.evaluation.sums import Sums
from tests.helpers.bandit_logs import GRID, World

UNIT = RewardBounds(0.0, 1.0)
REPETITIONS = 60
NOMINAL = 0.95
AT_LEAST = NOMINAL - 2 * math.sqrt(NOMINAL * (1 - NOMINAL) / REPETITIONS)
"""Nominal less two standard errors of a share over the repetitions."""


def pairs_of(w: Column, y: Column) -> Pairs:
    return Pairs(len(w), w.sum(), y.sum(), (w * w).sum(), (w * y).sum(), (y * y).sum())


def of_rewards(w: Column, r: Column, *, bound: float) -> Interval:
    least, largest = Line(0.0, 0.0), Line(1.0, 0.0)
    return cressie_read(
        pairs_of(w, w * r), confidence=0.95, weight_high=bound, least=least, largest=largest, bounds=UNIT
    )


def share_of_t_within(quantile: float, n: int) -> float:
    # Simpson's rule on the density of Student's t: an independent way to the same number.
    x = np.linspace(0.0, math.sqrt(quantile), 4_001)
    log_scale = math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - 0.5 * math.log(n * math.pi)
    density = np.exp(log_scale - (n + 1) / 2 * np.log1p(x * x / n))
    weights = np.where(np.arange(4_001) % 2 == 1, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    return float(2 * (weights @ density) * x[1] / 3)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 31, 99, 100, 101, 500, 10_000])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_the_f_quantile_has_its_mass_below_it(n: int, confidence: float) -> None:
    # 1e-7 is the error of the quadrature at n = 1, where the quantile of .99 is 4,053.
    assert share_of_t_within(f_quantile(confidence, n), n) == pytest.approx(confidence, abs=1e-7)


@pytest.mark.parametrize(("n", "t"), [(1, 12.706), (2, 4.303), (5, 2.571), (10, 2.228), (30, 2.042), (120, 1.980)])
def test_the_f_quantile_is_the_tabulated_one(n: int, t: float) -> None:
    # Two-sided 5 % points of Student's t, R. Fisher and F. Yates, "Statistical Tables" (1963), table III.
    assert math.sqrt(f_quantile(0.95, n)) == pytest.approx(t, abs=5e-4)


def test_the_finite_sum_and_the_series_meet() -> None:
    step = f_quantile(0.95, 98) - f_quantile(0.95, 99)
    assert f_quantile(0.95, 99) - f_quantile(0.95, 100) == pytest.approx(step, rel=0.03)
    assert f_quantile(0.95, 10**9) == pytest.approx(NormalDist().inv_cdf(0.975) ** 2, rel=1e-8)


@pytest.mark.parametrize(("confidence", "n"), [(0.0, 10), (1.0, 10), (0.95, 0), (0.95, 2.5)])
def test_a_quantile_outside_its_range_is_a_programming_error(confidence: float, n: float) -> None:
    with pytest.raises(ValueError, match="expected confidence"):
        f_quantile(confidence, n)


def covers(interval: Interval, world: World) -> bool:
    return interval.low <= world.value <= interval.high


@pytest.mark.parametrize("name", GRID)
def test_the_interval_covers_the_true_value(name: str) -> None:
    world, generator = GRID[name], np.random.default_rng(5)
    noise = np.random.default_rng(1).uniform(0.5, 1.5, world.reward.shape)
    weighted, corrected = 0, 0
    for _ in range(REPETITIONS):
        sums = Sums.empty().add(world.log(1_000, generator, prediction=world.reward * noise))
        bound = world.weight_bound
        weighted += covers(weighted_interval(sums, confidence=0.95, weight_bound=bound, reward=UNIT), world)
        corrected += covers(corrected_interval(sums, confidence=0.95, weight_bound=bound, reward=UNIT), world)
    assert weighted / REPETITIONS >= AT_LEAST
    assert corrected / REPETITIONS >= AT_LEAST


def test_a_normal_interval_would_not_cover_there() -> None:
    world, generator, covered = GRID["poor overlap and rare reward"], np.random.default_rng(5), 0
    for _ in range(REPETITIONS):
        log = world.log(1_000, generator)
        y = log.weight * log.reward
        covered += abs(y.mean() - world.value) <= 1.96 * y.std() / math.sqrt(1_000)
    assert covered / REPETITIONS < AT_LEAST


def test_good_overlap_is_not_paid_for_with_width() -> None:
    # An earlier prototype's Cressie–Read interval was 0.22 of the value wide; 1.1 times that is the aim.
    world = GRID["good overlap"]
    sums = Sums.empty().add(world.log(1_000, np.random.default_rng(5)))
    low, high = weighted_interval(sums, confidence=0.95, weight_bound=world.weight_bound, reward=UNIT)
    assert (high - low) / world.value < 1.1 * 0.22


def lower_end_by_projection(w: Column, y: Column, *, bound: float, line: Line) -> float:
    # Reweight n points and an imaginary one by (1 + u) / N with Σu = 0 and Σuw = N(1 - mean w): the smallest mean of y
    # within Σu² ≤ radius² lies along what is left of y once it is projected off 1 and w. No closed form is used.
    def least(v: float, radius_squared: float) -> float:
        points_w, points_y = np.append(w, v), np.append(y, line.slope * v + line.intercept)
        count = len(points_w)
        basis = np.column_stack([np.ones(count), points_w])
        needed = np.array([0.0, count * (1 - points_w.mean())])
        nearest = np.linalg.pinv(basis.T) @ needed
        rest = points_y - basis @ np.linalg.lstsq(basis, points_y, rcond=None)[0]
        left = radius_squared - nearest @ nearest
        if left < 0:
            return math.inf
        return float(points_y.mean() + nearest @ points_y / count - math.sqrt(left * (rest @ rest)) / count)

    tilted = np.append(w, bound if w.sum() < len(w) else 0.0)
    best = len(tilted) * (1 - tilted.mean()) ** 2 / tilted.var()
    radius_squared = best + f_quantile(0.95, len(w)) + 1e-12
    return min(least(v, radius_squared) for v in (0.0, 1.0, bound))


@given(st.integers(0, 2**31), st.floats(6.0, 40.0), st.floats(-2.0, 2.0), st.floats(-1.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_the_closed_form_is_the_constrained_minimum(seed: int, bound: float, slope: float, intercept: float) -> None:
    generator = np.random.default_rng(seed)
    w = generator.exponential(size=60).clip(max=6.0)
    y = w * generator.normal(size=60)
    line, wide = Line(slope, intercept), RewardBounds(-100.0, 100.0)
    found = cressie_read(pairs_of(w, y), confidence=0.95, weight_high=bound, least=line, largest=line, bounds=wide)
    assert found.low == pytest.approx(lower_end_by_projection(w, y, bound=bound, line=line), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("bound", [1.0, 1.1, 20.0])
def test_rare_rewards_are_covered_where_all_weights_are_one(bound: float) -> None:
    # Without the imaginary unit of weight one 62 % are covered at bound 20.
    generator, covered, ones = np.random.default_rng(6), 0, np.ones(1_000)
    for _ in range(REPETITIONS):
        low, high = of_rewards(ones, (generator.random(1_000) < 0.001).astype(np.float64), bound=bound)
        covered += low <= 0.001 <= high
    assert covered / REPETITIONS >= AT_LEAST


def unequal_units() -> tuple[Sums, Column]:
    generator = np.random.default_rng(12)
    sizes = np.tile([1, 2, 9], 40)
    unit = np.repeat(np.sort(generator.integers(2**64, size=120, dtype=np.uint64)), sizes)
    count = int(sizes.sum())
    scored = Scored(
        reward=generator.random(count),
        propensity=np.full(count, 0.5),
        target=generator.uniform(0.1, 0.9, count),
        unit=unit,
        q_logged=generator.uniform(-0.5, 0.75, count),
        q_target=generator.uniform(-0.25, 0.5, count),
    )
    return Sums.empty().add(scored), sizes.astype(np.float64)


def test_the_largest_unit_bounds_the_weight_of_a_unit() -> None:
    sums, sizes = unequal_units()
    k, t = sizes.mean(), sums.totals
    expected = cressie_read(
        Pairs(120, t.weight / k, t.ips / k, t.weight_weight / k**2, t.weight_ips / k**2, t.ips_ips / k**2),
        confidence=0.95,
        weight_high=3.0 * 9 / k,
        least=Line(0.0, 0.0),
        largest=Line(1.0, 0.0),
        bounds=UNIT,
    )
    found = weighted_interval(sums, confidence=0.95, weight_bound=3.0, reward=UNIT)
    assert found == pytest.approx(expected, rel=1e-12)


def test_predictions_and_units_bound_what_a_corrected_unit_could_be() -> None:
    sums, sizes = unequal_units()
    k, t, largest = sizes.mean(), sums.totals, sums.extremes
    low, high = -largest.negated_prediction, largest.prediction
    assert low < 0.0 < high
    expected = cressie_read(
        Pairs(120, t.weight / k, t.dr / k, t.weight_weight / k**2, t.weight_dr / k**2, t.dr_dr / k**2),
        confidence=0.95,
        weight_high=3.0 * 9 / k,
        least=Line(0.0 - high, low * 9 / k),
        largest=Line(1.0 - low, high * 9 / k),
        bounds=UNIT,
    )
    found = corrected_interval(sums, confidence=0.95, weight_bound=3.0, reward=UNIT)
    assert found == pytest.approx(expected, rel=1e-12)
    assert 0.0 < found.low < found.high < 1.0


def test_equal_weights_do_not_divide_by_zero() -> None:
    for weight in (1.0, 1.0 - 1e-15, 1.0 + 1e-15):
        low, high = of_rewards(np.full(50, weight), np.zeros(50), bound=1.0 + 1e-15)
        assert low == 0.0
        assert 0.0 < high < 0.2


def test_an_end_beyond_the_bounds_is_the_bound() -> None:
    low, high = of_rewards(np.ones(2), np.array([0.0, 1.0]), bound=20.0)
    assert (low, high) == UNIT


def test_a_larger_possible_weight_widens_the_interval() -> None:
    log = GRID["rare reward"].log(1_000, np.random.default_rng(8))
    widths = [np.subtract(*of_rewards(log.weight, log.reward, bound=bound)[::-1]) for bound in (8.0, 20.0, 80.0)]
    assert widths == sorted(widths)
    assert widths[2] > 2 * widths[0]


@given(st.integers(0, 2**31), st.integers(1, 200), st.floats(1.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_ends_are_ordered_and_within_the_bounds(seed: int, count: int, bound: float) -> None:
    generator = np.random.default_rng(seed)
    w = generator.exponential(size=count).clip(max=bound)
    low, high = of_rewards(w, generator.integers(0, 2, count).astype(np.float64), bound=bound)
    assert 0.0 <= low <= high <= 1.0


@given(st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_turning_rewards_around_turns_the_interval_around(seed: int) -> None:
    generator = np.random.default_rng(seed)
    w = generator.exponential(size=100)
    r = generator.random(100)
    low, high = of_rewards(w, r, bound=20.0)
    mirrored = cressie_read(
        pairs_of(w, -w * r),
        confidence=0.95,
        weight_high=20.0,
        least=Line(-1.0, 0.0),
        largest=Line(0.0, 0.0),
        bounds=RewardBounds(-1.0, 0.0),
    )
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


def test_more_confidence_is_a_wider_interval() -> None:
    sums = Sums.empty().add(GRID["good overlap"].log(1_000, np.random.default_rng(9)))
    widths = [
        np.subtract(*weighted_interval(sums, confidence=confidence, weight_bound=9.0, reward=UNIT)[::-1])
        for confidence in (0.5, 0.9, 0.99)
    ]
    assert widths == sorted(widths)


def test_the_unit_covers_where_its_rows_alone_do_not() -> None:
    # 100 units of 1 to 39 rows; the reward is one draw per unit, the weights are independent.
    generator, by_unit, by_row = np.random.default_rng(10), 0, 0
    for _ in range(REPETITIONS):
        sizes = generator.integers(1, 40, size=100)
        unit = np.repeat(generator.integers(2**64, size=100, dtype=np.uint64), sizes)
        reward = np.repeat((generator.random(100) < 0.3).astype(np.float64), sizes)
        target = np.where(generator.random(len(unit)) < 0.5, 0.7, 0.3)
        propensity = np.full(len(unit), 0.5)
        units = Sums.empty().add(Scored(reward=reward, propensity=propensity, target=target, unit=unit))
        rows = Sums.empty().add(Scored(reward=reward, propensity=propensity, target=target))
        for sums, is_unit in ((units, True), (rows, False)):
            low, high = weighted_interval(sums, confidence=0.95, weight_bound=2.0, reward=UNIT)
            by_unit += is_unit and low <= 0.3 <= high
            by_row += not is_unit and low <= 0.3 <= high
    assert by_unit / REPETITIONS >= AT_LEAST
    assert by_row / REPETITIONS < 0.7


def test_equal_units_have_the_interval_of_their_mean_row() -> None:
    generator = np.random.default_rng(11)
    w, r = generator.exponential(size=100), generator.random(100)
    unit = np.repeat(np.sort(generator.integers(2**64, size=100, dtype=np.uint64)), 3)
    # Three equal rows per unit carry no more than one.
    scored = Scored(reward=np.repeat(r, 3), propensity=np.full(300, 0.01), target=np.repeat(w, 3) / 100, unit=unit)
    by_unit = weighted_interval(Sums.empty().add(scored), confidence=0.95, weight_bound=20.0, reward=UNIT)
    assert by_unit == pytest.approx(of_rewards(w, r, bound=20.0), rel=1e-9)


def test_no_rows_have_the_bounds() -> None:
    for interval_of in (weighted_interval, corrected_interval):
        interval = interval_of(Sums.empty(), confidence=0.95, weight_bound=2.0, reward=UNIT)
        assert interval == Interval(0.0, 1.0)
