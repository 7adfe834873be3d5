from pathlib import Path

import pytest

from optimizer.hydrothermal.sddp.checkpoint import UnableToResume, read_checkpoint, write_checkpoint
from optimizer.hydrothermal.sddp.risk import Risk
from optimizer.hydrothermal.sddp.train import Trainer, Training
from tests.helpers.small_case import small_stage
from tests.helpers.trainers import few_choices, train


def test_pools_and_rows_come_back(tmp_path: Path) -> None:
    trainer = Trainer(small_stage(), noise=few_choices(stages=3))
    rows = train(trainer, 3)
    write_checkpoint(tmp_path / "deep" / "run.npz", trainer, rows=rows)
    found = read_checkpoint(tmp_path / "deep" / "run.npz", trainer)
    assert found.rows == tuple(rows)
    for one, other in zip(found.pools, trainer.pools, strict=True):
        assert all((a == b).all() for a, b in zip(one.to_arrays().values(), other.to_arrays().values(), strict=True))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["run.npz"]


@pytest.mark.parametrize(
    "other",
    [
        Training(seed=5),
        Training(paths=2),
        Training(risk=Risk(expectation_weight=0.5, tail_share=0.1)),
    ],
)
def test_another_training_does_not_go_on_from_it(tmp_path: Path, other: Training) -> None:
    noise = few_choices(stages=3)
    write_checkpoint(tmp_path / "run.npz", Trainer(small_stage(), noise=noise), rows=[])
    with pytest.raises(UnableToResume, match="another case, noise, seed or risk; delete"):
        read_checkpoint(tmp_path / "run.npz", Trainer(small_stage(), noise=noise, training=other))


def test_another_noise_does_not_go_on_from_it(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "run.npz", Trainer(small_stage(), noise=few_choices(stages=3)), rows=[])
    with pytest.raises(UnableToResume, match="another case, noise"):
        read_checkpoint(tmp_path / "run.npz", Trainer(small_stage(), noise=few_choices(stages=3, choices=4)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"text"])
def test_a_damaged_file_is_told_from_one_of_another_training(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.npz").write_bytes(content)
    with pytest.raises(UnableToResume, match="expected a checkpoint at") as caught:
        read_checkpoint(tmp_path / "run.npz", Trainer(small_stage(), noise=few_choices(stages=2)))
    assert caught.value.exit_code == 4
