from dataclasses import dataclass

import torch
from torch import Tensor

from optimizer.contract import DualSolution, LoggedProblem, Observation, SimulatedProblem, Split, TargetProblem
from policies.feedback import Feedback
from tests.helpers.taught_logs import shop


@dataclass(frozen=True)
class Store:
    """One product over two days: what is ordered beyond demand is held, what lacks is lost."""

    stages: int = 2

    def scenarios(self, count: int, *, split: Split, seed: int) -> Tensor:
        offset = {"train": 0, "validation": 1, "test": 2}[split]
        return torch.rand((count, self.stages), generator=torch.Generator().manual_seed(3 * seed + offset))

    def start(self, scenarios: Tensor) -> Tensor:
        return torch.zeros(len(scenarios))

    def observe(self, state: Tensor) -> Observation:
        return {"request": state[:, None].double()}

    def step(self, state: Tensor, action: Tensor, scenarios: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        left = state + action[:, 0] - scenarios[:, stage]
        return left.clamp_min(0), left.clamp_min(0) + 4 * (-left).clamp_min(0)


@dataclass(frozen=True)
class Reservoir:
    """A level that costs what it lies above a target of zero: its dual is positive there."""

    stages: int = 1

    def scenarios(self, count: int, *, split: Split, seed: int) -> Tensor:
        return torch.ones((count, 1, 1), dtype=torch.float64)

    def observe(self, state: Tensor, scenarios: Tensor, stage: int) -> Observation:
        return {"request": state}

    def solve(self, targets: Tensor, scenarios: Tensor) -> DualSolution:
        return DualSolution(
            cost=targets.clamp_min(0).sum(dim=(1, 2)), target_dual=(targets > 0).double(), state=targets
        )


@dataclass(frozen=True)
class Shop:
    """A log in parts by seed."""

    def feedback(self, *, split: Split) -> Feedback:
        return shop(20, seed=len(split)).feedback


def test_a_simulated_problem_gives_the_gradient_of_its_cost_along_the_path() -> None:
    problem: SimulatedProblem[Tensor, Tensor] = Store()
    scenarios = problem.scenarios(4, split="train", seed=1)
    order = torch.full((4, 1), 2.0, requires_grad=True)
    state, total = problem.start(scenarios), torch.zeros(4)
    for stage in range(problem.stages):
        state, cost = problem.step(state, order, scenarios, stage)
        total = total + cost
    total.sum().backward()  # type: ignore[no-untyped-call]
    # Each day holds all that was ordered so far beyond demand: one unit more on both days is held 1 + 2 times.
    assert order.grad is not None
    assert order.grad.tolist() == [[3.0]] * 4


def test_splits_of_a_simulated_problem_differ_and_repeat() -> None:
    problem: SimulatedProblem[Tensor, Tensor] = Store()
    train, again = (problem.scenarios(3, split="train", seed=1) for _ in range(2))
    assert torch.equal(train, again)
    assert not torch.equal(train, problem.scenarios(3, split="test", seed=1))


def test_the_dual_of_a_target_problem_is_the_derivative_of_its_cost() -> None:
    problem: TargetProblem[Tensor] = Reservoir()
    scenarios = problem.scenarios(2, split="train", seed=1)
    targets = torch.tensor([[[1.0]], [[-1.0]]], dtype=torch.float64)
    step = 1e-3
    solution, moved = problem.solve(targets, scenarios), problem.solve(targets + step, scenarios)
    slope = (moved.cost - solution.cost) / step
    assert torch.allclose(slope, solution.target_dual[:, 0, 0])


def test_a_logged_problem_gives_feedback_by_part() -> None:
    problem: LoggedProblem = Shop()
    assert len(problem.feedback(split="train")) == 20
