from pathlib import Path
from typing import Any

import msgspec
import pytest

from optimizer.hydrothermal.data import small_case_folder
from optimizer.hydrothermal.judge.artifact import ServedPolicy
from optimizer.hydrothermal.sddp.cuts_file import CutsRefused, write_cuts
from optimizer.hydrothermal.simulate import UnableToSimulate, simulate
from optimizer.hydrothermal.simulate_settings import Settings
from optimizer.simulation_report import SimulationReport
from optimizer.training.progress import SilentProgress
from tests.helpers.small_case import small_case
from tests.helpers.small_judged import REPORTED, STAGES, artifact_keeping, small_cuts


@pytest.fixture
def cuts(tmp_path: Path) -> Path:
    write_cuts(tmp_path / "cuts.json", small_cuts())
    return tmp_path / "cuts.json"


def _settings(cuts: Path, **given: Any) -> Settings:
    needed = {"case": str(small_case_folder()), "stages": STAGES, "stage_hours": 168.0, "scenarios": 6}
    return Settings(cuts=str(cuts), **{**needed, "report_stages": REPORTED, **given})


def _simulated(settings: Settings) -> SimulationReport:
    return simulate(settings, progress=SilentProgress())


def test_sddp_and_foresight_stand_side_by_side(cuts: Path) -> None:
    report = _simulated(_settings(cuts, greedy=True))
    assert [policy.name for policy in report.policies] == ["sddp", "greedy", "foresight"]
    sddp, greedy, foresight = report.policies
    assert (sddp.paired_difference, sddp.paired_low, sddp.paired_high) == (0.0, 0.0, 0.0)
    assert greedy.paired_difference is not None
    assert greedy.paired_difference > 0
    assert foresight.mean_with_credit < sddp.mean_with_credit
    assert (report.reference, report.scenarios, report.report_stages) == ("sddp", 6, REPORTED)
    assert len(sddp.stage_costs) == REPORTED
    assert sum(sddp.stage_costs) == pytest.approx(sddp.mean, rel=1e-9)


def test_a_further_sddp_policy_of_the_same_cuts_does_not_differ(cuts: Path) -> None:
    again = _simulated(_settings(cuts, other_cuts=(f"again={cuts}",))).policies[1]
    assert (again.name, again.paired_low, again.paired_high) == ("again", 0.0, 0.0)


def test_a_run_repeats_to_the_bit(cuts: Path) -> None:
    first, second = (_timeless(_simulated(_settings(cuts))) for _ in range(2))
    assert first == second


def _timeless(report: SimulationReport) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(report)
    for policy in built["policies"]:
        policy["cpu_s"] = None
    return built


def test_an_artifact_is_run_as_served_and_its_requests_are_kept(
    cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimizer.hydrothermal.simulate.load_artifact", lambda folder: artifact_keeping(0.3))
    report = _simulated(_settings(cuts, artifact="kept", requests_out=str(tmp_path / "requests.jsonl")))
    assert report.policies[0].name == "ts_ddr"
    assert len((tmp_path / "requests.jsonl").read_bytes().splitlines()) == REPORTED
    assert report.details["written"] == {"requests": str(tmp_path / "requests.jsonl")}
    assert ServedPolicy(artifact_keeping(0.3), case=small_case(), stages=STAGES).fallbacks == 0


def test_the_report_is_written_and_named(cuts: Path, tmp_path: Path) -> None:
    report = _simulated(_settings(cuts, report=str(tmp_path / "report.html")))
    assert report.details["written"] == {"report": str(tmp_path / "report.html")}
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_cuts_of_another_horizon_are_refused(cuts: Path) -> None:
    with pytest.raises(CutsRefused, match="another horizon"):
        _simulated(_settings(cuts, stages=STAGES + 3))


@pytest.mark.parametrize("text", ["again", "=cuts.json", "again=", "sddp=cuts.json", "greedy=cuts.json"])
def test_further_cuts_need_a_name_of_their_own(cuts: Path, text: str) -> None:
    with pytest.raises(UnableToSimulate, match="--other-cuts must be NAME=FILE"):
        _simulated(_settings(cuts, other_cuts=(text,)))
