import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from optimizer.training.checkpoint import UnableToResume
from optimizer.training.loop import (
    Budget,
    DeviceNotFound,
    Fitted,
    LoopSettings,
    UnableToTrain,
    choose_device,
    fit,
    start_budget,
)
from optimizer.training.progress import SilentProgress


def endless() -> Budget:
    return start_budget(lambda: 0.0, cpu_clock=lambda: 0.0)


@dataclass
class Line:
    """Least squares on a line, held out by its own error."""

    inputs: Tensor
    targets: Tensor

    @property
    def row_count(self) -> int:
        return len(self.inputs)

    def loss(self, module: nn.Module, rows: Tensor) -> Tensor:
        error: Tensor = (module(self.inputs[rows]) - self.targets[rows]).square().mean()
        return error

    def held_out(self, module: nn.Module) -> float:
        return -float(self.loss(module, torch.arange(self.row_count)).detach())


def line_task() -> Line:
    inputs = torch.linspace(-1, 1, 64)[:, None]
    return Line(inputs, 3 * inputs + 1)


def small_module() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))


SETTINGS = LoopSettings(epochs=12, batch_size=16, learning_rate=0.05)


def run(
    module: nn.Module,
    settings: LoopSettings = SETTINGS,
    *,
    budget: Budget | None = None,
    checkpoint: Path | None = None,
) -> Fitted:
    return fit(
        module,
        task=line_task(),
        settings=settings,
        budget=budget or endless(),
        progress=SilentProgress(),
        checkpoint=checkpoint,
    )


def weights_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


def ticking(limit_after: int) -> Budget:
    """A budget whose wall clock passes its limit when asked for the `limit_after`th time."""
    ticks = itertools.count()
    return start_budget(lambda: float(next(ticks)), cpu_clock=lambda: 0.0, wall_limit_s=limit_after)


def test_a_fit_learns_a_line_and_records_every_epoch() -> None:
    module = small_module()
    fitted = run(module, msgspec.structs.replace(SETTINGS, epochs=60))
    assert fitted.best_value > -0.05
    assert [epoch.epoch for epoch in fitted.history] == list(range(1, 61))
    assert fitted.history[-1].loss < 0.1 * fitted.history[0].loss
    assert fitted.stopped == "epochs"


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    modules = [small_module() for _ in range(3)]
    for module, seed in zip(modules, (0, 0, 1), strict=True):
        run(module, msgspec.structs.replace(SETTINGS, seed=seed))
    assert weights_of(modules[0]) == weights_of(modules[1])
    assert weights_of(modules[0]) != weights_of(modules[2])


@pytest.mark.parametrize("interrupted_after", [1, 5, 11])
def test_a_resumed_fit_ends_in_the_bits_of_an_uninterrupted_one(tmp_path: Path, interrupted_after: int) -> None:
    whole, part, rest = small_module(), small_module(), small_module()
    expected = run(whole)
    checkpoint = tmp_path / "fit.pt"
    first = run(part, budget=ticking(interrupted_after), checkpoint=checkpoint)
    resumed = run(rest, checkpoint=checkpoint)
    assert (first.stopped, len(first.history)) == ("wall_limit", interrupted_after)
    assert weights_of(rest) == weights_of(whole)
    assert resumed == expected


def test_a_finished_checkpoint_resumes_without_another_epoch(tmp_path: Path) -> None:
    checkpoint = tmp_path / "fit.pt"
    first, again = small_module(), small_module()
    expected = run(first, checkpoint=checkpoint)
    assert run(again, checkpoint=checkpoint) == expected
    assert weights_of(again) == weights_of(first)


def test_a_checkpoint_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    checkpoint = tmp_path / "fit.pt"
    run(small_module(), checkpoint=checkpoint)
    with pytest.raises(UnableToResume, match="of another run"):
        run(small_module(), msgspec.structs.replace(SETTINGS, seed=7), checkpoint=checkpoint)


def test_a_fit_leaves_no_trace_in_torchs_global_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    module = small_module()
    torch.manual_seed(5)
    run(module)
    assert torch.equal(torch.rand(1), expected)


def test_the_best_weights_are_kept_when_later_ones_are_worse() -> None:
    values = iter([0.1, 0.9, 0.3, 0.2])

    class Scripted(Line):
        def held_out(self, module: nn.Module) -> float:
            seen.append(weights_of(module))
            return next(values)

    seen: list[list[bytes]] = []
    module, line = small_module(), line_task()
    fitted = fit(
        module,
        task=Scripted(line.inputs, line.targets),
        settings=LoopSettings(epochs=10, batch_size=16, patience=2),
        budget=endless(),
        progress=SilentProgress(),
    )
    assert (fitted.best_epoch, fitted.best_value, fitted.stopped) == (2, 0.9, "patience")
    assert len(fitted.history) == 4
    assert weights_of(module) == seen[1]


@pytest.mark.parametrize(("every", "expected"), [(5, [5, 10, 12]), (None, [12])])
def test_held_out_values_are_asked_as_often_as_set_and_at_the_end(every: int | None, expected: list[int]) -> None:
    fitted = run(small_module(), msgspec.structs.replace(SETTINGS, check_every=every))
    assert [e.epoch for e in fitted.history if e.held_out is not None] == expected


def test_a_cpu_budget_ends_the_fit_before_its_first_check_with_usable_weights() -> None:
    budget = start_budget(lambda: 0.0, cpu_clock=iter([0.0, 9.0]).__next__, cpu_limit_s=5.0)
    module = small_module()
    fitted = run(module, msgspec.structs.replace(SETTINGS, check_every=5), budget=budget)
    assert (fitted.stopped, fitted.best_epoch) == ("cpu_limit", 1)
    assert fitted.best_value == line_task().held_out(module)


def test_gradients_are_clipped_to_the_norm_that_is_set() -> None:
    slow = small_module()
    start = small_module()
    run(slow, msgspec.structs.replace(SETTINGS, epochs=1, batch_size=64, gradient_clip=1e-12))
    moved = max(float((a - b).detach().abs().max()) for a, b in zip(slow.parameters(), start.parameters(), strict=True))
    # AdamW divides by the gradient's own size plus 1e-8: only a gradient far below that moves little.
    assert moved < 1e-4


def test_a_loss_that_is_not_finite_stops_with_epoch_and_remedy() -> None:
    class Broken(Line):
        def loss(self, module: nn.Module, rows: Tensor) -> Tensor:
            return super().loss(module, rows) * torch.inf

    line = line_task()
    with pytest.raises(UnableToTrain, match=r"must be finite, found (inf|nan).*in epoch 1; lower"):
        fit(
            small_module(),
            task=Broken(line.inputs, line.targets),
            settings=SETTINGS,
            budget=endless(),
            progress=SilentProgress(),
        )


def test_nothing_to_train_on_is_a_programming_error() -> None:
    empty = Line(torch.empty(0, 1), torch.empty(0, 1))
    with pytest.raises(ValueError, match="0 rows"):
        fit(small_module(), task=empty, settings=SETTINGS, budget=endless(), progress=SilentProgress())


@pytest.mark.parametrize("name", ["tpu", "cud", ""])
def test_a_device_of_no_known_name_is_refused(name: str) -> None:
    with pytest.raises(DeviceNotFound, match="must be auto, cpu, cuda"):
        choose_device(name)


def test_auto_takes_the_gpu_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", _always(available))
        assert choose_device("auto").type == expected


def test_a_gpu_that_is_not_there_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", _always(False))
    with pytest.raises(DeviceNotFound, match="sees no GPU; use auto or cpu"):
        choose_device("cuda:0")


def _always(value: bool) -> Callable[[], bool]:
    return lambda: value
