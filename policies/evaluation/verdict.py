"""Whether a log can answer at all: refuse, answer in part, or answer, with the reason in words.

The thresholds are this project's own law; they were set so that logs with support are answered and logs without it
(one row carrying the estimate, propensities that do not fit the log) are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, final

from policies.evaluation.bounds import RewardBounds, WeightBound
from policies.evaluation.intervals import Interval

Verdict = Literal["refuse", "partial", "answer"]

LEAST_UNITS: Final = 30.0
ENOUGH_UNITS: Final = 200.0
LARGEST_SHARE: Final = 0.25
LARGE_SHARE: Final = 0.10
LARGEST_DEVIATION: Final = 0.10
LARGE_DEVIATION: Final = 0.03
SIGNIFICANT_ERRORS: Final = 4.0
LARGE_MISSING_SHARE: Final = 0.05
WIDE_INTERVAL: Final = 0.5

_ROUNDING: Final = 1e-9
"""Sums of equal weights miss a threshold that they meet in their last digits: 30 units count as 30."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnostics:
    """Say how well a log supports a target.

    Attributes:
        row_count: rows that were weighted.
        effective_units: (Σw)² ÷ Σw² over units.
        largest_share: the largest unit's share of Σw.
        mean_weight: of the rows; None without rows. It is one when propensities are right.
        mean_weight_error: its standard error over units; None below two units.
        excluded: rows that could not be weighted.
        pending: rows without a reward yet.
        weight_bound: the largest possible weight and where it is known from.
        interval: of the value, before the verdict.
        reward: the bounds of the reward.
    """

    row_count: int
    effective_units: float
    largest_share: float
    mean_weight: float | None
    mean_weight_error: float | None
    excluded: int
    pending: int
    weight_bound: WeightBound
    interval: Interval
    reward: RewardBounds


class Judgment(NamedTuple):
    """A verdict and its reason: what was found, which threshold it was held against, what to do."""

    verdict: Verdict
    reason: str


class _Doubt(NamedTuple):
    """One threshold that was crossed."""

    verdict: Verdict
    finding: str
    advice: str


def judge(found: Diagnostics) -> Judgment:
    """Return whether the log can say what the target is worth.

    *refuse*: effective units < 30, or one unit over 25 % of the weight, or the mean weight off one by more than 0.1
    and four standard errors, or no weight at all. *partial*: effective units < 200, or one unit over 10 %, or off by
    more than 0.03 and four standard errors, or excluded and pending rows over 5 %, or the weight bound read off the
    log and the interval wider than half the range. Else *answer*.
    """
    if not found.row_count:
        return Judgment("refuse", "the log holds no row that can be weighted")
    if not found.mean_weight:
        return Judgment("refuse", "the target never takes a logged action: all weights are 0")
    doubts = [*_support(found), *_calibration(found), *_completeness(found)]
    for verdict in ("refuse", "partial"):
        grave = [doubt for doubt in doubts if doubt.verdict == verdict]
        if grave:
            return Judgment(verdict, _in_words(grave) + _note(found))
    return Judgment(
        "answer",
        f"{_count(found.effective_units)} effective units, at most {found.largest_share:.1%} of the weight on one, "
        f"weights average to {found.mean_weight:.4g}" + _note(found),
    )


def _support(found: Diagnostics) -> Iterator[_Doubt]:
    advice = "explore more, or choose a target nearer to the policy that logged"
    units = f"only {_count(found.effective_units)} effective units"
    share = f"one unit carries {found.largest_share:.1%}"
    if found.effective_units < LEAST_UNITS * (1 - _ROUNDING):
        yield _Doubt("refuse", f"{units}, at least {LEAST_UNITS:g} are needed", advice)
    elif found.effective_units < ENOUGH_UNITS * (1 - _ROUNDING):
        yield _Doubt("partial", f"{units}, below {ENOUGH_UNITS:g} intervals are wide", f"collect more, {advice}")
    if found.largest_share > LARGEST_SHARE + _ROUNDING:
        yield _Doubt("refuse", f"{share} of the weight, at most {LARGEST_SHARE:.0%} is borne", advice)
    elif found.largest_share > LARGE_SHARE + _ROUNDING:
        yield _Doubt("partial", f"{share} of the weight, more than {LARGE_SHARE:.0%}", advice)


def _calibration(found: Diagnostics) -> Iterator[_Doubt]:
    mean, error = found.mean_weight, found.mean_weight_error
    if mean is None or error is None or abs(mean - 1.0) <= SIGNIFICANT_ERRORS * error:
        return
    finding = f"weights average to {mean:.4g}, not to 1: off by more than {SIGNIFICANT_ERRORS:g} standard errors"
    advice = "check propensities, eligible actions and the encoding"
    if abs(mean - 1.0) > LARGEST_DEVIATION + _ROUNDING:
        yield _Doubt("refuse", f"{finding} ({error:.2g} each) and by more than {LARGEST_DEVIATION:g}", advice)
    elif abs(mean - 1.0) > LARGE_DEVIATION + _ROUNDING:
        yield _Doubt("partial", f"{finding} ({error:.2g} each) and by more than {LARGE_DEVIATION:g}", advice)


def _completeness(found: Diagnostics) -> Iterator[_Doubt]:
    missing = found.excluded + found.pending
    share = missing / (found.row_count + missing)
    if share > LARGE_MISSING_SHARE:
        counts = f"{found.excluded:,} excluded, {found.pending:,} pending"
        finding = f"{share:.1%} of the rows are left out ({counts}), more than {LARGE_MISSING_SHARE:.0%}"
        yield _Doubt("partial", finding, "wait for their rewards, or mind that the rows left may differ from them")
    width = (found.interval.high - found.interval.low) / (found.reward.high - found.reward.low)
    if found.weight_bound.source == "log" and width > WIDE_INTERVAL:
        finding = f"the interval spans {width:.0%} of the reward's range, more than {WIDE_INTERVAL:.0%}"
        yield _Doubt("partial", finding, "collect more, or say how large weights can be")


def _in_words(doubts: list[_Doubt]) -> str:
    advice = dict.fromkeys(doubt.advice for doubt in doubts)
    return "; ".join(doubt.finding for doubt in doubts) + ": " + "; ".join(advice)


def _note(found: Diagnostics) -> str:
    if found.weight_bound.source != "log":
        return ""
    return (
        f". The weight bound {found.weight_bound.value:,.6g} was read off the log, so the true interval may be wider: "
        "give --weight-bound, or log the propensity floor"
    )


def _count(value: float) -> str:
    """Return a count in words' form: whole from a thousand up, four digits below.

    >>> _count(10_000.0), _count(2.07812)
    ('10,000', '2.078')
    """
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"
