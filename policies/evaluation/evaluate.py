"""From a log and a question to estimates, each with a verdict and held against the policy that wrote the log.

The largest possible weight is the flag's, else follows from the log's propensity floor, else is read off the log. The
bounds of a reward are the spec's, else the flag's, else [0, 1] where all rewards lie there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from policies.errors import ContentRefused
from policies.evaluation.bounds import RewardBounds, WeightBound, checked_reward_bounds, checked_weight_bound
from policies.evaluation.column_log import COLUMNS, ColumnLog
from policies.evaluation.estimators import Estimate, estimate
from policies.evaluation.question import Objective, Question, WeighableLog, Weighed
from policies.evaluation.targets import Target
from policies.log import LogNotFound
from policies.npz import UnableToReadArrays, load_npz

Format = Literal["feedback", "obd", "npz", "table"]


class UnableToReadLog(ContentRefused):
    """The file is not of the format that was named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Hold one estimate of one target for one reward, its bounds, and how it stands against the log's own policy.

    `better_than_log` holds when the verdict is *answer* and the interval lies above that of the policy that wrote the
    log, which `is_log` marks.
    """

    target: str
    estimator: str
    reward: str
    estimate: Estimate
    weight_bound: WeightBound
    reward_bounds: RewardBounds
    is_log: bool
    better_than_log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Hold the estimates, by target, then reward, then estimator; and what a reader should know beside them."""

    estimates: tuple[Judged, ...]
    notes: tuple[str, ...]


def evaluate(log: Path, *, format: Format, spec: Path | None, question: Question) -> Answer:  # noqa: A002
    """Answer a question about a log.

    Args:
        log: the file.
        format: what it is.
        spec: of a feedback log; None for the one beside it.
        question: the targets and what is possible at most.

    Raises:
        UsageProblem: a file is missing, a target or a reward is unknown, or bounds cannot be told.
        ContentRefused: the log's content cannot be weighed.
        Unable: an artifact does not pass a gate, or the file is damaged.
    """
    if format == "npz":
        return answer(question, log=read_npz(log))
    from policies.evaluation.feedback_log import open_log  # needs pyarrow, which npz does without

    return answer(question, log=open_log(log, format=format, spec=spec))


def read_npz(path: Path) -> ColumnLog:
    """Read a golden npz: the columns reward, pscore, p_eval, action, position [, unit, q_logged, q_pi].

    Raises:
        LogNotFound: the file is not there.
        UnableToReadLog: it is no npz.
    """
    try:
        return ColumnLog(load_npz(path.read_bytes(), where=str(path), needed=COLUMNS))
    except OSError as error:
        raise LogNotFound(f"expected a log at {path}: {error.strerror}") from error
    except UnableToReadArrays as error:
        raise UnableToReadLog(str(error)) from error


def answer(question: Question, *, log: WeighableLog) -> Answer:
    """Answer a question about an opened log; the policy that wrote it is always among the targets.

    Raises:
        UnableToBound: the bounds of a reward cannot be told, or a weight or reward lies outside its bounds.
        UsageProblem, ContentRefused: as `evaluate`.
    """
    objectives = question.objectives(log.rewards, spec=log.spec)
    weighed = {
        (t.name, o.name): log.weigh(t, o, question=question) for t in question.targets_and_log for o in objectives
    }
    baseline = next(t for t in question.targets_and_log if t.reference.kind == "logged")
    highs = {o.name: _highest(_judge(baseline, o, weighed[baseline.name, o.name], question)) for o in objectives}
    judged = [
        replace(one, better_than_log=_is_better(one, highs[one.reward]))
        for target in question.targets_and_log
        for objective in objectives
        for one in _judge(target, objective, weighed[target.name, objective.name], question)
    ]
    notes = [f"{name}: {note}" for (name, _), found in weighed.items() for note in found.notes]
    return Answer(estimates=tuple(judged), notes=tuple(dict.fromkeys(notes)))


def _judge(target: Target, objective: Objective, weighed: Weighed, question: Question) -> list[Judged]:
    """Return the estimates of one target for one objective, in the order of the estimators."""
    is_log = target.reference.kind == "logged"
    reward = _reward_bounds(weighed, objective)
    bound = _weight_bound(weighed, question, is_log=is_log)
    found = estimate(
        weighed.sums,
        reward_low=reward.low,
        reward_high=reward.high,
        confidence=question.confidence,
        weight_bound=bound.value,
        # The weights of the log's own policy are 1 by definition: a bound that is as sure as one from a flag.
        weight_bound_source="flag" if is_log else bound.source,
    )
    return [
        Judged(
            target=target.name,
            estimator=name,
            reward=objective.name,
            estimate=_say_log(one) if is_log else one,
            weight_bound=bound,
            reward_bounds=reward,
            is_log=is_log,
            better_than_log=False,
        )
        for name, one in found.items()
    ]


def _weight_bound(weighed: Weighed, question: Question, *, is_log: bool) -> WeightBound:
    if is_log:
        return WeightBound(1.0, "log")
    if question.weight_bound is not None:
        return checked_weight_bound(weighed.sums, bound=question.weight_bound, source="flag")
    return checked_weight_bound(weighed.sums, bound=weighed.weight_bound, source=weighed.source)


def _reward_bounds(weighed: Weighed, objective: Objective) -> RewardBounds:
    if weighed.sums.row_count:
        return checked_reward_bounds(weighed.sums, bounds=objective.bounds)
    return RewardBounds(*(objective.bounds or (0.0, 1.0)))  # without a row nothing contradicts any bounds


def _say_log(found: Estimate) -> Estimate:
    """Say in the reason why the bound of the log's own weights is exact."""
    return msgspec.structs.replace(found, reason=f"{found.reason}. All weights are 1: this is the log's own policy")


def _highest(judged: Sequence[Judged]) -> float:
    """Return the upper end of the log's own value; all its estimators share one interval."""
    return max(one.estimate.high for one in judged)


def _is_better(one: Judged, logged_high: float) -> bool:
    return not one.is_log and one.estimate.verdict == "answer" and one.estimate.low > logged_high
