"""Iterate until a limit is reached or the bound stands still, and keep what is needed to go on.

The bound's standing still is the rule, not an interval of simulated costs that happens to hold the bound: such a test
stops the earlier the wider the interval is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from optimizer.hydrothermal.sddp.checkpoint import read_checkpoint, write_checkpoint
from optimizer.hydrothermal.sddp.train import SETTLE_EVERY, Iteration, Trainer
from optimizer.training.progress import Progress

Status = Literal["iteration_limit", "time_limit", "bound_stalling"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Say when a training ends: at whichever comes first.

    Attributes:
        iterations: at most so many, those of a resumed run counted.
        cpu_s: no iteration begins after so many CPU seconds.
        stall_iterations, stall_change: the bound moved by less than this share of itself over so many iterations; 0
            iterations: never.
    """

    iterations: int
    cpu_s: float | None = None
    stall_iterations: int = 100
    stall_change: float = 1e-4


@dataclass(frozen=True, kw_only=True)
class Run:
    """Hold the rows of a training's table, why it ended, and its best bound.

    Every iteration's bound holds; selection may let a later one fall a little.
    """

    rows: tuple[Iteration, ...]
    status: Status
    bound: float


def run(
    trainer: Trainer,
    *,
    limits: Limits,
    cpu_clock: Callable[[], float],
    progress: Progress,
    checkpoint: Path | None = None,
) -> Run:
    """Train until a limit; resume from the checkpoint if there is one, and write it as the training settles.

    At least one iteration is made.

    Raises:
        UnableToSolve: a program has no optimum.
        UnableToResume: the checkpoint is damaged or belongs to another training.
    """
    rows = _resumed(trainer, checkpoint)
    spent_s, started = rows[-1].cpu_s if rows else 0.0, cpu_clock()
    progress.start("sddp", total=limits.iterations)
    status = _ended(rows, limits)
    while status is None:
        rows.append(replace(trainer.iterate(), cpu_s=spent_s + cpu_clock() - started))
        progress.advance(note(rows[-1]))
        if checkpoint is not None and trainer.iteration % SETTLE_EVERY == 0:
            write_checkpoint(checkpoint, trainer, rows=rows)
        status = _ended(rows, limits)
    progress.finish(f"{status}: bound {rows[-1].bound:.8g}")
    return Run(rows=tuple(rows), status=status, bound=max(row.bound for row in rows))


def note(row: Iteration) -> str:
    """Return an iteration in a few words."""
    return f"simulation {row.simulation:.6g}, bound {row.bound:.8g}, {row.cpu_s:.1f} s, {row.solves} solves"


def _resumed(trainer: Trainer, checkpoint: Path | None) -> list[Iteration]:
    if checkpoint is None or not checkpoint.exists():
        return []
    found = read_checkpoint(checkpoint, trainer)
    trainer.resume(found.pools, iteration=found.rows[-1].number, solves=found.rows[-1].solves)
    return list(found.rows)


def _ended(rows: Sequence[Iteration], limits: Limits) -> Status | None:
    if not rows:
        return None
    if rows[-1].number >= limits.iterations:
        return "iteration_limit"
    if limits.cpu_s is not None and rows[-1].cpu_s >= limits.cpu_s:
        return "time_limit"
    far = limits.stall_iterations
    if far and len(rows) > far and _moved(rows[-1 - far].bound, rows[-1].bound) < limits.stall_change:
        return "bound_stalling"
    return None


def _moved(before: float, after: float) -> float:
    return abs(after - before) / max(abs(after), 1e-12)
