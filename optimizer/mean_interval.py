"""The mean of independent draws with its t-interval."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.evaluation.intervals import f_quantile


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
    half = math.sqrt(f_quantile(confidence, count - 1)) * error
    return MeanInterval(mean=mean, standard_error=error, low=mean - half, high=mean + half, count=count)
