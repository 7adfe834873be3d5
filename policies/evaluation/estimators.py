"""What a policy would have earned, estimated from a log of another: read this page first.

    log × target ─▶ Scored ─▶ Sums ─▶ estimate() ─▶ {name: Estimate}
                    (rows)    (merge)  value, interval, verdict

With w = target probability ÷ propensity, r the reward, and q a model's reward (of the logged action, or its mean under
the target), each estimator says what it averages per row and how its value follows from the sums.
"""

import math
from collections.abc import Iterable
from typing import Final, Protocol, final

import msgspec

from policies.errors import UsageProblem
from policies.evaluation.bounds import (
    RewardBounds,
    WeightBound,
    WeightBoundSource,
    checked_reward_bounds,
    checked_weight_bound,
)
from policies.evaluation.intervals import Interval, corrected_interval, weighted_interval
from policies.evaluation.scored import Column, Scored
from policies.evaluation.sums import DEFAULT_CLIP, Sums
from policies.evaluation.verdict import Diagnostics, Verdict, judge


class UnableToEstimate(UsageProblem):
    """An estimator is not known, or needs predictions that the log does not hold."""


class Estimator(Protocol):
    """Define an estimator by its rows and by its value from sums; the two agree by law."""

    @property
    def name(self) -> str:
        """The name in reports and on the command line."""

    def rows(self, scored: Scored) -> tuple[Column, Column]:
        """Return per row the weight w and what is averaged y, float64 [N] each."""

    def value(self, sums: Sums) -> float:
        """Return the estimate; sums hold at least one row, and a weight above zero."""

    def standard_error(self, sums: Sums) -> float | None:
        """Return the standard error over units (rows of a unit may be correlated), None below two units."""


@final
class IPS:
    """Inverse propensity scoring: mean(w r). D. Horvitz, D. Thompson, J. Am. Stat. Assoc. 47 (1952)."""

    name = "ips"

    def rows(self, scored: Scored) -> tuple[Column, Column]:
        return scored.weight, scored.weight * scored.reward

    def value(self, sums: Sums) -> float:
        return sums.totals.ips / sums.totals.rows

    def standard_error(self, sums: Sums) -> float | None:
        t = sums.totals
        return error_of_ratio(t.units, y=t.ips, x=t.rows, yy=t.ips_ips, xy=t.rows_ips, xx=t.rows_rows)


@final
class ClippedIPS:
    """Clipped inverse propensity scoring: mean(min(w, clip) r). E. Ionides, J. Comput. Graph. Stat. 17 (2008)."""

    name = "clipped_ips"

    def __init__(self, *, clip: float = DEFAULT_CLIP) -> None:
        self.clip = clip

    def rows(self, scored: Scored) -> tuple[Column, Column]:
        weight = scored.weight.clip(max=self.clip)
        return weight, weight * scored.reward

    def value(self, sums: Sums) -> float:
        return sums.totals.clipped / sums.totals.rows

    def standard_error(self, sums: Sums) -> float | None:
        t = sums.totals
        return error_of_ratio(t.units, y=t.clipped, x=t.rows, yy=t.clipped_clipped, xy=t.rows_clipped, xx=t.rows_rows)


@final
class SNIPS:
    """Self-normalized scoring: Σ w r ÷ Σ w. A. Swaminathan, T. Joachims, NeurIPS 28 (2015).

    The standard error is that of the ratio (delta method): the denominator is random too.
    """

    name = "snips"

    def rows(self, scored: Scored) -> tuple[Column, Column]:
        return scored.weight, scored.weight * scored.reward

    def value(self, sums: Sums) -> float:
        return sums.totals.ips / sums.totals.weight

    def standard_error(self, sums: Sums) -> float | None:
        t = sums.totals
        return error_of_ratio(t.units, y=t.ips, x=t.weight, yy=t.ips_ips, xy=t.weight_ips, xx=t.weight_weight)


@final
class DM:
    """The direct method: mean(q_target). A. Beygelzimer, J. Langford, KDD 15 (2009).

    Its standard error is that of dr, because the spread of q_target says nothing of the model's own error.
    """

    name = "dm"

    def rows(self, scored: Scored) -> tuple[Column, Column]:
        return scored.weight, _predictions(scored)[1]

    def value(self, sums: Sums) -> float:
        return sums.totals.dm / sums.totals.rows

    def standard_error(self, sums: Sums) -> float | None:
        return DR().standard_error(sums)


@final
class DR:
    """Doubly robust: mean(q_target + w (r − q_logged)). M. Dudík, J. Langford, L. Li, ICML 28 (2011)."""

    name = "dr"

    def rows(self, scored: Scored) -> tuple[Column, Column]:
        q_logged, q_target = _predictions(scored)
        return scored.weight, q_target + scored.weight * (scored.reward - q_logged)

    def value(self, sums: Sums) -> float:
        return sums.totals.dr / sums.totals.rows

    def standard_error(self, sums: Sums) -> float | None:
        t = sums.totals
        return error_of_ratio(t.units, y=t.dr, x=t.rows, yy=t.dr_dr, xy=t.rows_dr, xx=t.rows_rows)


WEIGHTED: Final[tuple[Estimator, ...]] = (IPS(), ClippedIPS(), SNIPS())
"""These share the interval of (w, w r)."""

CORRECTED: Final[tuple[Estimator, ...]] = (DM(), DR())
"""These need predictions and share the interval of (w, w (r - q_logged) + q_target)."""

NAMES: Final = tuple(estimator.name for estimator in (*WEIGHTED, *CORRECTED))


@final
class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Say what a policy would have earned, how sure that is, and whether the log could tell.

    Attributes:
        value: in units of the reward; None only when no logged action has any weight.
        low, high: the interval of the policy's value at `confidence`; it need not hold `value`. Of a refusal: the
            reward's bounds.
        standard_error: of the value over units; None below two units.
        row_count, unit_count: rows that were weighted and their units.
        effective_units: (Σw)² ÷ Σw² over units: as many equally weighted ones would say as much.
        largest_weight: of a row.
        largest_share: of the total weight, on one unit.
        mean_weight: one when propensities are right; None without rows.
        excluded, pending: rows that could not be weighted, or whose reward is not known yet.
        verdict, reason: refuse | partial | answer, and why.
    """

    value: float | None
    low: float
    high: float
    confidence: float
    standard_error: float | None
    row_count: int
    unit_count: int
    effective_units: float
    largest_weight: float
    largest_share: float
    mean_weight: float | None
    excluded: int
    pending: int
    verdict: Verdict
    reason: str


def estimate(
    sums: Sums,
    *,
    reward_low: float,
    reward_high: float,
    estimators: Iterable[str] = NAMES,
    confidence: float = 0.95,
    weight_bound: float | None = None,
    weight_bound_source: WeightBoundSource = "flag",
) -> dict[str, Estimate]:
    """Return the estimates by name, in the order of `NAMES`; dm and dr only when the sums hold predictions.

    Args:
        sums: of the log scored for one target.
        reward_low: the least possible reward.
        reward_high: the largest one.
        estimators: the names that are wanted.
        confidence: of the intervals, in (0, 1).
        weight_bound: the largest possible weight of a row; None to read it off the log, which the reason then says.
        weight_bound_source: where the bound is from.

    Raises:
        UnableToEstimate: an estimator is unknown, or confidence lies outside (0, 1).
        UnableToBound: a weight or a reward lies outside its bounds.
        UnableToTrustFloor: a weight lies above the bound that the log's propensity floor gives.

    >>> import numpy as np
    >>> half = np.full(400, 0.5)
    >>> sums = Sums.empty().add(Scored(reward=np.arange(400) % 2, propensity=half, target=half))
    >>> ips = estimate(sums, reward_low=0, reward_high=1, weight_bound=2)["ips"]
    >>> ips.value, ips.verdict, ips.low < 0.5 < ips.high
    (0.5, 'answer', True)
    """
    wanted = _checked(set(estimators), confidence)
    reward = checked_reward_bounds(sums, bounds=(reward_low, reward_high))
    bound = checked_weight_bound(sums, bound=weight_bound, source=weight_bound_source)
    groups = [(WEIGHTED, weighted_interval)]
    if sums.has_model:
        groups.append((CORRECTED, corrected_interval))
    estimates: dict[str, Estimate] = {}
    for members, interval_of in groups:
        interval = interval_of(sums, confidence=confidence, weight_bound=bound.value, reward=reward)
        found = diagnose(sums, interval=interval, weight_bound=bound, reward=reward)
        estimates |= {one.name: _estimate(one, sums, found, confidence) for one in members if one.name in wanted}
    return estimates


def diagnose(sums: Sums, *, interval: Interval, weight_bound: WeightBound, reward: RewardBounds) -> Diagnostics:
    """Return what a verdict is made of."""
    t = sums.totals
    return Diagnostics(
        row_count=sums.row_count,
        effective_units=t.weight**2 / t.weight_weight if t.weight_weight else 0.0,
        largest_share=sums.extremes.unit_weight / t.weight if t.weight else 0.0,
        mean_weight=t.weight / t.rows if t.rows else None,
        mean_weight_error=error_of_ratio(
            t.units, y=t.weight, x=t.rows, yy=t.weight_weight, xy=t.rows_weight, xx=t.rows_rows
        ),
        excluded=sums.excluded,
        pending=sums.pending,
        weight_bound=weight_bound,
        interval=interval,
        reward=reward,
    )


def error_of_ratio(units: float, *, y: float, x: float, yy: float, xy: float, xx: float) -> float | None:
    """Return the standard error of Σy ÷ Σx from sums over units, None below two units or without any x.

    Σ(y − v x)² = Σy² − 2 v Σxy + v² Σx² with v the ratio: the delta method, which for x = 1 is the ordinary standard
    error of the mean.

    Source: W. Cochran, "Sampling Techniques", 3rd ed. (1977), equation 6.13.

    >>> error_of_ratio(4, y=2, x=4, yy=2, xy=2, xx=4)
    0.28867513459481287
    """
    if units < 2 or x == 0.0:
        return None
    ratio = y / x
    squares = max(yy - 2 * ratio * xy + ratio * ratio * xx, 0.0)
    return math.sqrt(squares * units / (units - 1)) / abs(x)


def _estimate(estimator: Estimator, sums: Sums, found: Diagnostics, confidence: float) -> Estimate:
    verdict, reason = judge(found)
    low, high = found.reward if verdict == "refuse" else found.interval
    return Estimate(
        value=estimator.value(sums) if found.mean_weight else None,
        low=low,
        high=high,
        confidence=confidence,
        standard_error=estimator.standard_error(sums) if found.mean_weight else None,
        row_count=found.row_count,
        unit_count=sums.unit_count,
        effective_units=found.effective_units,
        largest_weight=max(sums.extremes.weight, 0.0),
        largest_share=found.largest_share,
        mean_weight=found.mean_weight,
        excluded=found.excluded,
        pending=found.pending,
        verdict=verdict,
        reason=reason,
    )


def _checked(names: set[str], confidence: float) -> set[str]:
    unknown = sorted(names - set(NAMES))
    if unknown:
        raise UnableToEstimate(f"unknown estimator {unknown[0]!r}; there are {', '.join(NAMES)}")
    if not 0.0 < confidence < 1.0:
        raise UnableToEstimate(f"confidence must lie between 0 and 1, found {confidence}")
    return names


def _predictions(scored: Scored) -> tuple[Column, Column]:
    if scored.q_logged is None or scored.q_target is None:
        raise UnableToEstimate("dm and dr need a model's predictions: columns q_logged and q_pi, or a reward model")
    return scored.q_logged, scored.q_target
