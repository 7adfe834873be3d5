"""Training by duals: the policy proposes targets, a solver prices them, and its duals are the gradient (TS-DDR).

The gradient of the cost is the derivative by each target, which the problem's solver gives, pulled back through the
roll-out of the targets: ∇θ = Σ_t (∂cost / ∂v̂_t) · ∂v̂_t / ∂θ, where each target depends on the ones before it. This
module knows no domain: what a roll-out is and how it is priced is the problem's.

Nothing is trained before its gradient has been proven: `check_gradient` compares it with finite differences of the
whole roll-out in float64. A sign or a detached bound shows there, not after an hour.

Source: Rosemberg et al., "Efficiently Training Deep-Learning Parametric Policies using Lagrangian Duality", arXiv
2405.14973, algorithm 1, in strict form.
"""

# B scenario, T stage, N component

import math
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from optimizer.contract import DualSolution, Split
from optimizer.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from optimizer.training.loop import Budget, UnableToTrain
from optimizer.training.progress import Progress
from optimizer.training.report import Look
from policies.errors import Unable

COSINE_LEAST = 1.0 - 1e-6
"""How alike the gradient and its finite differences must be; away from kinks they are."""

_DIRECTIONS = 4
_LEAST_RATE = 0.01  # of the learning rate, at the end of the cosine
_WARM_UP = 20  # steps
_MEMORY = 10.0  # the average of the weights covers about the last tenth of the steps so far,
_LONGEST_MEMORY = 0.995  # and never more than about the last 200

ScenarioT = TypeVar("ScenarioT")
ModuleT = TypeVar("ModuleT", bound=nn.Module)
ModuleT_contra = TypeVar("ModuleT_contra", bound=nn.Module, contravariant=True)


class UnableToTrust(Unable):
    """The gradient is not that of the cost; nothing was trained."""


class Found(Protocol):
    """What a problem says of its own accuracy after a refinement."""

    @property
    def misses(self) -> int:
        """Return how many of the points looked at were priced too low."""

    @property
    def largest_gap(self) -> float:
        """Return by which share at most."""


class DualProblem(Protocol[ModuleT_contra, ScenarioT]):
    """What is trained on: a `TargetProblem` that also rolls a policy out and may improve its prices on the way."""

    def scenarios(self, count: int, *, split: Split, seed: int) -> ScenarioT:
        """Draw scenarios, as `TargetProblem` does."""

    def propose(self, module: ModuleT_contra, scenarios: ScenarioT) -> Tensor:
        """Return the targets of the whole horizon, [B, T, N], differentiable in the module's weights."""

    def solve(self, targets: Tensor, scenarios: ScenarioT) -> DualSolution:
        """Price targets, as `TargetProblem` does."""

    def refine(self, targets: Tensor, scenarios: ScenarioT, *, seed: int) -> Found:
        """Improve the prices where the policy now goes; the same arguments and state, the same result."""

    def state(self) -> dict[str, Tensor]:
        """Return what refinements have found, for a checkpoint."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a checkpoint's."""


class DualSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Say how long and how fast a policy is trained.

    Attributes:
        steps: after which training ends, unless the budget ends it before; the learning rate falls along half a cosine
            over whichever of the two is nearer its end.
        batch_size: scenarios of a step.
        late_batch_size: the same in the second half, where noise is what keeps the cost up.
        learning_rate: Adam's, after a short warm-up.
        gradient_clip: largest norm of a step's gradient, as a share of the step's mean cost: no unit of money matters.
        refine_every: steps between two refinements of the problem's prices.
        check_every: steps between two looks at the held-out scenarios.
        held_out: scenarios that are looked at and never trained on.
        seed: of scenarios; the module's first weights are the caller's.
    """

    steps: int = 4000
    batch_size: int = 24
    late_batch_size: int = 128
    learning_rate: float = 0.02
    gradient_clip: float = 0.3
    refine_every: int = 20
    check_every: int = 100
    held_out: int = 120
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Say how a training went; `cosine` is the gradient's, as it was proven before the first step."""

    looks: tuple[Look, ...]
    steps: int
    stopped: Literal["steps", "wall_limit", "cpu_limit"]
    cosine: float


def check_gradient(
    module: ModuleT, problem: DualProblem[ModuleT, ScenarioT], scenarios: ScenarioT, *, seed: int, step: float = 1e-6
) -> float:
    """Return the cosine of the gradient with its finite differences, over random directions of all weights.

    Module, problem and scenarios are float64; the module's weights end as they were. Kinks of the cost are passed over
    with probability one, but a step across one shows: then the check is repeated at another place by the caller.

    Raises:
        UnableToTrust: the cosine is below 1 − 1e-6, or the gradient is zero.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    loss_and_gradient(module, problem, scenarios)
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for _ in range(_DIRECTIONS):
        direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device) for p in parameters]
        along = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
        ends = [_moved_cost(module, problem, scenarios, parameters, direction, sign * step) for sign in (1.0, -1.0)]
        pairs.append((along, (ends[0] - ends[1]) / (2.0 * step)))
    automatic, differences = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    norms = float(automatic.norm() * differences.norm())
    cosine = float(automatic @ differences) / norms if norms > 0 else 0.0
    if not cosine >= COSINE_LEAST:
        raise UnableToTrust(
            f"expected the gradient to equal finite differences of the roll-out, cosine at least {COSINE_LEAST}, found "
            f"{cosine:.9f}: {automatic.tolist()} against {differences.tolist()}"
        )
    return cosine


def loss_and_gradient(
    module: ModuleT, problem: DualProblem[ModuleT, ScenarioT], scenarios: ScenarioT
) -> tuple[Tensor, Tensor]:
    """Return the mean cost, a scalar, and the targets [B, T, N]; leave the gradient in the module's parameters."""
    module.zero_grad(set_to_none=True)
    targets = problem.propose(module, scenarios)
    solution = problem.solve(targets.detach(), scenarios)
    targets.backward(solution.target_dual / targets.shape[0])  # type: ignore[no-untyped-call]
    return solution.cost.mean(), targets.detach()


def mean_cost(module: ModuleT, problem: DualProblem[ModuleT, ScenarioT], scenarios: ScenarioT) -> float:
    """Return the mean cost of a policy on scenarios, as the problem prices it."""
    with torch.no_grad():
        return float(problem.solve(problem.propose(module, scenarios), scenarios).cost.double().mean())


def train(
    module: ModuleT,
    *,
    problem: DualProblem[ModuleT, ScenarioT],
    settings: DualSettings,
    budget: Budget,
    progress: Progress,
    cosine: float,
    checkpoint: Path | None = None,
    fingerprint: str = "",
) -> Trained:
    """Fit a module and leave the average of its last weights in it.

    Everything random in a step follows from the seed and the step's number. Where `steps` end the training, a run that
    was interrupted continues with the same bits; where the budget does, its schedule follows the clock.

    Args:
        module: on the problem's device.
        problem: what is trained on.
        settings: how.
        budget: ends the training at a look in which a limit is reached.
        progress: told of every look.
        cosine: of the gradient, as `check_gradient` returned it: whoever trains has asked.
        checkpoint: where the state is kept, at each look; None keeps none.
        fingerprint: of the problem; a checkpoint of another one is refused.

    Raises:
        UnableToTrain: the cost or the gradient is not finite.
        UnableToTrust: `cosine` is not that of a gradient.
        UnableToResume: the checkpoint is damaged or of another run.
    """
    if not cosine >= COSINE_LEAST:
        raise UnableToTrust(f"expected a gradient that was proven, cosine at least {COSINE_LEAST}, found {cosine}")
    run = _Run(module, problem=problem, settings=settings, budget=budget)
    print_of_run = f"{fingerprint} {settings}"
    if checkpoint is not None and checkpoint.exists():
        run.restore(read_checkpoint(checkpoint, fingerprint=print_of_run))
    progress.start("ts-ddr", total=max(settings.steps - run.step, 1))
    while (stopped := run.stopped()) is None:
        is_look = run.take_step()
        progress.advance(run.note)
        if is_look and checkpoint is not None:
            write_checkpoint(checkpoint, run.state(print_of_run))
    run.close()
    progress.finish(f"{run.note}, {stopped} after {run.step} steps")
    return Trained(looks=tuple(run.looks), steps=run.step, stopped=stopped, cosine=cosine)


@dataclass(slots=True)
class _Run(Generic[ModuleT, ScenarioT]):
    """The mutable state of one training."""

    module: ModuleT
    problem: DualProblem[ModuleT, ScenarioT] = field(kw_only=True)
    settings: DualSettings = field(kw_only=True)
    budget: Budget = field(kw_only=True)
    average: ModuleT = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    held_out: ScenarioT = field(init=False)
    step: int = field(init=False, default=0)
    spent_before_s: float = field(init=False, default=0.0)
    looks: list[Look] = field(init=False, default_factory=list)
    note: str = field(init=False, default="")

    def __post_init__(self) -> None:
        rate = self.settings.learning_rate
        self.average = deepcopy(self.module)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=rate, betas=(0.9, 0.99))
        self.held_out = self.problem.scenarios(self.settings.held_out, split="validation", seed=self.settings.seed)

    @property
    def share(self) -> float:
        """Return which share of the training is over, by steps or by the budget, whichever is further."""
        budget, shares = self.budget, [self.step / self.settings.steps]
        for spent, limit in ((budget.wall_s, budget.wall_limit_s), (budget.cpu_s, budget.cpu_limit_s)):
            if limit is not None:
                shares.append(spent / limit)
        return min(max(shares), 1.0)

    def stopped(self) -> Literal["steps", "wall_limit", "cpu_limit"] | None:
        if self.step >= self.settings.steps:
            return "steps"
        spent = self.budget.spent() if self.step else None
        return "cpu_limit" if spent == "cpu_limit" else "wall_limit" if spent == "wall_limit" else None

    def take_step(self) -> bool:
        """Take one step, and say whether it ended in a look at the held-out scenarios."""
        settings, share = self.settings, self.share
        rate = _rate(settings.learning_rate, self.step, share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        count = settings.batch_size if share < 0.5 else settings.late_batch_size
        scenarios = self.problem.scenarios(count, split="train", seed=self._seed())
        cost, targets = loss_and_gradient(self.module, self.problem, scenarios)
        largest = settings.gradient_clip * float(cost.abs())
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), max(largest, torch.finfo(cost.dtype).tiny))
        self.optimizer.step()
        self._average()
        if self.step % settings.refine_every == 0:
            self.problem.refine(targets, scenarios, seed=self._seed())
        self.step += 1
        is_look = self.step % settings.check_every == 0 or self.step >= settings.steps
        if is_look:
            self._look(float(cost), float(norm), rate)
        return is_look

    def close(self) -> None:
        if not self.looks or self.looks[-1].step != self.step:
            self._look()
        self.module.load_state_dict(self.average.state_dict())

    def state(self, fingerprint: str) -> Checkpoint:
        return Checkpoint(
            fingerprint=fingerprint,
            module=self.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            history=(),
            best=self.average.state_dict(),
            best_value=-self.looks[-1].cost,
            best_epoch=self.step,
            extra={"problem": self.problem.state(), "looks": msgspec.json.encode(self.looks).decode()},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        self.module.load_state_dict(checkpoint.module)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.average.load_state_dict(checkpoint.best)
        self.problem.restore(checkpoint.extra["problem"])
        self.looks = msgspec.json.decode(checkpoint.extra["looks"], type=list[Look])
        self.step, self.spent_before_s = checkpoint.best_epoch, self.looks[-1].cpu_s

    def _seed(self) -> int:
        return self.settings.seed * 1_000_003 + self.step

    def _average(self) -> None:
        memory = min(max(1.0 - _MEMORY / (self.step + _MEMORY), 0.0), _LONGEST_MEMORY)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.module.parameters()), 1.0 - memory)

    def _look(self, loss: float | None = None, norm: float | None = None, rate: float | None = None) -> None:
        cost = mean_cost(self.average, self.problem, self.held_out)
        found = [value for value in (cost, loss, norm) if value is not None]
        if not all(map(math.isfinite, found)):
            raise UnableToTrain(f"cost and gradient must be finite, found {found} in step {self.step}")
        cpu_s = self.spent_before_s + self.budget.cpu_s
        look = Look(step=self.step, cpu_s=cpu_s, cost=cost, loss=loss, gradient_norm=norm, learning_rate=rate)
        self.looks.append(look)
        self.note = f"held out {cost:.6g}"


def _rate(rate: float, step: int, share: float) -> float:
    cosine = _LEAST_RATE + (1.0 - _LEAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * share))
    return rate * min(1.0, (step + 1) / _WARM_UP) * cosine


def _moved_cost(
    module: ModuleT,
    problem: DualProblem[ModuleT, ScenarioT],
    scenarios: ScenarioT,
    parameters: list[nn.Parameter],
    direction: list[Tensor],
    step: float,
) -> float:
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, move in zip(parameters, direction, strict=True):
            parameter.add_(move, alpha=step)
        cost = mean_cost(module, problem, scenarios)
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return cost
