import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest

from optimizer.registry import RECIPES
from optimizer.training.report import Candidate, Look, SimulatedReport, TrainReport
from penstock.main import main
from policies.evaluation.estimators import Estimate

HELD = Estimate(
    value=0.5, low=0.4, high=0.6, confidence=0.95, standard_error=0.05, row_count=400, unit_count=400,
    effective_units=300.0, largest_weight=2.0, largest_share=0.01, mean_weight=1.0, excluded=0, pending=0,
    verdict="answer", reason="300 effective units",
)  # fmt: skip


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what the stand-in learns.

    Attributes:
        seed: of everything, 100 % of it.
    """

    seed: int = 3
    mode: Literal["fast", "slow"] = "fast"
    pulls: tuple[float, ...] = (0.5,)
    is_quiet: bool = False


class _Recipe:
    """Stands in for a recipe: it records what it was called with."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def train(self, log: Path | None, **named: Any) -> TrainReport:
        self.calls.append({"log": log, **named})
        candidate = Candidate(name="ips", strength=0.5, held_out=HELD, best_epoch=2, stopped="epochs", history=())
        return TrainReport(
            recipe="stand_in", identity="ab" * 32, objective="ips", reward="click", chosen="ips", held_out=HELD,
            candidates=(candidate,), epochs=2, rows_trained=10, rows_held_out=5, rows_excluded=0, device="cpu",
            parameter_count=7, cpu_s=0.1, wall_s=0.1,
        )  # fmt: skip


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> _Recipe:
    made = _Recipe()
    folder = ModuleType("stand_in")
    folder.__path__ = []
    monkeypatch.setitem(sys.modules, "stand_in", folder)
    monkeypatch.setitem(sys.modules, "stand_in.settings", SimpleNamespace(Settings=Settings))
    monkeypatch.setitem(sys.modules, "stand_in.recipe", SimpleNamespace(train=made.train))
    shelf = replace(RECIPES, folders={"stand_in": "stand_in"})
    monkeypatch.setattr("optimizer.registry.RECIPES", shelf)
    return made


def test_settings_are_flags_of_their_own_types(recipe: _Recipe, tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    log.touch()
    words = ["--seed", "9", "--mode", "slow", "--pulls", "1,2", "--pulls", "3", "--is-quiet"]
    assert main(["train", "stand_in", "--log", str(log), "--out", str(tmp_path / "out"), *words]) == 0
    (call,) = recipe.calls
    assert call["settings"] == Settings(seed=9, mode="slow", pulls=(1.0, 2.0, 3.0), is_quiet=True)
    assert (call["log"], call["out"], call["spec"]) == (log, tmp_path / "out", None)


def test_what_is_not_given_keeps_the_default_of_the_recipe(recipe: _Recipe, tmp_path: Path) -> None:
    assert main(["train", "stand_in", "--out", str(tmp_path)]) == 0
    assert recipe.calls[0]["settings"] == Settings()


def test_the_report_carries_the_seed_and_the_folder(
    recipe: _Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "stand_in", "--out", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["seed"] == 3
    assert (document["result"]["identity"], document["result"]["out"]) == ("ab" * 32, str(tmp_path))


def test_the_text_says_which_candidate_was_chosen(
    recipe: _Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "stand_in", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "chosen: ips, click 0.5 [0.4, 0.6] on 5 held-out rows" in text
    assert f"artifact {'ab' * 32} in {tmp_path}" in text


def test_a_simulated_recipe_shows_its_curve_and_what_the_exported_policy_costs(
    recipe: _Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = tuple(
        Look(step=step, cpu_s=0.1 * step, cost=900.0 - step, loss=1.0, gradient_norm=1.0, learning_rate=0.1)
        for step in range(10, 260, 10)
    )
    report = SimulatedReport(
        recipe="stand_in", identity="cd" * 32, cost_units="$", mean_cost=651.5, low=640.0, high=663.0,
        confidence=0.95, scenarios=32, looks=looks, steps=250, stopped="steps", device="cpu", parameter_count=7,
        cpu_s=25.0, wall_s=26.0,
    )  # fmt: skip
    monkeypatch.setattr(sys.modules["stand_in.recipe"], "train", lambda log, **named: report)
    assert main(["train", "stand_in", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "held-out cost, $" in text
    assert "exported policy: 651.5 [640, 663] $ in the mean of 32 scenarios" in text
    assert len([line for line in text.splitlines() if line.strip().endswith("0") and line.split()[0].isdigit()]) <= 14
    assert text.splitlines()[-2].startswith("exported policy")


def test_help_names_the_settings_with_meaning_and_default(recipe: _Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "stand_in", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--seed VALUE of everything, 100 % of it. (default: 3)" in text
    assert "--mode {fast,slow}" in text
    assert "(default: 0.5)" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stand-in"], "no recipe 'stand-in'; did you mean 'stand_in'"),
        (["stand_in", "--epochs", "3"], "--epochs"),
        (["stand_in", "--seed", "many"], "seed"),
        (["stand_in", "--log", "missing.parquet"], "a log at missing.parquet"),
        (["stand_in", "--spec", "missing.json"], "a spec at missing.json"),
    ],
)
def test_what_cannot_be_trained_is_a_usage_problem(
    words: list[str], message: str, recipe: _Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert recipe.calls == []
