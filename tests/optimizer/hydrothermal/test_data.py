from pathlib import Path

import pytest

from optimizer.hydrothermal.data import CaseMissing, load_case, small_case_folder
from tests.helpers.small_case import small_case


def test_load_is_scaled_and_says_by_how_much() -> None:
    scaled = load_case(small_case_folder(), stage_hours=168.0, load_scale=0.6)
    assert scaled.load.tolist() == (0.6 * small_case().load).tolist()
    assert scaled.load_scale == 0.6


def test_every_reservoir_starts_with_the_same_fraction() -> None:
    filled = load_case(small_case_folder(), stage_hours=168.0, initial_storage=0.7)
    assert filled.volume_initial.tolist() == (0.7 * small_case().volume_max).tolist()
    assert load_case(small_case_folder(), stage_hours=168.0, initial_storage=0.0).volume_initial.tolist() == [0.0] * 4


def test_without_a_fraction_reservoirs_start_as_the_files_say() -> None:
    assert small_case().volume_initial.tolist() == [20.0, 3.0, 0.0, 6.0]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"stage_hours": 0.0}, "stage_hours must be above 0"),
        ({"stage_hours": 168.0, "load_scale": -1.0}, "load_scale must be at least 0"),
        ({"stage_hours": 168.0, "initial_storage": 1.5}, "initial_storage must be a fraction from 0 to 1"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_problem(asked: dict[str, float], said: str) -> None:
    with pytest.raises(CaseMissing, match=said) as caught:
        load_case(small_case_folder(), **asked)
    assert caught.value.exit_code == 2


def test_a_folder_without_a_case_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CaseMissing, match=r"PowerModels.json and hydro.json, or exchange.csv; found neither"):
        load_case(tmp_path, stage_hours=168.0)


def test_the_format_is_told_by_the_files(shared_data: Path) -> None:
    root = shared_data / "hydrothermal"
    assert load_case(root / "msppy_brazil", stage_hours=730.0).units.volume == "MWmonth"
    assert load_case(root / "hydropowermodels" / "brasil_4", stage_hours=730.0).units.volume == "hm3"
