"""What a domain brings to be trained; read this page first.

A domain fulfills one of three contracts, by what can be known of it:

* `SimulatedProblem`: its dynamics can be written as differentiable code. Training follows the gradient of the cost
  along the path (`training.pathwise`) or the score of sampled actions (`training.policy_gradient`).
* `TargetProblem`: its stages are programs that a solver solves. The policy proposes targets, the solver answers with
  the cost and the dual of the targets, which is the gradient (`training.dual`).
* `LoggedProblem`: only what was done, and what came of it, is known. Training weighs the log (`training.logged`).

Costs are minimized and rewards maximized; no function speaks of both. Tensors are torch's, batch first. What only
nature may know lies in the scenario, what the policy may see in the observation.
"""

# B scenario of a batch, N component of an action, T stage

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import msgspec
from torch import Tensor

from optimizer.baseline_report import BaselineReport
from optimizer.simulation_report import SimulationReport
from optimizer.training.progress import Progress
from optimizer.training.report import SimulatedReport, TrainReport
from policies.feedback import Feedback
from policies.spec import PolicySpec

Split = Literal["train", "validation", "test"]
"""Parts that share no scenario and no unit: fit on the first, choose on the second, report the third."""

Observation = dict[str, Tensor]
"""The graph's inputs by name, as `policies.encode` lays them out: float64, batch first, in the units of the spec;
normalization lies inside the policy's graph."""

ScenarioT = TypeVar("ScenarioT")
StateT = TypeVar("StateT")


class SimulatedProblem(Protocol[ScenarioT, StateT]):
    """Dynamics and cost as differentiable code."""

    @property
    def stages(self) -> int:
        """Return the number T of decisions in a scenario."""

    def scenarios(self, count: int, *, split: Split, seed: int) -> ScenarioT:
        """Draw `count` scenarios: everything nature does over T stages, tensors [B, T, ...] with B = count.

        The same (count, split, seed) gives the same scenarios; splits never share one.
        """

    def start(self, scenarios: ScenarioT) -> StateT:
        """Return the state before the first stage, tensors [B, ...]."""

    def observe(self, state: StateT) -> Observation:
        """Return what the policy may see of a state, and nothing that nature has not yet shown."""

    def step(self, state: StateT, action: Tensor, scenarios: ScenarioT, stage: int) -> tuple[StateT, Tensor]:
        """Take the actions of one stage and return the next state and the stage's cost.

        Args:
            state: tensors [B, ...]; never changed in place.
            action: float [B, N], applied as given, in the units of the spec's actions.
            scenarios: as drawn.
            stage: from 0 to T - 1.

        Returns:
            The next state, and the cost float [B] in the problem's currency, differentiable in `action` and `state`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class DualSolution:
    """Hold what a solver says of targets.

    Attributes:
        cost: float64 [B], optimal cost in the problem's currency, penalties for missed targets included.
        target_dual: float64 [B, T, N], the derivative of `cost` with respect to each target, in currency per unit of
            the target: positive where a higher target costs more.
        state: float64 [B, T, N], the state that was reached, in the units of the targets.
    """

    cost: Tensor
    target_dual: Tensor
    state: Tensor


class TargetProblem(Protocol[ScenarioT]):
    """Stages as programs that a solver solves for given targets."""

    @property
    def stages(self) -> int:
        """Return the number T of stages in a scenario."""

    def scenarios(self, count: int, *, split: Split, seed: int) -> ScenarioT:
        """Draw `count` scenarios, tensors [B, T, ...]; the same arguments give the same ones."""

    def observe(self, state: Tensor, scenarios: ScenarioT, stage: int) -> Observation:
        """Return what the policy may see before a stage; `state` is float64 [B, N] in the units of the targets."""

    def solve(self, targets: Tensor, scenarios: ScenarioT) -> DualSolution:
        """Solve all stages of a batch for targets float64 [B, T, N], in the units of the spec's actions.

        Raises:
            Unable: the solver ended without an optimum; the message names scenario, stage and status.
        """


class LoggedProblem(Protocol):
    """A log of what was done, with the propensity of it, and what came of it."""

    def feedback(self, *, split: Split) -> Feedback:
        """Return one part of the log; rewards are maximized, and units never lie in two parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Name a domain: the spec its policies are encoded by, the recipe that trains them, the baseline they are held to.

    `recipe` and `baseline` are import paths of modules that fulfill `Recipe` and `Baseline`, as `optimizer.registry`
    finds them; a domain of logs alone has no baseline.
    """

    name: str
    spec: PolicySpec
    recipe: str
    baseline: str | None = None


SettingsT = TypeVar("SettingsT", bound=msgspec.Struct, contravariant=True)


class Recipe(Protocol[SettingsT]):
    """What a recipe's module offers; `settings.py` beside it holds `Settings`, whose fields are flags."""

    def train(
        self, log: Path | None, *, spec: PolicySpec | None, out: Path, settings: SettingsT, progress: Progress
    ) -> TrainReport | SimulatedReport:
        """Train and write an artifact into `out`, with `evaluation.json` beside its files.

        `log` is for recipes that learn from feedback; the others simulate and take None.

        Raises:
            UsageProblem: a log or a spec is missing where the recipe needs one, or given where it takes none.
            ContentRefused: the log does not hold what it must.
            Unable: the budget ended before the first epoch, or the artifact does not pass its gates.
        """


class Baseline(Protocol[SettingsT]):
    """What a baseline's module offers; `baseline_settings.py` beside it holds `Settings`."""

    def solve(self, settings: SettingsT, *, progress: Progress) -> BaselineReport:
        """Solve the domain's problem as it is set, and say what it costs and what bounds it.

        Raises:
            UsageProblem: what is asked is incomplete or contradicts itself.
            ContentRefused: the files of the problem do not hold what they must.
            Unable: the solver finds no optimum.
        """


class Simulation(Protocol[SettingsT]):
    """What a simulation's module offers; `simulate_settings.py` beside it holds `Settings`."""

    def simulate(self, settings: SettingsT, *, progress: Progress) -> SimulationReport:
        """Run policies on common scenarios as it is set, and say what each costs beside the others.

        Raises:
            UsageProblem: what is asked is incomplete or contradicts itself.
            ContentRefused: a file does not hold what it must.
            Unable: an artifact is refused, or a solver finds no optimum.
        """
