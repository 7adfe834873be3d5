import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from optimizer.hydrothermal.baseline import UnableToBaseline, solve
from optimizer.hydrothermal.baseline_settings import Settings
from optimizer.hydrothermal.data import small_case_folder
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.training.progress import SilentProgress
from tests.helpers.small_case import small_case, small_stage, table_of


@pytest.fixture
def certain(tmp_path: Path) -> Path:
    """Return the small case with the first scenario alone."""
    folder = Path(shutil.copytree(small_case_folder(), tmp_path / "certain"))
    (folder / "scenarioprobability.csv").unlink()
    rows = (",".join(map(str, week)) for week in table_of(small_case()).flow[:, 0])
    (folder / "inflows.csv").write_text("\n".join(rows))
    return folder


def _settings(folder: Path, *, stages: int = 30, initial_storage: float | None = None) -> Settings:
    return Settings(case=str(folder), stages=stages, stage_hours=168.0, initial_storage=initial_storage)


def test_a_certain_case_costs_what_its_path_costs_beyond_the_end_of_the_table(certain: Path) -> None:
    report = solve(_settings(certain), progress=SilentProgress())
    path = table_of(small_case()).paths(np.zeros((30, 1), dtype=np.int64))
    expected = DeterministicEquivalent(small_stage(), stages=30).solve(path)
    assert report.objective == pytest.approx(expected.objective[0], rel=1e-12)
    assert sum(report.stage_costs) == pytest.approx(expected.objective[0], rel=1e-9)
    assert (report.lower_bound, report.simulated_mean, report.standard_error) == (report.objective, report.objective, 0)
    assert (len(report.stage_costs), report.stages, report.cost_units) == (30, 30, "$")


def test_full_reservoirs_cost_less_than_empty_ones(certain: Path) -> None:
    full, empty = (solve(_settings(certain, initial_storage=f), progress=SilentProgress()) for f in (1.0, 0.0))
    assert full.objective is not None
    assert empty.objective is not None
    assert full.objective < empty.objective
    assert full.details["final_volumes"]["Lake"] == pytest.approx(5.0)


def test_where_nature_chooses_it_is_sddp() -> None:
    settings = Settings(case=str(small_case_folder()), stages=3, stage_hours=168.0, iterations=4, simulations=5)
    report = solve(settings, progress=SilentProgress(), cpu_clock=lambda: 0.0)
    assert (report.method, report.objective) == ("SDDP with independent inflows", None)
    assert len(report.details["iterations"]) == 4


@pytest.mark.parametrize("name", ["cuts", "cuts_out", "checkpoint", "scenario_inflows"])
def test_a_certain_case_has_no_cuts(certain: Path, name: str) -> None:
    with pytest.raises(UnableToBaseline, match=f"{name}: expected a case in which nature has a choice"):
        solve(msgspec.structs.replace(_settings(certain), **{name: "cuts.json"}), progress=SilentProgress())


def test_the_first_stages_of_a_certain_case_are_reported(certain: Path) -> None:
    whole = solve(_settings(certain), progress=SilentProgress())
    part = solve(msgspec.structs.replace(_settings(certain), report_stages=7), progress=SilentProgress())
    assert (part.objective, part.stage_costs) == (whole.objective, whole.stage_costs[:7])


@pytest.mark.parametrize("name", ["case3deterministic", "case3deterministic_nowater", "case3deterministic_overwater"])
def test_the_peers_deterministic_cases_obey_the_order_of_their_water(shared_data: Path, name: str) -> None:
    folder = shared_data / "hydrothermal" / "hydropowermodels" / name
    report = solve(Settings(case=str(folder), stages=12, stage_hours=1.0), progress=SilentProgress())
    costs = np.array(report.stage_costs)
    assert report.objective == pytest.approx(costs.sum(), rel=1e-9)
    if name.endswith("overwater"):  # every stage turbines all it can, so all stages are alike
        np.testing.assert_allclose(costs, costs[0], rtol=1e-9)
