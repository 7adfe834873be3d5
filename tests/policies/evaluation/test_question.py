import math

import pytest

from policies.evaluation.question import Question, UnableToAsk
from policies.evaluation.targets import Reference, Target
from policies.spec import ActionSet, PolicySpec, Reward

UNIFORM = Target(name="u", reference=Reference(kind="uniform"))
SPEC = PolicySpec(
    domain="shop",
    actions=ActionSet(kind="choice", ids=("left", "right")),
    rewards=(Reward(name="click", lower=0, upper=1), Reward(name="return", lower=-2, upper=0), Reward(name="free")),
)


def test_plain_rewards_are_one_objective_each() -> None:
    question = Question(targets=[UNIFORM], rewards=[("click", None), ("free", None)], reward_bounds=(-5.0, 5.0))
    found = question.objectives(["click", "return", "free"], spec=SPEC)
    assert [(o.name, o.weights, o.bounds) for o in found] == [
        ("click", {"click": 1.0}, (0.0, 1.0)),
        ("free", {"free": 1.0}, (-5.0, 5.0)),
    ]


def test_any_weight_makes_one_weighted_sum() -> None:
    question = Question(targets=[UNIFORM], rewards=[("click", 3.0), ("return", -1.0)])
    (found,) = question.objectives(["click", "return"], spec=SPEC)
    assert (found.name, found.bounds) == ("sum", (0.0, 5.0))


def test_without_a_flag_every_reward_is_asked_for() -> None:
    found = Question(targets=[UNIFORM]).objectives(["a", "b"])
    assert [objective.name for objective in found] == ["a", "b"]


def test_an_unknown_reward_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnableToAsk, match="no reward 'clicks' in the log; it has click"):
        Question(targets=[UNIFORM], rewards=[("clicks", None)]).objectives(["click"])


def test_the_policy_that_wrote_the_log_is_always_among_the_targets() -> None:
    assert [t.name for t in Question(targets=[UNIFORM]).targets_and_log] == ["u", "logged"]


def test_the_log_is_added_only_once() -> None:
    own = Target(name="before", reference=Reference(kind="logged"))
    assert [t.name for t in Question(targets=[own, UNIFORM]).targets_and_log] == ["before", "u"]


def test_another_policy_may_not_be_called_logged() -> None:
    with pytest.raises(UnableToAsk, match="kept for the policy that wrote the log"):
        Question(targets=[Target(name="logged", reference=Reference(kind="uniform"))])


def test_a_target_named_twice_is_refused() -> None:
    with pytest.raises(UnableToAsk, match="target is named twice"):
        Question(targets=[UNIFORM, UNIFORM])


@pytest.mark.parametrize("confidence", [0.0, 1.0, math.nan, 95.0])
def test_confidence_lies_between_zero_and_one(confidence: float) -> None:
    with pytest.raises(UnableToAsk, match="confidence"):
        Question(targets=[UNIFORM], confidence=confidence)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_clip_is_positive(clip: float) -> None:
    with pytest.raises(UnableToAsk, match="clip"):
        Question(targets=[UNIFORM], clip=clip)
