from pathlib import Path

import numpy as np
import pytest

from optimizer.hydrothermal.fields import CaseRefused
from optimizer.hydrothermal.inflow import InflowAutoregression
from optimizer.hydrothermal.msppy import load_msppy, read_history

REGIONS = 2


def _write(folder: Path, name: str, header: str, rows: list[list[float]]) -> None:
    lines = [f",{header}", *(f"{at},{','.join(map(str, row))}" for at, row in enumerate(rows))]
    (folder / name).write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a system of two regions and a transshipment node, in the form of the source."""
    by_month = [[10.0 + month, 4.0] for month in range(12)]
    _write(tmp_path, "demand.csv", "0,1", by_month)
    _write(tmp_path, "exp_mu.csv", "0,1", by_month)
    _write(tmp_path, "gamma.csv", "0,1", [[0.5, 0.25]] * 12)
    _write(tmp_path, "deficit.csv", "OBJ,DEPTH", [[100.0, 0.25], [500.0, 0.75]])
    _write(tmp_path, "exchange.csv", "0,1,2", [[0, 3, 99999], [2, 0, 0], [1, 0, 0]])
    _write(tmp_path, "exchange_cost.csv", "0,1,2", [[0, 0.5, 0.25], [0.5, 0, 0.25], [0.25, 0.25, 0]])
    for region in range(REGIONS):
        _write(tmp_path, f"thermal_{region}.csv", "LB,UB,OBJ", [[1.0, 5.0, 20.0], [0.0, 2.0, 50.0]])
    for month in range(12):
        _write(tmp_path, f"sigma_{month}.csv", "0,1", [[0.04, -0.01], [-0.01, 0.09]])
    rows = "StoredEnergy_0,90,30\nStoredEnergy_1,20,5\ninflow_0,0,12\ninflow_1,0,3\nhydro_0,9,0\nhydro_1,6,0\n"
    (tmp_path / "hydro.csv").write_text(f",UB,INITIAL\n{rows}")
    return tmp_path


def test_water_is_energy_and_a_stage_is_a_month(folder: Path) -> None:
    case = load_msppy(folder, stage_hours=730.0)
    assert (case.units.volume, case.units.flow, case.volume_per_flow, case.base_mva) == ("MWmonth", "MW", 1.0, 1.0)
    assert (case.volume_max.tolist(), case.volume_initial.tolist()) == ([90.0, 20.0], [30.0, 5.0])
    assert case.turbine_max.tolist() == [9.0, 6.0]
    assert case.load[3].tolist() == [13.0, 4.0, 0.0]
    assert [(one.bus, one.minimum, one.maximum, one.cost) for one in case.generators[:2]] == [
        (0, 1, 5, 20),
        (0, 0, 2, 50),
    ]
    assert isinstance(case.inflow, InflowAutoregression)
    assert case.inflow.initial.tolist() == [12.0, 3.0]


def test_links_have_a_direction_a_capacity_and_a_cost(folder: Path) -> None:
    links = {(one.origin, one.end): (one.capacity, one.cost) for one in load_msppy(folder, stage_hours=730.0).links}
    assert links == {(0, 1): (3.0, 0.5), (0, 2): (np.inf, 0.25), (1, 0): (2.0, 0.5), (2, 0): (1.0, 0.25)}


@pytest.mark.parametrize("hours", [1.0, 168.0, 8760.0])
def test_a_stage_that_is_no_month_is_refused(folder: Path, hours: float) -> None:
    with pytest.raises(CaseRefused, match="a stage must be a month of 672 to 744 hours"):
        load_msppy(folder, stage_hours=hours)


@pytest.mark.parametrize(
    ("name", "header", "rows", "said"),
    [
        ("exchange.csv", "0,1", [[0, 1], [1, 0]], "expected 3 rows of 3 numbers"),
        ("thermal_1.csv", "LB,UB,OBJ", [[6, 5, 1]], "row 0: expected LB at most UB, found 6 > 5"),
        ("thermal_1.csv", "LB,UB,OBJ", [[0, -5, 1]], "row 0, column 1 .*: expected at least 0, found -5"),
        ("deficit.csv", "OBJ,DEPTH", [[100, 0.5]], "DEPTH: expected tiers that cover the load, found a sum of 0.5"),
        ("gamma.csv", "0,1", [[0.5, 0.5]] * 11, "expected 12 rows of 2 numbers"),
    ],
)
def test_a_fault_is_refused_with_file_and_place(
    folder: Path, name: str, header: str, rows: list[list[float]], said: str
) -> None:
    _write(folder, name, header, rows)
    with pytest.raises(CaseRefused, match=f"{name}: {said}"):
        load_msppy(folder, stage_hours=730.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("hydro_1,6,0\n", "", "expected the rows hydro_1"), ("_1,20,5", "_1,20,21", "StoredEnergy_1: expected INITIAL")],
)
def test_a_fault_in_the_plants_is_refused(folder: Path, old: str, new: str, said: str) -> None:
    path = folder / "hydro.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(CaseRefused, match=f"hydro.csv: {said}"):
        load_msppy(folder, stage_hours=730.0)


def test_a_year_with_a_gap_is_left_out_of_the_history_of_all(tmp_path: Path) -> None:
    months = ";".join(["1.5"] * 12)
    (tmp_path / "hist_0.csv").write_text(f"YEAR\n1931;{months}\n1932;{months}\n")
    (tmp_path / "hist_1.csv").write_text(f"YEAR\n1931;NA{months[3:]}\n1932;{months}\n")
    assert read_history(tmp_path, regions=2).shape == (1, 12, 2)


def test_brazil_is_read_whole(shared_data: Path) -> None:
    folder = shared_data / "hydrothermal" / "msppy_brazil"
    case = load_msppy(folder, stage_hours=730.0)
    assert (len(case.generators), len(case.links), len(case.tiers)) == (43 + 17 + 33 + 2 + 4, 10, 4)
    assert case.volume_max.tolist() == [200717.6, 19617.2, 51806.1, 12744.9]
    assert isinstance(case.inflow, InflowAutoregression)
    assert (case.inflow.covariance == case.inflow.covariance.transpose(0, 2, 1)).all()
    assert read_history(folder).shape[1:] == (12, 4)
