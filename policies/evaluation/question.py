"""What is asked of a log, and what it gives for one target and one objective, whatever the log is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from policies.errors import UsageProblem
from policies.evaluation.bounds import WeightBoundSource
from policies.evaluation.sums import DEFAULT_CLIP, Sums
from policies.evaluation.targets import Reference, Target
from policies.spec import PolicySpec

SUM = "sum"
LOGGED = "logged"


class UnableToAsk(UsageProblem):
    """A question contradicts itself, or asks for a reward that the log does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Name what is maximized: the weighted sum of some rewards, within `bounds` where the spec tells them."""

    name: str
    weights: Mapping[str, float]
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Hold a question about a log.

    Attributes:
        targets: the policies in question, by distinct names.
        rewards: names and weights as asked; no weight at all asks for one answer per reward, any weight for the
            weighted sum of all named (weight 1 where none is given). Empty: every reward of the log.
        confidence: of the intervals, in (0, 1).
        clip: what clipped_ips cuts weights at.
        weight_bound: the largest possible weight; None to take it from the log's propensity floor or the log.
        reward_bounds: of every reward whose bounds the spec does not tell.
        reward_model: an ONNX file that dm and dr take predictions from; None for the default model.

    Raises:
        UnableToAsk: nothing is asked, a name stands twice, or clip is not positive.
    """

    targets: Sequence[Target]
    rewards: Sequence[tuple[str, float | None]] = ()
    confidence: float = 0.95
    clip: float = DEFAULT_CLIP
    weight_bound: float | None = None
    reward_bounds: tuple[float, float] | None = None
    reward_model: Path | None = None

    def __post_init__(self) -> None:
        if not self.targets:
            raise UnableToAsk("name at least one target: --target NAME=REF")
        for what, names in (("target", [t.name for t in self.targets]), ("reward", [name for name, _ in self.rewards])):
            if len(set(names)) != len(names):
                raise UnableToAsk(f"a {what} is named twice: {', '.join(names)}")
        if any(t.name == LOGGED and t.reference.kind != "logged" for t in self.targets):
            raise UnableToAsk(
                "the name 'logged' is kept for the policy that wrote the log; choose another for the target"
            )
        if not 0.0 < self.confidence < 1.0:
            raise UnableToAsk(f"confidence must lie between 0 and 1, found {self.confidence}")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise UnableToAsk(f"clip must be a positive number, found {self.clip}")

    @property
    def targets_and_log(self) -> tuple[Target, ...]:
        """The targets as asked, and the policy that wrote the log, which all of them are held against."""
        if any(target.reference.kind == "logged" for target in self.targets):
            return tuple(self.targets)
        return (*self.targets, Target(name=LOGGED, reference=Reference(kind="logged")))

    def objectives(self, known: Sequence[str], *, spec: PolicySpec | None = None) -> tuple[Objective, ...]:
        """Return what is to be maximized, given the rewards that the log has.

        Raises:
            UnableToAsk: a reward is asked for that the log does not have, or it has none.

        >>> question = Question(targets=[Target(name="u", reference=Reference(kind="uniform"))], rewards=[("a", 2.0)])
        >>> question.objectives(["a", "b"])
        (Objective(name='sum', weights={'a': 2.0}, bounds=None),)
        """
        asked = list(self.rewards) or [(name, None) for name in known]
        for name, _ in asked:
            if name not in known:
                raise UnableToAsk(f"there is no reward {name!r} in the log; it has {', '.join(known) or 'none'}")
        if not asked:
            raise UnableToAsk("the log has no reward: nothing tells what its actions earned")
        if all(weight is None for _, weight in asked):
            sets = [(name, {name: 1.0}) for name, _ in asked]
        else:
            sets = [(SUM, {name: 1.0 if weight is None else weight for name, weight in asked})]
        return tuple(
            Objective(name=name, weights=weights, bounds=self._bounds(weights, spec)) for name, weights in sets
        )

    def _bounds(self, weights: Mapping[str, float], spec: PolicySpec | None) -> tuple[float, float] | None:
        told = None if spec is None else spec.reward_bounds(weights)
        return self.reward_bounds if told is None else told


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """Hold the sums of a log weighed for one target.

    `weight_bound` follows from the propensity floor (source "floor") or is None, to be read off the log ("log").
    `notes` say what was left out and why.
    """

    sums: Sums
    weight_bound: float | None = None
    source: WeightBoundSource = "log"
    notes: Sequence[str] = ()


class WeighableLog(Protocol):
    """A log that can be weighed for targets."""

    @property
    def spec(self) -> PolicySpec | None:
        """The spec that the log was made by, None for bare columns."""

    @property
    def rewards(self) -> Sequence[str]:
        """The names of the rewards that the log has."""

    def weigh(self, target: Target, objective: Objective, *, question: Question) -> Weighed:
        """Weigh every row for a target."""
