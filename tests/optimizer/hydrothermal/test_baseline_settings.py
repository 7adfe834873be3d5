import pytest

from optimizer.hydrothermal.baseline_settings import Settings
from optimizer.registry import UnknownSetting, make_settings


def test_hours_have_no_default() -> None:
    with pytest.raises(UnknownSetting, match="stage_hours"):
        make_settings(Settings, {"case": "small", "stages": "3"})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("stages", "0", "stages must be at least 1, found 0"),
        ("iterations", "0", "iterations must be at least 1"),
        ("simulations", "0", "simulations must be at least 1"),
        ("stall_change", "-1", "stall_change must be at least 0"),
        ("cpu_minutes", "0", "cpu_minutes must be above 0"),
        ("tail_share", "1.2", r"tail_share must lie in \[0, 1\]"),
        ("report_stages", "4", r"report_stages must be from 1 to stages \(3\), found 4"),
        ("inflow_model", "markov", "inflow_model"),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(UnknownSetting, match=said):
        make_settings(Settings, {"case": "small", "stages": "3", "stage_hours": "168", name: value})


def test_the_paths_are_brought_in_one_way() -> None:
    with pytest.raises(ValueError, match="scenario_indices and scenario_inflows are two tables"):
        Settings(case="small", stages=3, stage_hours=168.0, scenario_indices="a.csv", scenario_inflows="b.csv")


def test_texts_of_the_command_line_become_numbers() -> None:
    made = make_settings(Settings, {"case": "small", "stages": "3", "stage_hours": "168", "initial_storage": "0.7"})
    assert made == Settings(case="small", stages=3, stage_hours=168.0, load_scale=1.0, initial_storage=0.7)
