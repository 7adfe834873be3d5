import dataclasses
import pickle
from pathlib import Path

import pytest
import torch

from optimizer.training.checkpoint import (
    Checkpoint,
    UnableToResume,
    read_checkpoint,
    remove_checkpoints,
    write_checkpoint,
)
from optimizer.training.report import Epoch


def checkpoint() -> Checkpoint:
    epoch = Epoch(epoch=1, loss=-0.25, gradient_norm=0.1, learning_rate=0.01, held_out=None)
    weights = {"weight": torch.tensor([0.1, -0.0, 3e-40])}
    return Checkpoint(
        fingerprint="log 1, seed 0",
        module=weights,
        optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.01, "params": [0]}]},
        history=(epoch,),
        best=weights,
        best_value=float("-inf"),
        best_epoch=0,
    )


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path, expected = tmp_path / "fit.pt", checkpoint()
    write_checkpoint(path, expected)
    found = read_checkpoint(path, fingerprint=expected.fingerprint)
    assert found.history == expected.history
    assert found.module["weight"].numpy().tobytes() == expected.module["weight"].numpy().tobytes()
    assert (found.best_value, found.best_epoch) == (expected.best_value, 0)
    assert found.optimizer["param_groups"] == expected.optimizer["param_groups"]


def test_a_new_checkpoint_takes_the_place_of_the_old_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "fit.pt"
    write_checkpoint(path, checkpoint())
    write_checkpoint(path, dataclasses.replace(checkpoint(), best_epoch=7))
    assert read_checkpoint(path, fingerprint="log 1, seed 0").best_epoch == 7
    assert list(path.parent.iterdir()) == [path]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    write_checkpoint(path, checkpoint())
    with pytest.raises(UnableToResume, match=r"of another run: expected .*seed 1.*found .*seed 0.*delete"):
        read_checkpoint(path, fingerprint="log 1, seed 1")


@pytest.mark.parametrize(
    "data", [b"", b"not a checkpoint", pickle.dumps(print, protocol=2)], ids=["empty", "text", "code"]
)
def test_what_is_no_checkpoint_is_refused_with_the_remedy(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fit.pt"
    path.write_bytes(data)
    with pytest.raises(UnableToResume, match=r"expected a checkpoint at .*fit\.pt.*delete"):
        read_checkpoint(path, fingerprint="log 1, seed 0")


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    write_checkpoint(path, checkpoint())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnableToResume, match="expected a checkpoint"):
        read_checkpoint(path, fingerprint="log 1, seed 0")


def test_where_no_checkpoint_was_written_there_is_none_to_remove(tmp_path: Path) -> None:
    remove_checkpoints(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_removing_checkpoints_leaves_what_is_not_theirs(tmp_path: Path) -> None:
    ours, shared = tmp_path / "ours", tmp_path / "shared"
    for folder in (ours, shared):
        write_checkpoint(folder / "fit.pt", checkpoint())
    (shared / "notes.txt").write_text("keep")
    for folder in (ours, shared):
        remove_checkpoints(folder)
    assert not ours.exists()
    assert [path.name for path in shared.iterdir()] == ["notes.txt"]
