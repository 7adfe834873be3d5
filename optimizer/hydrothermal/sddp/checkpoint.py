"""A training's state on disk, from which it goes on with the same bits.

It is written where the training has settled (`train.SETTLE_EVERY`), so that models depend on the pools alone. Draws
follow from the seed and the iteration's number: there is no generator to keep.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import msgspec
import numpy as np

from optimizer.hydrothermal.sddp.cuts import CutPool
from optimizer.hydrothermal.sddp.train import Iteration, Trainer
from policies.errors import Unable

_FORMAT: Final = 1


class UnableToResume(Unable):
    """A checkpoint is damaged, or belongs to another training."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Hold the pools of all stages and the rows of the training table so far."""

    pools: list[CutPool]
    rows: tuple[Iteration, ...]


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    fingerprint: str
    rows: tuple[Iteration, ...]


def fingerprint(trainer: Trainer) -> str:
    """Return a digest of all that a training's numbers follow from: the programs, the noise and how cuts are made."""
    digest = hashlib.sha256(msgspec.json.encode(_settings(trainer)))
    case, program = trainer.arrays.case, trainer.arrays.program
    arrays = [case.volume_initial, case.volume_max, program.cost, program.column_lower]
    arrays += [program.matrix.data, program.matrix.indices.astype(np.float64)]
    for one in trainer.arrays.variants.values():
        arrays += [one.row_lower, one.row_upper, one.column_upper]
    for noise in trainer.noise.stages:
        arrays += [noise.constant, noise.probability, *([] if noise.gain is None else [noise.gain])]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_checkpoint(path: Path, trainer: Trainer, *, rows: Sequence[Iteration]) -> None:
    """Write the pools in one move, so that an interruption leaves the former checkpoint whole."""
    head = _Head(format=_FORMAT, fingerprint=fingerprint(trainer), rows=tuple(rows))
    arrays = {
        f"{at}.{name}": array for at, pool in enumerate(trainer.pools) for name, array in pool.to_arrays().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as target:
        np.savez(target, head=np.frombuffer(msgspec.json.encode(head), np.uint8), **arrays)  # type: ignore[arg-type]
        target.flush()
        os.fsync(target.fileno())
    part.replace(path)


def read_checkpoint(path: Path, trainer: Trainer) -> Checkpoint:
    """Read the checkpoint of this training; nothing in the file is executed.

    Raises:
        UnableToResume: the file is no checkpoint, or of a training with other programs, noise or settings.
    """
    remedy = f"delete {path}, or name another checkpoint"
    try:
        with path.open("rb") as source, np.load(source, allow_pickle=False) as stored:
            head = msgspec.json.decode(stored["head"].tobytes(), type=_Head)
            names = CutPool(dimension=1).to_arrays()
            pools = [
                CutPool.from_arrays({name: stored[f"{at}.{name}"] for name in names}) for at in range(trainer.stages)
            ]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, msgspec.DecodeError) as error:
        raise UnableToResume(f"expected a checkpoint at {path}, found {type(error).__name__}; {remedy}") from error
    if (head.format, head.fingerprint) != (_FORMAT, fingerprint(trainer)):
        raise UnableToResume(f"the checkpoint at {path} is of another case, noise, seed or risk; {remedy}")
    return Checkpoint(pools=pools, rows=head.rows)


def _settings(trainer: Trainer) -> dict[str, object]:
    training, case = trainer.training, trainer.arrays.case
    return {
        "stages": trainer.stages,
        "seed": training.seed,
        "paths": training.paths,
        "expectation_weight": training.risk.expectation_weight,
        "tail_share": training.risk.tail_share,
        "volume_per_flow": case.volume_per_flow,
    }
