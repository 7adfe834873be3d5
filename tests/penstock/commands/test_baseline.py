import json
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from optimizer.baseline_report import BaselineReport
from optimizer.hydrothermal.data import small_case_folder
from optimizer.registry import BASELINES
from penstock.main import main


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what the stand-in solves.

    Attributes:
        case: folder of the case.
        stages: of the horizon.
    """

    case: str
    stages: int = 2


class _Baseline:
    """Stands in for a baseline: it records what it was called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def solve(self, settings: Settings, *, progress: object) -> BaselineReport:
        self.calls.append(settings)
        return BaselineReport(
            domain="stand_in", method="a table", stages=settings.stages, cost_units="EUR", lower_bound=1234.5,
            stage_costs=(1.0, float("nan")),
        )  # fmt: skip


@pytest.fixture
def baseline(monkeypatch: pytest.MonkeyPatch) -> _Baseline:
    made = _Baseline()
    folder = ModuleType("stand_in")
    folder.__path__ = []
    monkeypatch.setitem(sys.modules, "stand_in", folder)
    monkeypatch.setitem(sys.modules, "stand_in.baseline_settings", SimpleNamespace(Settings=Settings))
    monkeypatch.setitem(sys.modules, "stand_in.baseline", SimpleNamespace(solve=made.solve))
    shelf = replace(BASELINES, folders={"stand_in": "stand_in"})
    monkeypatch.setattr("optimizer.registry.BASELINES", shelf)
    return made


def test_settings_are_flags_and_the_result_is_the_report(
    baseline: _Baseline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", "stand_in", "--case", "here", "--stages", "5", "--json"]) == 0
    assert baseline.calls == [Settings(case="here", stages=5)]
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["result"]["lower_bound"]) == ("baseline", 1234.5)
    assert (document["result"]["objective"], document["result"]["stage_costs"]) == (None, [1.0, None])


def test_the_text_says_what_is_known_and_in_what_unit(baseline: _Baseline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "stand_in", "--case", "here"]) == 0
    text = capsys.readouterr().out
    assert "stand_in by a table, 2 stages" in text
    assert "lower bound  1234.5" in text
    assert "objective" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydro"], "no domain 'hydro' has a baseline; did you mean 'hydrothermal'"),
        (["hydrothermal", "--case", "x", "--stages", "3"], "required: --stage-hours"),
        (["hydrothermal", "--case", "nowhere", "--stages", "3", "--stage-hours", "168"], "expected a case in nowhere"),
        (["hydrothermal", "--case", "x", "--stages", "few", "--stage-hours", "168"], "stages"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_problem(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", *words]) == 2
    printed = capsys.readouterr()
    assert (printed.out, message in printed.err) == ("", True)


def test_hours_that_the_case_contradicts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--case", str(small_case_folder()), "--stages", "3", "--stage-hours", "1"]
    assert main(["baseline", "hydrothermal", *words]) == 3
    assert "hydro.json: stage_hours: the file says 168, but 1 is asked for" in capsys.readouterr().err


def test_help_of_a_domain_names_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "hydrothermal", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--stage-hours VALUE hours of a stage; never guessed" in text
    assert "(required)" in text
