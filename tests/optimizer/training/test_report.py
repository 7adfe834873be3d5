import dataclasses
from pathlib import Path

import msgspec

from optimizer.training.report import Candidate, Epoch, TrainReport, write_report
from policies.evaluation.estimators import estimate
from policies.evaluation.sums import Sums
from tests.helpers.bandit_logs import random_scored


def test_a_report_is_readable_json_that_comes_back_equal(tmp_path: Path) -> None:
    scored = dataclasses.replace(random_scored(200, seed=1, model=False))
    held_out = estimate(Sums.empty().add(scored), reward_low=-10, reward_high=10, estimators=("ips",))["ips"]
    epoch = Epoch(epoch=1, loss=0.5, gradient_norm=1.0, learning_rate=0.01, held_out=None)
    candidate = Candidate(
        name="uniform", strength=None, held_out=held_out, best_epoch=0, stopped="epochs", history=(epoch,)
    )
    report = TrainReport(
        recipe="logged_bandit",
        identity="0" * 64,
        objective="ips",
        reward="click",
        chosen="uniform",
        held_out=held_out,
        candidates=(candidate,),
        epochs=1,
        rows_trained=160,
        rows_held_out=40,
        rows_excluded=0,
        device="cpu",
        parameter_count=12,
        cpu_s=0.25,
        wall_s=0.5,
    )
    path = write_report(report, folder=tmp_path)
    assert path == tmp_path / "evaluation.json"
    assert msgspec.json.decode(path.read_bytes(), type=TrainReport) == report
    assert path.read_bytes().startswith(b'{\n  "recipe": "logged_bandit"')
