"""The whole way of a dispatch: train, export, simulate, decide the requests of a scenario, verify each number."""

import csv
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from optimizer.hydrothermal.data import small_case_folder
from optimizer.hydrothermal.sddp.cuts_file import write_cuts
from penstock.main import main
from tests.helpers.small_judged import STAGES, small_cuts

pytestmark = pytest.mark.slow

_CASE = ("--case", str(small_case_folder()), "--stages", str(STAGES), "--stage-hours", "168")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with cuts, an artifact, the requests of a scenario, decisions, a report and the figures."""
    made = tmp_path_factory.mktemp("dispatch")
    artifact = str(made / "artifact")
    write_cuts(made / "cuts.json", small_cuts())
    _keep(made / "training.json", ["train", "hydrothermal", *_CASE, "--steps", "150", "--out", artifact])
    words = ["simulate", "hydrothermal", *_CASE, "--artifact", artifact, "--cuts", str(made / "cuts.json")]
    words += ["--scenarios", "20", "--requests-out", str(made / "requests.jsonl")]
    _keep(made / "simulation.json", [*words, "--report", str(made / "report.html")])
    words = ["decide", "--artifact", artifact, str(made / "requests.jsonl"), "--out"]
    _keep(made / "decided.json", [*words, str(made / "decisions.jsonl")])
    _keep(made / "decided.json", [*words, str(made / "week.csv")])
    return made


def _keep(path: Path, words: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8") as stream, redirect_stdout(stream):
        assert main([*words, "--json"]) == 0


def _result(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))["result"]


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_trained_policy_stands_between_foresight_and_what_learns_nothing(folder: Path) -> None:
    ours, sddp, foresight = _result(folder / "simulation.json")["policies"]
    assert (ours["name"], sddp["name"], foresight["name"]) == ("ts_ddr", "sddp", "foresight")
    assert foresight["mean_with_credit"] <= min(ours["mean_with_credit"], sddp["mean_with_credit"]) + 1e-6
    assert ours["paired_percent_high"] < 20.0  # 150 steps learn something: greedy operation costs far more than that


def test_what_it_proposes_is_applied_as_it_is(folder: Path) -> None:
    ours = _result(folder / "simulation.json")["policies"][0]
    assert (ours["fallbacks"], ours["details"]["largest_change"]) == (0, pytest.approx(0.0, abs=1e-6))


def test_every_request_of_a_scenario_becomes_a_decision(folder: Path) -> None:
    assert _result(folder / "decided.json") == {"decisions": STAGES, "dead_letters": 0, "fallbacks": 0}


def test_the_decided_volumes_are_those_of_the_simulation(folder: Path) -> None:
    for now, later in pairwise(_lines(folder / "decisions.jsonl")):
        assert now["choices"][0]["applied"] == pytest.approx(later["request"]["fields"]["volume"], abs=1e-9)


def test_the_table_names_dispatch_prices_and_water_values_with_units(folder: Path) -> None:
    with (folder / "week.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    units = {row["name"]: row["units"] for row in rows}
    assert units.items() >= {
        ("dispatch", "MW"),
        ("deficit", "MW"),
        ("price", "$ per MW and stage"),
        ("water_value", "$ per hm3"),
        ("spill", "hm3"),
        ("turbined", "m3/s"),
    }
    first = [row for row in rows if row["request_id"] == rows[0]["request_id"]]
    supplied = sum(float(row["value"]) for row in first if row["name"] in ("dispatch", "deficit"))
    assert supplied == pytest.approx(150.0, rel=1e-6)  # the small case's load


def test_decisions_are_recomputed_bit_for_bit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _verified(folder, folder / "decisions.jsonl", capsys, code=0)
    assert (found["decisions"], found["bitwise"], found["different"]) == (STAGES, STAGES, 0)


@pytest.mark.parametrize("name", ["dispatch", "price", "water_value", "spill"])
def test_a_number_of_a_decision_that_was_changed_is_found(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _lines(folder / "decisions.jsonl")
    lines[3]["recourse"]["outputs"][name][0] += 0.01
    changed = folder / f"changed-{name}.jsonl"
    changed.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    first = _verified(folder, changed, capsys, code=3)["first_difference"]
    assert (first["line"], name in first["field"] or name in first["logged"]) == (4, True)


def _verified(folder: Path, decisions: Path, capsys: pytest.CaptureFixture[str], *, code: int) -> Any:
    assert main(["verify", str(decisions), "--artifact", str(folder / "artifact"), "--json"]) == code
    return json.loads(capsys.readouterr().out)["result"]


def test_volumes_that_cannot_be_are_a_dead_letter_with_a_reason(folder: Path) -> None:
    request = _lines(folder / "requests.jsonl")[2]
    request["fields"]["volume"][0] = 99.0
    (folder / "impossible.jsonl").write_text(json.dumps(request) + "\n", encoding="utf-8")
    words = ["decide", "--artifact", str(folder / "artifact"), str(folder / "impossible.jsonl")]
    assert main([*words, "--out", str(folder / "none.jsonl"), "--json"]) == 3
    (letter,) = _lines(folder / "none.dead.jsonl")
    assert letter["reason"] == "out_of_range"
    assert "99.0" in letter["detail"]


def test_the_report_of_a_trained_policy_shows_it_beside_the_others(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    assert "Upper, ts_ddr" in page
