"""The mean of independent draws with its t-interval."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """Hold a mean of `count` draws, its standard error, and the ends of its interval."""

    mean: float
    standard_error: float
    low: float
    high: float
    count: int


def mean_interval(values: NDArray[np.float64], *, confidence: float = 0.95) -> MeanInterval:
    """Return the mean of values float64 [n] with its t-interval; one value alone has no error: NaN.

    >>> found = mean_interval(np.array([1.0, 2.0, 3.0, 4.0]))
    >>> round(found.mean, 3), round(found.low, 2), round(found.high, 2)
    (2.5, 0.45, 4.55)
    """
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return MeanInterval(mean=mean, standard_error=math.nan, low=math.nan, high=math.nan, count=count)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    half = t_quantile((1.0 + confidence) / 2.0, freedom=count - 1) * error
    return MeanInterval(mean=mean, standard_error=error, low=mean - half, high=mean + half, count=count)


def t_quantile(probability: float, *, freedom: int) -> float:
    """Return the quantile of Student's t, to 2 in 1,000 for usual probabilities; exact for one and two degrees.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.

    >>> [round(t_quantile(0.975, freedom=freedom), 2) for freedom in (1, 2, 5, 30)]
    [12.71, 4.3, 2.57, 2.04]
    """
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        return (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    x, n = NormalDist().inv_cdf(probability), freedom
    return (
        x
        + (x**3 + x) / (4 * n)
        + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * n**2)
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * n**3)
        + (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / (92160 * n**4)
    )
