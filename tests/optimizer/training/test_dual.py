"""The trainer on a problem of its own, a storage by hand, and on the small hydrothermal case."""

from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from optimizer.contract import DualSolution, Split
from optimizer.hydrothermal.network import TargetNetwork
from optimizer.hydrothermal.problem import HydrothermalProblem
from optimizer.training.checkpoint import UnableToResume
from optimizer.training.dual import DualSettings, Trained, UnableToTrust, check_gradient, mean_cost, train
from optimizer.training.loop import Budget, start_budget
from optimizer.training.progress import SilentProgress
from tests.helpers.hydrothermal_policies import ENCODERS, STAGES, random_network, small_problem
from tests.helpers.small_case import small_case, small_stage

SETTINGS = DualSettings(steps=40, batch_size=8, late_batch_size=16, learning_rate=0.05, check_every=10, held_out=32)


@dataclass
class Refined:
    misses: int = 0
    largest_gap: float = 0.0


class Storage:
    """Carry one good over five stages: cost 1/2 (target − demand)² plus 1/4 (change of the target)²."""

    def __init__(self, *, wrong_by: float = 0.0) -> None:
        self.wrong_by, self.refined = wrong_by, 0

    def scenarios(self, count: int, *, split: Split, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed + 7919 * ("train", "validation", "test").index(split))
        return torch.rand(count, 5, 1, generator=generator, dtype=torch.float64)

    def propose(self, module: nn.Module, scenarios: Tensor) -> Tensor:
        state, targets = torch.zeros_like(scenarios[:, 0]), []
        for stage in range(5):
            state = torch.tanh(module(torch.cat([state, scenarios[:, stage]], dim=1)))
            targets.append(state)
        return torch.stack(targets, dim=1)

    def solve(self, targets: Tensor, scenarios: Tensor) -> DualSolution:
        change = torch.diff(targets, dim=1, prepend=torch.zeros_like(targets[:, :1]))
        cost = (0.5 * (targets - scenarios) ** 2 + 0.25 * change**2).sum(dim=(1, 2))
        dual = targets - scenarios + 0.5 * change
        dual[:, :-1] -= 0.5 * change[:, 1:]
        return DualSolution(cost=cost, target_dual=dual + self.wrong_by, state=targets)

    def refine(self, targets: Tensor, scenarios: Tensor, *, seed: int) -> Refined:
        self.refined += 1
        return Refined()

    def state(self) -> dict[str, Tensor]:
        return {"refined": torch.tensor(self.refined)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.refined = int(state["refined"])


def _module() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def _budget(limit_s: float | None = None, *, clock: list[float] | None = None) -> Budget:
    times = clock if clock is not None else [0.0]
    return start_budget(lambda: 0.0, cpu_clock=lambda: times[0], cpu_limit_s=limit_s)


def _train(module: nn.Module, problem: Storage, settings: DualSettings = SETTINGS, **named: object) -> Trained:
    given = {"budget": _budget(), "progress": SilentProgress(), "cosine": 1.0, **named}
    return train(module, problem=problem, settings=settings, **given)  # type: ignore[arg-type]


def test_the_gradient_of_duals_is_that_of_finite_differences() -> None:
    problem = Storage()
    assert check_gradient(_module(), problem, problem.scenarios(6, split="train", seed=1), seed=2) > 1.0 - 1e-9


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_the_gradient_of_the_hydrothermal_roll_out_is_proven(encoder: str) -> None:
    problem = small_problem()
    scenarios = problem.scenarios(2, split="validation", seed=1)
    network = random_network(seed=4, encoder=encoder)
    before = deepcopy(network.state_dict())
    assert check_gradient(network, problem, scenarios, seed=1, step=1e-7) >= 1.0 - 1e-6
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class _Detached(HydrothermalProblem):
    """Roll out with the water held constant, as if a target did not depend on the ones before it."""

    def propose(self, module: TargetNetwork, scenarios: object) -> Tensor:
        whole = super().propose(module, scenarios)  # type: ignore[arg-type]
        return whole if not torch.is_grad_enabled() else whole.detach() + 0.5 * (whole - whole.detach())[:, :1]


def test_bounds_held_constant_are_caught_before_training() -> None:
    problem = _Detached(small_stage(), stages=STAGES, dtype=torch.float64)
    problem.restore(small_problem().state())
    with pytest.raises(UnableToTrust, match="expected the gradient to equal finite differences"):
        check_gradient(random_network(seed=4), problem, problem.scenarios(2, split="train", seed=1), seed=1)


def test_a_wrong_dual_is_caught_before_training() -> None:
    problem = Storage(wrong_by=0.05)
    with pytest.raises(UnableToTrust, match="cosine at least"):
        check_gradient(_module(), problem, problem.scenarios(6, split="train", seed=1), seed=2)


def test_nothing_is_trained_without_a_proven_gradient() -> None:
    with pytest.raises(UnableToTrust, match="a gradient that was proven"):
        _train(_module(), Storage(), cosine=0.93)


def test_training_lowers_the_cost_of_held_out_scenarios() -> None:
    module, problem = _module(), Storage()
    held_out = problem.scenarios(64, split="test", seed=0)
    before = mean_cost(module, problem, held_out)
    trained = _train(module, problem)
    assert mean_cost(module, problem, held_out) < 0.8 * before
    assert (trained.steps, trained.stopped, [look.step for look in trained.looks]) == (40, "steps", [10, 20, 30, 40])
    assert problem.refined == 2


def test_an_interrupted_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, path = _module(), tmp_path / "run.pt"
    _train(whole, Storage())
    clock = [0.0]

    class Stopping(Storage):
        def scenarios(self, count: int, *, split: Split, seed: int) -> Tensor:
            clock[0] += 1.0
            return super().scenarios(count, split=split, seed=seed)

    interrupted = replace_limit(path, clock, Stopping())
    assert interrupted.stopped == "cpu_limit"
    resumed, problem = _module(), Storage()
    _train(resumed, problem, checkpoint=path)
    assert problem.refined == 2
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def replace_limit(path: Path, clock: list[float], problem: Storage) -> Trained:
    """Train until the clock, which ticks once for each draw, ends it; the rate still follows the steps."""
    budget = replace(_budget(clock=clock), cpu_limit_s=None, wall_limit_s=None)

    class Ending(Budget):
        def spent(self) -> str | None:  # type: ignore[override]
            return "cpu_limit" if clock[0] > 24.0 else None

    fields = {name: getattr(budget, name) for name in Budget.__slots__}
    return _train(_module(), problem, budget=Ending(**fields), checkpoint=path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    _train(_module(), Storage(), checkpoint=tmp_path / "run.pt", fingerprint="one")
    with pytest.raises(UnableToResume):
        _train(_module(), Storage(), checkpoint=tmp_path / "run.pt", fingerprint="another")


def test_a_budget_of_cpu_seconds_ends_the_training() -> None:
    clock = [0.0]

    class Slow(Storage):
        def scenarios(self, count: int, *, split: Split, seed: int) -> Tensor:
            clock[0] += 1.0
            return super().scenarios(count, split=split, seed=seed)

    trained = _train(_module(), Slow(), budget=_budget(15.0, clock=clock))
    assert (trained.stopped, trained.steps) == ("cpu_limit", 14)
    assert trained.looks[-1].loss is None


def test_sixty_steps_beat_the_untrained_policy_on_held_out_paths() -> None:
    problem = HydrothermalProblem(small_stage(), stages=STAGES)
    problem.restore(small_problem().state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = TargetNetwork(small_case(), stages=STAGES, width=24, encoder=None)
    held_out = problem.scenarios(64, split="test", seed=0)
    before = mean_cost(network, problem, held_out)
    settings = DualSettings(steps=60, batch_size=16, late_batch_size=16, learning_rate=0.01, held_out=8)
    train(network, problem=problem, settings=settings, budget=_budget(), progress=SilentProgress(), cosine=1.0)
    assert mean_cost(network, problem, held_out) < 0.9 * before


@pytest.mark.gpu
@pytest.mark.parametrize("encoder", ["none", "recurrent"])
def test_thousands_of_paths_on_an_accelerator_cost_what_they_cost_on_the_cpu(encoder: str) -> None:
    cpu, gpu = (
        HydrothermalProblem(small_stage(), stages=STAGES, device=torch.device(name), dtype=torch.float64)
        for name in ("cpu", "cuda")
    )
    for problem in (cpu, gpu):
        problem.restore(small_problem().state())
    network = random_network(seed=2, encoder=encoder)
    paths = [problem.scenarios(4096, split="test", seed=1) for problem in (cpu, gpu)]
    expected = mean_cost(network, cpu, paths[0])
    assert mean_cost(network.cuda(), gpu, paths[1]) == pytest.approx(expected, rel=1e-9)
