"""What rewards and importance weights can be at most: intervals hold for what is possible, not for what was seen."""

import math
from typing import Final, Literal, NamedTuple

from policies.errors import ContentRefused, UsageProblem
from policies.evaluation.sums import Sums

WeightBoundSource = Literal["flag", "floor", "log"]

_ROUNDING: Final = 1e-9  # a bound that is itself a quotient may miss the weight it bounds in its last digits


class UnableToBound(UsageProblem):
    """Bounds of rewards or weights cannot be told, or what was found lies outside those given."""


class UnableToTrustFloor(ContentRefused):
    """The log holds a weight that its own propensity floor rules out."""


class WeightBound(NamedTuple):
    """The largest possible importance weight of a row and where it is known from."""

    value: float
    source: WeightBoundSource


class RewardBounds(NamedTuple):
    """The least and the largest possible reward."""

    low: float
    high: float


def checked_weight_bound(sums: Sums, *, bound: float | None, source: WeightBoundSource = "flag") -> WeightBound:
    """Return the bound of the weights, read off the log where none is given.

    Args:
        sums: of the log.
        bound: the largest possible weight (largest target probability ÷ smallest propensity), at least one because
            weights average to one; None where nothing but the log tells.
        source: where the bound is from; what is read off the log is always "log".

    Raises:
        UnableToBound: the bound is not a number from one up, or a larger weight was found.
        UnableToTrustFloor: the same for a bound that the log's propensity floor gave.
    """
    largest = max(sums.extremes.weight, 0.0)
    if bound is None or source == "log":
        return WeightBound(max(largest, 1.0), "log")
    if source == "flag" and not (math.isfinite(bound) and bound >= 1.0):
        raise UnableToBound(f"the weight bound must be a number of at least 1 (weights average to 1), found {bound}")
    if largest > bound * (1.0 + _ROUNDING):
        raise _weight_above(largest, bound, source)
    return WeightBound(max(bound, largest, 1.0), source)


def checked_reward_bounds(sums: Sums, *, bounds: tuple[float, float] | None) -> RewardBounds:
    """Return the bounds of the reward, [0, 1] where none are given and all rewards lie there.

    Raises:
        UnableToBound: no bounds are given and a reward lies outside [0, 1]; or bounds are given and are not two
            numbers in ascending order, or a reward lies outside them.
    """
    low, high = (0.0, 1.0) if bounds is None else bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UnableToBound(f"reward bounds must be two numbers, the lower one first, found {low}, {high}")
    seen_low, seen_high = -sums.extremes.negated_reward, sums.extremes.reward
    slack = _ROUNDING * (high - low)
    if seen_high > high + slack or seen_low < low - slack:
        given = "no bounds were given" if bounds is None else f"the bounds given are [{low:.6g}, {high:.6g}]"
        raise UnableToBound(
            f"rewards lie in [{seen_low:.6g}, {seen_high:.6g}] and {given}; say what a reward can be at least and at "
            "most, in the spec or with --reward-bounds LOW,HIGH"
        )
    return RewardBounds(low, high)


def _weight_above(largest: float, bound: float, source: WeightBoundSource) -> UsageProblem | ContentRefused:
    found = f"the largest importance weight found is {largest:.6g}, above the weight bound {bound:.6g}"
    if source == "floor":
        return UnableToTrustFloor(f"{found} that the propensity floor gives: some propensity lies below its floor")
    return UnableToBound(f"{found}; give a bound of at least {largest:.6g}, or none to read it off the log")
