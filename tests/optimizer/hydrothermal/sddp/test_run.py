import itertools
from pathlib import Path

import pytest

from optimizer.hydrothermal.sddp import run as module
from optimizer.hydrothermal.sddp.run import Limits, Run, run
from optimizer.hydrothermal.sddp.train import Iteration, Trainer
from optimizer.training.progress import SilentProgress
from tests.helpers.small_case import small_stage
from tests.helpers.trainers import few_choices


def _trainer() -> Trainer:
    return Trainer(small_stage(), noise=few_choices(stages=3))


def _run(trainer: Trainer, limits: Limits, *, checkpoint: Path | None = None, step_s: float = 1.0) -> Run:
    ticks = itertools.count()
    return run(
        trainer, limits=limits, cpu_clock=lambda: step_s * next(ticks), progress=SilentProgress(), checkpoint=checkpoint
    )  # fmt: skip


def _rows(bounds: list[float]) -> list[Iteration]:
    return [Iteration(number=at, simulation=0.0, bound=bound, solves=at) for at, bound in enumerate(bounds, start=1)]


def test_it_ends_after_the_iterations_it_was_given() -> None:
    done = _run(_trainer(), Limits(iterations=3))
    assert ([row.number for row in done.rows], done.status) == ([1, 2, 3], "iteration_limit")


def test_no_iteration_begins_after_the_time_limit() -> None:
    done = _run(_trainer(), Limits(iterations=50, cpu_s=25.0), step_s=10.0)
    assert ([row.cpu_s for row in done.rows], done.status) == ([10.0, 20.0, 30.0], "time_limit")


def test_a_bound_that_stands_still_ends_it_and_one_that_moves_does_not() -> None:
    limits = Limits(iterations=50, stall_iterations=2, stall_change=1e-4)
    assert module._ended(_rows([100.0, 100.0, 100.005]), limits) == "bound_stalling"
    assert module._ended(_rows([100.0, 100.0, 100.02]), limits) is None
    assert module._ended(_rows([100.0, 100.0]), limits) is None
    assert module._ended(_rows([100.0, 100.0, 100.0]), Limits(iterations=50, stall_iterations=0)) is None


def test_the_bound_of_a_run_is_its_best() -> None:
    done = _run(_trainer(), Limits(iterations=30))
    assert done.bound == max(row.bound for row in done.rows)


def test_a_resumed_run_goes_on_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run is cut off two iterations after its checkpoint; those two are made again."""
    monkeypatch.setattr(module, "SETTLE_EVERY", 4)
    monkeypatch.setattr("optimizer.hydrothermal.sddp.train.SETTLE_EVERY", 4)
    whole = _trainer()
    expected = _run(whole, Limits(iterations=10))
    _run(_trainer(), Limits(iterations=6), checkpoint=tmp_path / "run.npz")
    resumed = _trainer()
    found = _run(resumed, Limits(iterations=10), checkpoint=tmp_path / "run.npz")
    assert [(row.bound, row.simulation, row.solves) for row in found.rows] == [
        (row.bound, row.simulation, row.solves) for row in expected.rows
    ]
    for one, other in zip(resumed.costs_to_go(), whole.costs_to_go(), strict=True):
        assert one.slope.tobytes() == other.slope.tobytes()
    assert [row.cpu_s for row in found.rows] == sorted(row.cpu_s for row in found.rows)


def test_a_run_that_had_ended_makes_no_more_iterations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_EVERY", 2)
    _run(_trainer(), Limits(iterations=4), checkpoint=tmp_path / "run.npz")
    again = _trainer()
    assert len(_run(again, Limits(iterations=4), checkpoint=tmp_path / "run.npz").rows) == 4
    assert again.iteration == 4
