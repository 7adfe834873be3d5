"""The one training loop: minibatches, a held-out value, checkpoints and budgets; what is learned is the task's.

Everything random in epoch e follows from (seed, e) alone, so a run that was interrupted continues with the same bits.
Arithmetic is float32 throughout: TF32 and bfloat16 stay off, because they would make a GPU's policy another policy.
Bits repeat on one machine, one torch and one number of threads.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from optimizer.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from optimizer.training.progress import Progress
from optimizer.training.report import Epoch, Stopped
from policies.errors import Unable, UsageProblem


class DeviceNotFound(UsageProblem):
    """The device that was asked for is not there."""


class UnableToTrain(Unable):
    """A fit came to a loss that is not finite."""


class LoopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Say how long and how fast a fit goes.

    Attributes:
        epochs: passes over the data; the learning rate falls from `learning_rate` to 0 along half a cosine.
        batch_size: rows in a minibatch.
        learning_rate: AdamW's first step size.
        weight_decay: AdamW's pull towards zero.
        gradient_clip: largest norm of a step's gradient.
        check_every: epochs between two held-out values; the last epoch always has one, with None only that one.
        patience: checks without a better held-out value before the fit stops; None: never.
        seed: of minibatches and dropout; the module's first weights are the caller's.
    """

    epochs: int = 30
    batch_size: int = 512
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    check_every: int | None = 1
    patience: int | None = None
    seed: int = 0


ModuleT = TypeVar("ModuleT", bound=nn.Module)
ModuleT_contra = TypeVar("ModuleT_contra", bound=nn.Module, contravariant=True)


class Task(Protocol[ModuleT_contra]):
    """What is learned, and how it is judged."""

    @property
    def row_count(self) -> int:
        """Return the number of rows that a pass goes over."""

    def loss(self, module: ModuleT_contra, rows: Tensor) -> Tensor:
        """Return the mean loss of some rows, a scalar to be minimized; rows: int64 [B] on the CPU."""

    def held_out(self, module: ModuleT_contra) -> float:
        """Return a value of rows that `loss` never saw, to be maximized."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bound a run's time by clocks that are given; the first epoch is always finished.

    `wall_clock` and `cpu_clock` return seconds from any origin; a limit counts from `started` (see `start_budget`).
    """

    wall_clock: Callable[[], float]
    cpu_clock: Callable[[], float]
    wall_started: float
    cpu_started: float
    wall_limit_s: float | None = None
    cpu_limit_s: float | None = None

    @property
    def wall_s(self) -> float:
        """The wall-clock seconds since the start."""
        return self.wall_clock() - self.wall_started

    @property
    def cpu_s(self) -> float:
        """The CPU-seconds since the start, of all threads."""
        return self.cpu_clock() - self.cpu_started

    def spent(self) -> Stopped | None:
        """Return the limit that is reached, if one is."""
        if self.wall_limit_s is not None and self.wall_s >= self.wall_limit_s:
            return "wall_limit"
        if self.cpu_limit_s is not None and self.cpu_s >= self.cpu_limit_s:
            return "cpu_limit"
        return None


def start_budget(
    wall_clock: Callable[[], float],
    *,
    cpu_clock: Callable[[], float],
    wall_limit_s: float | None = None,
    cpu_limit_s: float | None = None,
) -> Budget:
    """Start counting both clocks now."""
    return Budget(
        wall_clock=wall_clock,
        cpu_clock=cpu_clock,
        wall_started=wall_clock(),
        cpu_started=cpu_clock(),
        wall_limit_s=wall_limit_s,
        cpu_limit_s=cpu_limit_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Say how a fit went; the module holds the weights of `best_epoch`."""

    history: tuple[Epoch, ...]
    best_epoch: int
    best_value: float
    stopped: Stopped


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use that many threads for a while; the number is torch's own state, so it is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is the GPU where there is one, else the CPU.

    Raises:
        DeviceNotFound: the name is not a device's, or there is no such device here.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and name.partition(":")[0] != "cuda":
        raise DeviceNotFound(f"device must be auto, cpu, cuda or cuda:N, found {name!r}")
    if name != "cpu" and not torch.cuda.is_available():
        raise DeviceNotFound(
            f"device {name!r} was asked for, but torch {torch.__version__} sees no GPU; use auto or cpu"
        )
    return torch.device(name)


def fit(
    module: ModuleT,
    *,
    task: Task[ModuleT],
    settings: LoopSettings,
    budget: Budget,
    progress: Progress,
    title: str = "training",
    checkpoint: Path | None = None,
    fingerprint: str = "",
) -> Fitted:
    """Train a module in place and leave it with the weights of its best held-out value.

    With a checkpoint path, the state is written after every epoch, and a file already there is continued from: the
    weights are then bit for bit those of a run that was never interrupted.

    Args:
        module: on its device already.
        task: what is learned.
        settings: how.
        budget: ends the fit after the epoch in which a limit is reached.
        progress: told of every epoch.
        title: the stage's name in `progress`.
        checkpoint: where the state is kept; None keeps none.
        fingerprint: of the data and of what else shapes the fit; a checkpoint of another one is refused.

    Raises:
        UnableToTrain: the loss is not finite.
        UnableToResume: the checkpoint is damaged or of another run.
    """
    run = _Run(module, task=task, settings=settings)
    print_of_run = f"{fingerprint} {settings}"
    if checkpoint is not None and checkpoint.exists():
        run.restore(read_checkpoint(checkpoint, fingerprint=print_of_run))
    progress.start(title, total=settings.epochs - run.epoch)
    stopped = run.stopped()
    while stopped is None:
        progress.advance(_note(run.pass_over()))
        if checkpoint is not None:
            write_checkpoint(checkpoint, run.state(print_of_run))
        stopped = run.stopped() or budget.spent()
    fitted = run.close(stopped)
    progress.finish(f"held out {fitted.best_value:.6g} in epoch {fitted.best_epoch} ({stopped})")
    return fitted


@dataclass(slots=True)
class _Run(Generic[ModuleT]):
    """The mutable state of one fit."""

    module: ModuleT
    task: Task[ModuleT] = field(kw_only=True)
    settings: LoopSettings = field(kw_only=True)
    optimizer: torch.optim.Optimizer = field(init=False)
    history: list[Epoch] = field(init=False, default_factory=list)
    best: dict[str, Any] = field(init=False, default_factory=dict)
    best_value: float = field(init=False, default=-math.inf)
    best_epoch: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.settings.epochs < 1 or self.settings.batch_size < 1 or self.task.row_count < 1:
            found = f"{self.settings.epochs} epochs, batches of {self.settings.batch_size}, {self.task.row_count} rows"
            raise ValueError(f"a fit needs at least one epoch, one row in a batch and one row of data, found {found}")
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )

    @property
    def epoch(self) -> int:
        return len(self.history)

    def pass_over(self) -> Epoch:
        """Go over all rows once, judge if it is time, and record the epoch."""
        rate = _cosine(self.settings.learning_rate, self.epoch / self.settings.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss, norm = self._descend(_seed_of(self.settings.seed, self.epoch))
        value = self._judge()
        self.history.append(
            Epoch(epoch=self.epoch + 1, loss=loss, gradient_norm=norm, learning_rate=rate, held_out=value)
        )
        return self.history[-1]

    def _descend(self, seed: int) -> tuple[float, float]:
        """Take one step per minibatch and return the mean loss and the mean norm of the gradient."""
        order = torch.randperm(self.task.row_count, generator=torch.Generator().manual_seed(seed))
        self.module.train()
        batches = torch.split(order, self.settings.batch_size)
        devices = sorted({p.device.index or 0 for p in self.module.parameters() if p.device.type == "cuda"})
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            sums = [self._step(rows) * len(rows) for rows in batches]
        loss, norm = (torch.stack(sums).sum(dim=0) / self.task.row_count).tolist()
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise UnableToTrain(
                f"the loss must be finite, found {loss} (gradient norm {norm}) in epoch {self.epoch + 1}; "
                "lower learning_rate or weight_clip"
            )
        return loss, norm

    def _step(self, rows: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.module, rows)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        # Both stay on the device: reading them here would wait for it in every step.
        return torch.stack([loss.detach(), norm.detach()]).double()

    def _judge(self) -> float | None:
        done = self.epoch + 1
        every = self.settings.check_every or self.settings.epochs
        if done % every and done != self.settings.epochs:
            return None
        self.module.eval()
        with torch.no_grad():
            value = self.task.held_out(self.module)
        if value > self.best_value or not self.best:
            self.best_value, self.best_epoch = value, done
            self.best = deepcopy(self.module.state_dict())
        return value

    def stopped(self) -> Stopped | None:
        if self.epoch >= self.settings.epochs:
            return "epochs"
        checks = sum(1 for e in self.history[self.best_epoch :] if e.held_out is not None)
        if self.settings.patience is not None and self.best and checks >= self.settings.patience:
            return "patience"
        return None

    def close(self, stopped: Stopped) -> Fitted:
        if not self.best:  # a budget ended the fit before its first check
            self.best_epoch, self.best = self.epoch, self.module.state_dict()
            with torch.no_grad():
                self.best_value = self.task.held_out(self.module.eval())
        self.module.load_state_dict(self.best)
        self.module.eval()
        return Fitted(
            history=tuple(self.history), best_epoch=self.best_epoch, best_value=self.best_value, stopped=stopped
        )

    def state(self, fingerprint: str) -> Checkpoint:
        return Checkpoint(
            fingerprint=fingerprint,
            module=self.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            history=tuple(self.history),
            best=self.best,
            best_value=self.best_value,
            best_epoch=self.best_epoch,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        self.module.load_state_dict(checkpoint.module)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.history = list(checkpoint.history)
        self.best = checkpoint.best
        self.best_value, self.best_epoch = checkpoint.best_value, checkpoint.best_epoch


def _seed_of(seed: int, epoch: int) -> int:
    """Return a well-mixed seed of one epoch, so that runs of neighboring seeds share no order."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _cosine(rate: float, share: float) -> float:
    return rate * 0.5 * (1.0 + math.cos(math.pi * share))


def _note(epoch: Epoch) -> str:
    held_out = "" if epoch.held_out is None else f", held out {epoch.held_out:.6g}"
    return f"loss {epoch.loss:.6g}{held_out}"
