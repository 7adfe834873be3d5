"""A fit's state on disk, from which it continues with the same bits."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import msgspec
import torch

from optimizer.training.report import Epoch
from policies.errors import Unable

FORMAT = 1
SUFFIX = ".pt"


class UnableToResume(Unable):
    """A checkpoint is damaged, or belongs to another run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Hold what a fit needs to continue: weights, the optimizer's moments, the history and the best weights so far.

    There is no state of a random generator: each epoch's randomness follows from the seed and the epoch's number.
    `extra` is what a trainer adds of its own: tensors, numbers and texts.
    """

    fingerprint: str
    module: dict[str, Any]
    optimizer: dict[str, Any]
    history: tuple[Epoch, ...]
    best: dict[str, Any]
    best_value: float
    best_epoch: int
    extra: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint in one move, so that an interruption leaves the former one whole."""
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    fields["history"] = msgspec.json.encode(checkpoint.history).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as target:
        torch.save({"format": FORMAT, **fields}, target)
        target.flush()
        os.fsync(target.fileno())
    part.replace(path)


def remove_checkpoints(folder: Path) -> None:
    """Remove a folder's checkpoints, if there is one, and the folder unless something else lies there."""
    if not folder.is_dir():
        return
    for path in folder.glob(f"*{SUFFIX}"):
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def read_checkpoint(path: Path, *, fingerprint: str) -> Checkpoint:
    """Read a checkpoint; nothing in the file is ever executed.

    Raises:
        UnableToResume: the file is no checkpoint, or its fingerprint is another one.
    """
    remedy = f"delete {path}, or train without resuming"
    try:
        fields = torch.load(path, weights_only=True, map_location="cpu")
        found = (fields.pop("format"), fields["fingerprint"])
        history = msgspec.json.decode(fields.pop("history"), type=tuple[Epoch, ...])
    except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, AttributeError, msgspec.DecodeError) as error:
        raise UnableToResume(f"expected a checkpoint at {path}, found {type(error).__name__}; {remedy}") from error
    if found != (FORMAT, fingerprint):
        raise UnableToResume(
            f"the checkpoint at {path} is of another run: expected {(FORMAT, fingerprint)}, found {found}; {remedy}"
        )
    return Checkpoint(history=history, **fields)
