"""What a log gives for one target and one objective, whatever the log is: sums, and the largest possible weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from policies.evaluation.bounds import WeightBoundSource
from policies.evaluation.question import Objective, Question
from policies.evaluation.sums import Sums
from policies.evaluation.targets import Target
from policies.spec import PolicySpec


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
