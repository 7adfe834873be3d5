import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.baseline_report import BaselineReport
from optimizer.hydrothermal.baseline_settings import Settings
from optimizer.hydrothermal.data import load_case, small_case_folder
from optimizer.hydrothermal.sddp.baseline import UnableToSimulate, fresh_paths, solve_by_sddp
from optimizer.training.progress import SilentProgress
from tests.helpers.small_case import small_case, table_of


def _settings(**given: Any) -> Settings:
    own = {"stages": 4, "iterations": 6, "simulations": 20, "case": str(small_case_folder()), "stage_hours": 168.0}
    return Settings(**{**own, **given})


def _solve(settings: Settings) -> BaselineReport:
    case = load_case(Path(settings.case), stage_hours=settings.stage_hours)
    return solve_by_sddp(case, settings=settings, progress=SilentProgress(), cpu_clock=lambda: 0.0)


def test_bound_mean_and_foresight_stand_in_their_order() -> None:
    report = _solve(_settings(foresight=True, iterations=25, simulations=60))
    details = report.details
    assert report.objective is None
    assert report.lower_bound is not None
    assert report.lower_bound <= details["interval"][1]
    assert details["foresight_mean"] < report.simulated_mean
    assert details["gap_to_foresight"] == pytest.approx(report.simulated_mean - details["foresight_mean"], rel=1e-9)
    assert sum(report.stage_costs) == pytest.approx(report.simulated_mean, rel=1e-12)
    assert (len(report.stage_costs), details["paths"], len(details["iterations"])) == (4, 60, 25)
    assert any(line.startswith("best bound     : ") for line in report.log)


def test_given_scenarios_are_simulated_and_the_first_stages_reported(tmp_path: Path) -> None:
    indices = np.random.default_rng(1).integers(1, 7, (4, 9))
    (tmp_path / "indices.csv").write_text("\n".join(",".join(map(str, row)) for row in indices))
    given = _settings(scenario_indices=str(tmp_path / "indices.csv"))
    whole, part = (
        _solve(given),
        _solve(_settings(scenario_indices=given.scenario_indices, report_stages=2, foresight=True)),
    )
    assert (whole.details["paths"], part.details["report_stages"]) == (9, 2)
    assert part.stage_costs == pytest.approx(whole.stage_costs[:2], rel=1e-12)
    assert part.details["terminal_mean"] > 0
    assert part.details["foresight_mean"] <= part.simulated_mean + part.details["terminal_mean"]
    assert part.lower_bound == whole.lower_bound


def test_given_inflows_are_simulated_as_the_scenarios_they_are_of(tmp_path: Path) -> None:
    indices = np.random.default_rng(1).integers(1, 7, (4, 9))
    (tmp_path / "indices.csv").write_text("\n".join(",".join(map(str, row)) for row in indices))
    rows = table_of(small_case()).paths(indices - 1).transpose(1, 2, 0).reshape(4, -1)
    (tmp_path / "inflows.csv").write_text("\n".join(",".join(map(repr, row)) for row in rows.tolist()))
    by_number = _solve(_settings(scenario_indices=str(tmp_path / "indices.csv")))
    by_flow = _solve(_settings(scenario_inflows=str(tmp_path / "inflows.csv")))
    assert by_flow.stage_costs == by_number.stage_costs
    assert any("9 given paths" in line for line in by_flow.log)


def test_cuts_are_written_and_gone_on_from(tmp_path: Path) -> None:
    first = _solve(_settings(cuts_out=str(tmp_path / "cuts.json"), iterations=10))
    assert len(json.loads((tmp_path / "cuts.json").read_text())) == 4
    later = _solve(_settings(cuts=str(tmp_path / "cuts.json"), iterations=1))
    assert first.lower_bound is not None
    assert later.lower_bound is not None
    assert later.lower_bound >= first.lower_bound * (1 - 1e-8)


def test_a_checkpoint_is_resumed(tmp_path: Path) -> None:
    checkpoint = str(tmp_path / "run.npz")
    whole = _solve(_settings(iterations=30))
    _solve(_settings(iterations=27, checkpoint=checkpoint))
    resumed = _solve(_settings(iterations=30, checkpoint=checkpoint))
    assert (resumed.lower_bound, resumed.simulated_mean) == (whole.lower_bound, whole.simulated_mean)


def test_the_seed_decides_all_draws_and_fresh_paths_are_none_of_training() -> None:
    first, again, other = (_solve(_settings(seed=seed)) for seed in (1, 1, 2))
    assert (first.lower_bound, first.simulated_mean) == (again.lower_bound, again.simulated_mean)
    assert first.simulated_mean != other.simulated_mean
    paths = fresh_paths(small_case(), count=4, stages=8, seed=1)
    trained_on = table_of(small_case()).paths(
        table_of(small_case()).draw(4, stages=8, generator=np.random.default_rng([1, 1]))
    )
    assert paths.tolist() != trained_on.tolist()


def test_a_risk_adjusted_bound_is_labeled() -> None:
    report = _solve(_settings(expectation_weight=0.5, tail_share=0.2))
    assert report.method == "SDDP with independent inflows, risk-adjusted"
    assert not report.details["is_bound_of_the_mean"]


def _brazil(shared_data: Path, **given: Any) -> BaselineReport:
    folder = shared_data / "hydrothermal" / "msppy_brazil"
    own = {"case": str(folder), "stage_hours": 730.0, "noises": 5, "iterations": 8, "simulations": 10}
    return _solve(_settings(**{**own, **given}))


@pytest.mark.slow
def test_an_autoregression_is_trained_with_and_without_memory(shared_data: Path) -> None:
    remembering, forgetful = (_brazil(shared_data, inflow_model=model) for model in ("autoregressive", "independent"))
    assert remembering.method == "SDDP with inflows as states"
    assert forgetful.method == "SDDP with independent inflows"
    assert remembering.details["paths"] == forgetful.details["paths"] == 10


@pytest.mark.slow
@pytest.mark.parametrize("model", ["autoregressive", "independent"])
def test_the_bound_meets_the_cost_on_paths_of_the_choices_it_is_of(shared_data: Path, model: str) -> None:
    report = _brazil(shared_data, inflow_model=model, stages=5, noises=4, iterations=60, simulations=400)
    low, high = report.details["choices_interval"]
    assert report.lower_bound is not None
    assert low <= report.lower_bound <= high
    assert high - low < 0.1 * report.lower_bound
    assert any(line.startswith("reduced law    : ") for line in report.log)


@pytest.mark.slow
def test_an_autoregression_has_no_numbered_scenarios(shared_data: Path) -> None:
    with pytest.raises(UnableToSimulate, match="expected a case with numbered scenarios"):
        _brazil(shared_data, scenario_indices="indices.csv")


@pytest.mark.slow
def test_foresight_of_the_first_stages_needs_a_value_that_asks_for_no_inflow(shared_data: Path) -> None:
    with pytest.raises(UnableToSimulate, match="leave out report_stages"):
        _brazil(shared_data, foresight=True, report_stages=2)
