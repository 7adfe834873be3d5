"""Cressie–Read empirical-likelihood intervals of a policy's value, from sums alone.

The interval is of the value and not of an estimator: it asks which values could have produced the log, given that
weights average to one, lie in [0, bound], and rewards lie in their bounds. It holds where rewards are rare or overlap
is poor, where intervals of the mean plus or minus two standard errors cover 57–92 %.

Source: N. Karampatziakis, J. Langford, P. Mineiro, "Empirical Likelihood for Contextual Bandits" (2020),
arXiv 1906.03323: the Cressie–Read divergence of power −2, whose dual has a closed form.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import Final, NamedTuple

from policies.evaluation.bounds import RewardBounds
from policies.evaluation.sums import Sums

_SERIES_FROM = 100
_BISECTIONS = 64
_NO_SPREAD: Final = 1e-12
"""A variance below this share of its mean square is rounding: all points have the same weight."""


class Pairs(NamedTuple):
    """Sums over n units of w, the importance weight, and y, whose mean is the value; w averages to one."""

    n: float
    w: float
    y: float
    ww: float
    wy: float
    yy: float


class Line(NamedTuple):
    """The extreme y that a unit of weight w could have: slope * w + intercept."""

    slope: float
    intercept: float


class Interval(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


def weighted_interval(sums: Sums, *, confidence: float, weight_bound: float, reward: RewardBounds) -> Interval:
    """Return the interval of ips, clipped_ips and snips: of the pairs (w, w*r) by unit.

    A unit's total weight is divided by the mean number of rows per unit, so that it averages to one; the largest
    possible one grows with the largest unit.
    """
    t = sums.totals
    if not t.units:
        return Interval(*reward)
    k = t.rows / t.units
    pairs = Pairs(t.units, t.weight / k, t.ips / k, t.weight_weight / k**2, t.weight_ips / k**2, t.ips_ips / k**2)
    return cressie_read(
        pairs,
        confidence=confidence,
        weight_high=weight_bound * sums.extremes.unit_rows / k,
        least=Line(reward.low, 0.0),
        largest=Line(reward.high, 0.0),
        bounds=reward,
    )


def corrected_interval(sums: Sums, *, confidence: float, weight_bound: float, reward: RewardBounds) -> Interval:
    """Return the interval of dm and dr: of the pairs (w, w*(r − q_logged) + q_target) by unit.

    dm shares it because the spread of its own rows says nothing of the model's error.
    """
    t = sums.totals
    if not t.units:
        return Interval(*reward)
    k = t.rows / t.units
    pairs = Pairs(t.units, t.weight / k, t.dr / k, t.weight_weight / k**2, t.weight_dr / k**2, t.dr_dr / k**2)
    sizes = -sums.extremes.negated_unit_rows / k, sums.extremes.unit_rows / k
    low, high = -sums.extremes.negated_prediction, sums.extremes.prediction
    return cressie_read(
        pairs,
        confidence=confidence,
        weight_high=weight_bound * sizes[1],
        least=Line(reward.low - high, min(low * size for size in sizes)),
        largest=Line(reward.high - low, max(high * size for size in sizes)),
        bounds=reward,
    )


def cressie_read(
    pairs: Pairs, *, confidence: float, weight_high: float, least: Line, largest: Line, bounds: RewardBounds
) -> Interval:
    """Return the empirical-likelihood interval of the mean of y, given that w averages to one.

    Args:
        pairs: the sums; n at least one.
        confidence: in (0, 1).
        weight_high: the largest *possible* w, at least the largest one seen and at least one.
        least: the smallest y that is possible at a weight; an imaginary unit there keeps the lower end honest.
        largest: the largest one, for the upper end.
        bounds: what the value can be at all; both are returned where no distribution fits the sums.

    Deviations from the paper: besides the imaginary units of weight 0 and `weight_high` one of weight 1 is tried.
    Where weights hardly vary the two say next to nothing (rare rewards, all weights 1: coverage .62–.88 without it,
    .98–1.0 with it); elsewhere it never gives the end. Points without spread of w leave the constraint out.

    >>> ends = cressie_read(Pairs(100, 100, 20, 100, 20, 20), confidence=0.95, weight_high=1.0,
    ...                     least=Line(0.0, 0.0), largest=Line(1.0, 0.0), bounds=RewardBounds(0.0, 1.0))
    >>> round(ends.low, 3), round(ends.high, 3)
    (0.11, 0.298)
    """
    threshold = _threshold(pairs, confidence=confidence, weight_high=weight_high)
    weights = sorted({0.0, 1.0, weight_high})
    lows = _ends(pairs, weights, line=least, threshold=threshold)
    mirrored = pairs._replace(y=-pairs.y, wy=-pairs.wy)
    mirrored_line = Line(-largest.slope, -largest.intercept)
    highs = _ends(mirrored, weights, line=mirrored_line, threshold=threshold)
    low = max(bounds.low, min(lows, default=bounds.low))
    high = min(bounds.high, -min(highs, default=-bounds.high))
    return Interval(low, high) if low <= high else Interval(*bounds)


def _threshold(pairs: Pairs, *, confidence: float, weight_high: float) -> float:
    """Return φ: how far from uniform the points' probabilities may be, best fit and quantile together."""
    n = pairs.n
    w = weight_high if pairs.w < n else 0.0
    a, b = (w + pairs.w) / (1 + n), (w * w + pairs.ww) / (1 + n)
    spread = b - a * a
    best = (1 + n) * (a - 1) ** 2 / spread if spread > _NO_SPREAD * b else 0.0
    return -(best + f_quantile(confidence, n)) / (2 * (1 + n))


def _ends(pairs: Pairs, weights: list[float], *, line: Line, threshold: float) -> Iterator[float]:
    """Yield the lower end for each imaginary unit that leaves one; symbols are the paper's."""
    n = pairs.n
    for v in weights:
        r = line.slope * v + line.intercept
        w, y = (v + pairs.w) / (1 + n), (r + pairs.y) / (1 + n)
        ww, wy, yy = (v * v + pairs.ww) / (1 + n), (v * r + pairs.wy) / (1 + n), (r * r + pairs.yy) / (1 + n)
        spread = ww - w * w
        center, share, slack = y, 0.0, threshold
        if spread > _NO_SPREAD * ww:
            covariance = wy - w * y
            center += (1 - w) * covariance / spread
            share = covariance * covariance / spread
            slack += (1 - w) ** 2 / (2 * spread)
        residual = min(share - (yy - y * y), 0.0)  # never positive but for rounding (Cauchy–Schwarz)
        if slack <= 0:
            yield center - math.sqrt(2 * residual * slack)


@lru_cache(maxsize=1024)
def f_quantile(confidence: float, n: float) -> float:
    """Return the quantile of the F distribution with 1 and n degrees of freedom: the squared quantile of Student's t.

    Args:
        confidence: in (0, 1); the mass below the quantile.
        n: degrees of freedom, a whole number of at least one.

    Raises:
        ValueError: an argument is outside its range.

    Source: M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and 26.7.4 (the finite sums
    of Student's t, exact, below 100) and 26.7.5 (the expansion around the normal quantile, to 6e-10 from 100 on).

    >>> round(f_quantile(0.95, 10), 6)
    4.964603
    """
    if not 0.0 < confidence < 1.0 or n < 1 or n != int(n):
        raise ValueError(f"expected confidence in (0, 1) and a whole n of at least 1, found {confidence} and {n}")
    t = _t_by_bisection(confidence, int(n)) if n < _SERIES_FROM else _t_by_series(confidence, n)
    return t * t


def _t_by_series(confidence: float, n: float) -> float:
    x = NormalDist().inv_cdf((1 + confidence) / 2)
    return (
        x
        + (x**3 + x) / (4 * n)
        + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * n**2)
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * n**3)
        + (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / (92160 * n**4)
    )


def _t_by_bisection(confidence: float, n: int) -> float:
    low, high = 0.0, math.pi / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _mass_within(middle, n) < confidence:
            low = middle
        else:
            high = middle
    return math.tan((low + high) / 2) * math.sqrt(n)


def _mass_within(theta: float, n: int) -> float:
    """Return the mass of Student's t within ±√n tan θ: the regularized incomplete beta function as a finite sum."""
    sine, cosine_squared = math.sin(theta), math.cos(theta) ** 2
    term, total = (1.0, 0.0) if n % 2 == 0 else (math.cos(theta), 0.0)
    for index in range(n // 2):
        total += term
        step = (2 * index + 1) / (2 * index + 2) if n % 2 == 0 else (2 * index + 2) / (2 * index + 3)
        term *= cosine_squared * step
    return sine * total if n % 2 == 0 else 2 / math.pi * (theta + sine * total)
