import pytest

from optimizer.hydrothermal.baseline_settings import Settings
from optimizer.registry import UnknownSetting, make_settings


def test_hours_have_no_default() -> None:
    with pytest.raises(UnknownSetting, match="stage_hours"):
        make_settings(Settings, {"case": "small", "stages": "3"})


def test_there_is_at_least_one_stage() -> None:
    with pytest.raises(UnknownSetting, match="stages must be at least 1, found 0"):
        make_settings(Settings, {"case": "small", "stages": "0", "stage_hours": "168"})


def test_texts_of_the_command_line_become_numbers() -> None:
    made = make_settings(Settings, {"case": "small", "stages": "3", "stage_hours": "168", "initial_storage": "0.7"})
    assert made == Settings(case="small", stages=3, stage_hours=168.0, load_scale=1.0, initial_storage=0.7)
