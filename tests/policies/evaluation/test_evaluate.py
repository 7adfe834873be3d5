from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from policies.evaluation.bounds import UnableToBound, UnableToTrustFloor, WeightBound
from policies.evaluation.evaluate import UnableToReadLog, answer, read_npz
from policies.evaluation.question import Objective, Question, Weighed
from policies.evaluation.scored import Scored
from policies.evaluation.sums import Sums
from policies.evaluation.targets import Reference, Target
from policies.log import LogNotFound

UNIFORM = Target(name="u", reference=Reference(kind="uniform"))
COUNT = 1_000


class _Log:
    """A log of alternating rewards, which the target weighs by 0.5 and 1.5 in turn."""

    spec = None

    def __init__(
        self, rewards: Sequence[str] = ("click",), *, scale: float = 1.0, floor_bound: float | None = None
    ) -> None:
        self.rewards = rewards
        self._scale, self._floor_bound = scale, floor_bound

    def weigh(self, target: Target, objective: Objective, *, question: Question) -> Weighed:
        is_log = target.reference.kind == "logged"
        sign = np.arange(COUNT) % 2
        scored = Scored(
            reward=self._scale * sum(objective.weights.values()) * sign.astype(np.float64),
            propensity=np.full(COUNT, 0.5),
            target=np.full(COUNT, 0.5) if is_log else 0.25 + 0.5 * sign.astype(np.float64),
        )
        sums = Sums.empty(clip=question.clip).add(scored)
        notes = () if is_log else ("a note",)
        if self._floor_bound is None or is_log:
            return Weighed(sums=sums, notes=notes)
        return Weighed(sums=sums, weight_bound=self._floor_bound, source="floor", notes=notes)


def test_estimates_come_by_target_then_reward_then_estimator() -> None:
    found = answer(Question(targets=[UNIFORM]), log=_Log(("click", "stay")))
    assert [(one.target, one.reward, one.estimator) for one in found.estimates] == [
        (target, reward, estimator)
        for target in ("u", "logged")
        for reward in ("click", "stay")
        for estimator in ("ips", "clipped_ips", "snips")
    ]


def test_a_flag_comes_before_the_floor_and_the_floor_before_the_log() -> None:
    def bound_of(question: Question, log: _Log) -> WeightBound:
        return answer(question, log=log).estimates[0].weight_bound

    flagged = Question(targets=[UNIFORM], weight_bound=9.0)
    assert bound_of(flagged, _Log(floor_bound=4.0)) == (9.0, "flag")
    assert bound_of(Question(targets=[UNIFORM]), _Log(floor_bound=4.0)) == (4.0, "floor")
    assert bound_of(Question(targets=[UNIFORM]), _Log()) == (1.5, "log")


def test_a_floor_that_the_log_contradicts_is_refused() -> None:
    with pytest.raises(UnableToTrustFloor):
        answer(Question(targets=[UNIFORM]), log=_Log(floor_bound=1.2))


def test_the_bound_of_the_log_itself_is_one_whatever_is_asked() -> None:
    found = answer(Question(targets=[UNIFORM], weight_bound=9.0), log=_Log(floor_bound=4.0))
    logged = [one for one in found.estimates if one.is_log]
    assert {one.weight_bound for one in logged} == {(1.0, "log")}
    assert all("may be wider" not in one.estimate.reason for one in logged)


def test_better_than_the_log_needs_an_interval_above_it() -> None:
    found = answer(Question(targets=[UNIFORM], weight_bound=1.5), log=_Log())
    ours, logged = found.estimates[0], next(one for one in found.estimates if one.is_log)
    assert ours.estimate.low > logged.estimate.high
    assert ours.better_than_log
    assert not logged.better_than_log


def test_a_refused_log_shows_nothing_better() -> None:
    class _Short(_Log):
        def weigh(self, target: Target, objective: Objective, *, question: Question) -> Weighed:
            if target.reference.kind == "logged":
                return super().weigh(target, objective, question=question)
            few = np.ones(20)
            scored = Scored(reward=few, propensity=0.5 * few, target=0.5 * few)
            return Weighed(sums=Sums.empty(clip=question.clip).add(scored))

    found = answer(Question(targets=[UNIFORM]), log=_Short())
    assert found.estimates[0].estimate.verdict == "refuse"
    assert not found.estimates[0].better_than_log


def test_bounds_of_rewards_are_told_or_asked_for() -> None:
    question = Question(targets=[UNIFORM])
    with pytest.raises(UnableToBound, match="--reward-bounds"):
        answer(question, log=_Log(scale=3.0))
    told = answer(Question(targets=[UNIFORM], reward_bounds=(0.0, 3.0)), log=_Log(scale=3.0))
    assert told.estimates[0].reward_bounds == (0.0, 3.0)


def test_a_note_names_its_target_once() -> None:
    found = answer(Question(targets=[UNIFORM]), log=_Log(("click", "stay")))
    assert found.notes == ("u: a note",)


def test_a_missing_npz_and_a_file_that_is_none_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(LogNotFound):
        read_npz(tmp_path / "missing.npz")
    (tmp_path / "log.npz").write_text("nothing")
    with pytest.raises(UnableToReadLog):
        read_npz(tmp_path / "log.npz")
