import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.hydrothermal.data import small_case_folder
from optimizer.hydrothermal.fields import CaseRefused
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.power_models import load_power_models

Change = Callable[[Any], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_case_folder(), tmp_path / "case"))


def _change(path: Path, change: Change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _set(*keys: Any) -> Change:
    """Return the change that sets the last key at the place of the others to the value that stands last."""

    def change(document: Any) -> None:
        *above, key, value = keys
        for one in above:
            document = document[one]
        document[key] = value

    return change


def _delete(*keys: Any) -> Change:
    def change(document: Any) -> None:
        *above, key = keys
        for one in above:
            document = document[one]
        del document[key]

    return change


HYDRO = "Hydrogenerators"
WRONG_HYDRO = {
    "missing": (_delete(HYDRO, 0, "max_turn"), r"\[0\].max_turn: expected a number, the field is missing"),
    "type": (_set(HYDRO, 0, "max_volume", "0.54"), r"\[0\].max_volume: expected a number, found '0.54'"),
    "negative": (_set(HYDRO, 1, "max_volume", -6), r"\[1\].max_volume: expected at least 0, found -6"),
    "initial": (_set(HYDRO, 1, "initial_volume", 7), r"\[1\].initial_volume: expected a number from 0 to 6, found 7"),
    "final": (_set(HYDRO, 3, "final_volume", 16), r"\[3\].final_volume: expected a number from 0 to 15"),
    "minimum": (_set(HYDRO, 3, "min_volume", 16), r"\[3\].min_volume: expected a number from 0 to 15"),
    "least_turn": (_set(HYDRO, 3, "min_turn", 7), r"\[3\].min_turn: expected a number from 0 to 6"),
    "generator": (_set(HYDRO, 0, "index_grid", 99), r"\[0\].index_grid: expected the number of a generator in service"),
    "shared": (
        _set(HYDRO, 1, "index_grid", 4),
        r"\[1\].index_grid: expected a generator of its own, not that of Upper",
    ),
    "index": (_set(HYDRO, 1, "index", 1), r"\[1\].index: expected a number of its own, found 1"),
    "link": (_set(HYDRO, 0, "downstream_turn", [9]), r"\[0\].downstream_turn\[0\]: expected the number of a plant"),
    "two": (_set(HYDRO, 0, "downstream_turn", [2, 3]), r"\[0\].downstream_turn: expected one plant at most"),
    "cycle": (_set(HYDRO, 2, "downstream_spill", [1]), r"expected water that flows down, found .a cycle among"),
    "no_list": (_set(HYDRO, {}), r"Hydrogenerators: expected a list"),
    "hours": (_set("stage_hours", 1), r"stage_hours: the file says 1, but 168 is asked for"),
    "hours_type": (_set("stage_hours", "168"), r"stage_hours: expected a finite number"),
    "production": (_set(HYDRO, 0, "production_factor", -1), r"\[0\].production_factor: expected at least 0"),
}
WRONG_GRID = {
    "missing": (_delete("bus", "1", "index"), r"bus\[1\].index: expected a whole number, the field is missing"),
    "type": (_set("gen", "1", "startup", "0"), r"gen\[1\].startup: expected a number, found '0'"),
    "key": (_set("bus", "1", "index", 2), r"bus\[1\].index: expected 1, the key it stands under, found 2"),
    "no_reference": (_set("bus", "1", "bus_type", 2), r"bus: expected at least one with bus_type 3"),
    "gen_bus": (_set("gen", "2", "gen_bus", 9), r"gen\[2\].gen_bus: expected the number of a bus, found 9"),
    "f_bus": (_set("branch", "2", "f_bus", 9), r"branch\[2\].f_bus: expected the number of a bus"),
    "load_bus": (_set("load", "1", "load_bus", 9), r"load\[1\].load_bus: expected the number of a bus"),
    "pmax": (_set("gen", "1", "pmax", -0.1), r"gen\[1\].pmax: expected at least 0, found -0.1"),
    "rate": (_set("branch", "1", "rate_a", -1), r"branch\[1\].rate_a: expected at least 0"),
    "tap": (_set("branch", "1", "tap", 1.05), r"branch\[1\].tap: expected 1: transformers that change it"),
    "shift": (_set("branch", "1", "shift", 0.1), r"branch\[1\].shift: expected 0"),
    "reactance": (_set("branch", "1", "br_x", 0), r"branch\[1\].br_x: expected a reactance other than 0"),
    "angles": (_set("branch", "1", "angmin", 2.0), r"branch\[1\].angmax: expected at least 2"),
    "quadratic": (_set("gen", "1", "cost", [3, 2000, 0]), r"gen\[1\].cost: expected a linear cost \[c1, c0\]"),
    "piecewise": (_set("gen", "1", "model", 1), r"gen\[1\].model: expected 2, a polynomial"),
    "negative_cost": (_set("gen", "1", "cost", [-1, 0]), r"gen\[1\].cost: expected a cost that is not negative"),
    "cost_type": (_set("gen", "1", "cost", ["1", 0]), r"gen\[1\].cost\[0\]: expected a finite number"),
    "shunt": (_set("shunt", {"1": {"gs": 1}}), r"shunt: expected none, for it is not modeled"),
    "per_unit": (_set("per_unit", False), r"per_unit: expected true"),
    "deficit": (_delete("cost_deficit"), r"cost_deficit: expected a number, the field is missing"),
    "load": (_set("load", "1", "pd", -1), r"load\[1\].pd: expected at least 0"),
}


@pytest.mark.parametrize("name", WRONG_HYDRO)
def test_a_fault_among_the_plants_is_refused_with_file_and_field(folder: Path, name: str) -> None:
    change, said = WRONG_HYDRO[name]
    _change(folder / "hydro.json", change)
    with pytest.raises(CaseRefused, match="hydro.json: .*" + said):
        load_power_models(folder, stage_hours=168.0)


@pytest.mark.parametrize("name", WRONG_GRID)
def test_a_fault_in_the_grid_is_refused_with_file_and_field(folder: Path, name: str) -> None:
    change, said = WRONG_GRID[name]
    _change(folder / "PowerModels.json", change)
    with pytest.raises(CaseRefused, match="PowerModels.json: .*" + said):
        load_power_models(folder, stage_hours=168.0)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("inflows.csv", "1,2,3,4,5\n", "expected a multiple of the 4 plants as the number of columns, found 5"),
        ("inflows.csv", "1,2,3,-4\n", "row 1, column 4: expected an inflow of at least 0, found -4"),
        ("scenarioprobability.csv", "0.5,0.5\n", "expected 6 columns and a number of rows that divides the 24"),
        ("scenarioprobability.csv", "0.1,0.2,0.2,0.2,0.2,0.1\n" * 5, "expected 6 .* divides the 24 .*, found 5 rows"),
        ("scenarioprobability.csv", "0.1,0.2,0.2,0.2,0.2,0.2\n", "row 1: expected probabilities .* the sum 1.1"),
        ("scenarioprobability.csv", "1.5,-0.5,0,0,0,0\n", "row 1: expected probabilities from 0 to 1"),
    ],
)
def test_a_fault_in_a_table_is_refused_with_file_and_place(folder: Path, file: str, text: str, said: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(CaseRefused, match=f"{file}: {said}"):
        load_power_models(folder, stage_hours=168.0)


def test_inflow_columns_are_blocks_of_the_plants_in_the_order_of_the_file(folder: Path) -> None:
    def reverse(document: Any) -> None:
        document[HYDRO].reverse()

    _change(folder / "hydro.json", reverse)
    (folder / "inflows.csv").write_text("1,2,10,20,100,200,1000,2000\n")
    (folder / "scenarioprobability.csv").unlink()
    case = load_power_models(folder, stage_hours=168.0)
    assert isinstance(case.inflow, InflowTable)
    assert case.hydro_names == ("Lake", "River", "Middle", "Upper")
    assert case.inflow.flow[0].tolist() == [[1.0, 10.0, 100.0, 1000.0], [2.0, 20.0, 200.0, 2000.0]]
    assert case.inflow.probability.tolist() == [[0.5, 0.5]]
    assert case.hydros[3].turbine_to == 2


def test_probabilities_are_read_and_begun_anew(folder: Path) -> None:
    (folder / "scenarioprobability.csv").write_text("1,0,0,0,0,0\n0,0,0,0,0,1\n")
    inflow = load_power_models(folder, stage_hours=168.0).inflow
    assert isinstance(inflow, InflowTable)
    assert inflow.probability.shape == (24, 6)
    assert inflow.probability[[0, 1, 22, 23], [0, 5, 0, 5]].tolist() == [1.0] * 4


def test_what_is_out_of_service_is_left_out_and_a_missing_rating_is_no_limit(folder: Path) -> None:
    def change(document: Any) -> None:
        document["gen"]["1"]["gen_status"] = 0
        document["branch"]["6"]["br_status"] = 0
        document["load"]["1"]["status"] = 0
        document["branch"]["1"]["rate_a"] = 0
        del document["branch"]["2"]["rate_a"]

    _change(folder / "PowerModels.json", change)
    case = load_power_models(folder, stage_hours=168.0)
    assert (len(case.generators), len(case.branches)) == (6, 5)
    assert [branch.rating for branch in case.branches[:3]] == [np.inf, np.inf, 0.4]
    assert case.load[0].tolist() == [0.0, 0.0, 0.5, 0.34, 0.28]


def test_denormals_are_zeros_and_an_empty_cost_is_none(folder: Path) -> None:
    _change(folder / "hydro.json", _set(HYDRO, 0, "initial_volume", 9.23057945e-316))
    _change(folder / "PowerModels.json", _set("gen", "1", "cost", []))
    case = load_power_models(folder, stage_hours=168.0)
    assert (case.hydros[0].volume_initial, case.generators[0].cost) == (0.0, 0.0)


def test_the_susceptance_is_that_of_the_series_element_and_deficit_is_per_unit(folder: Path) -> None:
    case = load_power_models(folder, stage_hours=168.0)
    assert case.branches[0].susceptance == pytest.approx(0.1 / (0.01**2 + 0.1**2), rel=1e-15)
    assert case.tiers[0].cost == 600.0 * 100.0
    assert case.volume_per_flow == pytest.approx(0.6048, rel=1e-15)


@pytest.mark.parametrize("name", ["missing", "type"])
def test_the_peers_own_broken_samples_are_refused_with_the_field(shared_data: Path, tmp_path: Path, name: str) -> None:
    source = shared_data / "hydrothermal" / "hydropowermodels"
    for file, sample in (("hydro.json", "hydro"), ("PowerModels.json", "powermodels")):
        folder = Path(shutil.copytree(source / "case3deterministic", tmp_path / sample))
        shutil.copyfile(source / "validate_json" / f"{sample}_{name}.json", folder / file)
        with pytest.raises(CaseRefused, match=rf"{file}: .*(max_turn|max_volume|index|startup)"):
            load_power_models(folder, stage_hours=1.0)


def test_bolivia_is_what_its_readers_say_it_is(shared_data: Path) -> None:
    case = load_power_models(shared_data / "hydrothermal" / "bolivia", stage_hours=168.0)
    assert isinstance(case.inflow, InflowTable)
    assert (len(case.buses), len(case.branches), len(case.generators), len(case.hydros)) == (28, 31, 34, 11)
    assert case.inflow.flow.shape == (48, 15, 11)
    assert case.volume_max.sum() == pytest.approx(178.322)
    assert case.volume_initial.tolist() == [0.0] * 11
    assert [one.spill_cost for one in case.hydros] == [0.0] * 11
    assert case.load.sum() * case.base_mva == pytest.approx(804.22, abs=0.01)
    links = {one.name: (one.turbine_to, one.spill_to) for one in case.hydros if one.turbine_to is not None}
    names = case.hydro_names
    assert {a: (names[t or 0], None if s is None else names[s]) for a, (t, s) in links.items()} == {
        "COR": ("SIS", None),
        "ZON": ("CHU", "CHU"),
        "TAQ1": ("TAQ2", "TAQ2"),
    }


@pytest.mark.parametrize("name", ["case3", "case3deterministic_nowater", "case3deterministic_overwater", "brasil_4"])
def test_every_case_of_the_peer_is_read(shared_data: Path, name: str) -> None:
    case = load_power_models(shared_data / "hydrothermal" / "hydropowermodels" / name, stage_hours=1.0)
    assert case.volume_per_flow == 0.0036
    assert isinstance(case.inflow, InflowTable)
    np.testing.assert_allclose(case.inflow.probability.sum(axis=1), 1.0, atol=1e-12)
