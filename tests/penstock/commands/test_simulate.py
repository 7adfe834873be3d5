import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from optimizer.hydrothermal.data import small_case_folder
from optimizer.hydrothermal.sddp.cuts_file import write_cuts
from optimizer.registry import SIMULATIONS
from optimizer.simulation_report import SimulatedPolicy, SimulationReport
from penstock.main import main
from tests.helpers.small_judged import STAGES, small_cuts


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what the stand-in simulates.

    Attributes:
        case: folder of the case.
        seed: of the draw.
    """

    case: str
    seed: int = 4


class _Simulation:
    """Stands in for a simulation: it records what it was called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def simulate(self, settings: Settings, *, progress: object) -> SimulationReport:
        self.calls.append(settings)
        ours = SimulatedPolicy(
            name="ours", mean=90.0, standard_error=2.0, terminal_credit=9.5, mean_with_credit=99.5,
            paired_difference=-0.5, paired_low=-0.75, paired_high=-0.25,
            paired_percent=-0.5, paired_percent_low=-0.75, paired_percent_high=-0.25,
        )  # fmt: skip
        return SimulationReport(
            domain="stand_in", stages=12, report_stages=6, scenarios=3, cost_units="EUR", deficit_units="MWh",
            confidence=0.95, reference="theirs", lower_bound=98.5, lower_bound_source="a table", policies=(ours,),
            details={"written": {"report": "report.html"}},
        )  # fmt: skip


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> _Simulation:
    made = _Simulation()
    folder = ModuleType("stand_in")
    folder.__path__ = []
    monkeypatch.setitem(sys.modules, "stand_in", folder)
    monkeypatch.setitem(sys.modules, "stand_in.simulate_settings", SimpleNamespace(Settings=Settings))
    monkeypatch.setitem(sys.modules, "stand_in.simulate", SimpleNamespace(simulate=made.simulate))
    shelf = replace(SIMULATIONS, folders={"stand_in": "stand_in"})
    monkeypatch.setattr("optimizer.registry.SIMULATIONS", shelf)
    return made


def test_settings_are_flags_and_the_result_is_the_report(
    simulation: _Simulation, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "stand_in", "--case", "here", "--seed", "7", "--json"]) == 0
    assert simulation.calls == [Settings(case="here", seed=7)]
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["seed"]) == ("simulate", 7)
    (policy,) = document["result"]["policies"]
    wanted = ("name", "mean", "terminal_credit", "deficit", "paired_difference", "paired_low", "paired_high")
    assert [policy[name] for name in wanted] == ["ours", 90.0, 9.5, 0.0, -0.5, -0.75, -0.25]
    assert policy["paired_percent_high"] == -0.25


def test_the_text_is_a_table_with_paired_intervals(simulation: _Simulation, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "stand_in", "--case", "here"]) == 0
    text = capsys.readouterr().out
    assert "stand_in: 3 common scenarios, first 6 of 12 stages, costs in EUR, intervals of 95 %" in text
    assert "-0.750 .. -0.250" in text
    assert "lower bound 98.5 (a table)" in text
    assert "report: report.html" in text


_NEEDED = ["--case", str(small_case_folder()), "--stages", str(STAGES), "--stage-hours", "168"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["hydro"], 2, "no domain 'hydro' can be simulated; did you mean 'hydrothermal'"),
        (["hydrothermal", *_NEEDED], 2, "required: --cuts"),
        (["hydrothermal", *_NEEDED, "--cuts", "absent.json"], 2, "expected a file of cuts at absent.json"),
        (
            ["hydrothermal", *_NEEDED, "--cuts", "c", "--artifact", "absent"],
            2,
            "an artifact's folder at absent",
        ),
        (["hydrothermal", *_NEEDED, "--cuts", "c", "--report-stages", "99"], 2, "report_stages must lie in 1 to 8"),
    ],
)
def test_what_cannot_be_asked_is_told(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *words]) == code
    printed = capsys.readouterr()
    assert (printed.out, message in printed.err) == ("", True), printed.err


def test_a_report_without_its_library_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "optimizer.report.charts"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "optimizer.hydrothermal.simulate_report", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["simulate", "hydrothermal", *_NEEDED, "--cuts", "absent.json", "--report", "r.html"]) == 4
    assert "pip install 'penstock[report]'" in capsys.readouterr().err


def test_the_small_case_is_simulated_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cuts(tmp_path / "cuts.json", small_cuts())
    indices = tmp_path / "indices.csv"
    indices.write_text("\n".join("1,2,3" for _ in range(STAGES)))
    words = [*_NEEDED, "--cuts", str(tmp_path / "cuts.json"), "--scenario-indices", str(indices), "--json"]
    assert main(["simulate", "hydrothermal", *words]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert (result["scenarios"], [policy["name"] for policy in result["policies"]]) == (3, ["sddp", "foresight"])


def test_help_of_a_domain_names_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "hydrothermal", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--report-stages VALUE how many of the first stages are simulated and counted" in text
    assert "--greedy, --no-greedy" in text
