from typing import Any

import pytest

from optimizer.hydrothermal.settings import Settings


def _settings(**change: Any) -> Settings:
    return Settings(**{"case": "", "stages": 12, "stage_hours": 168.0, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"stages": 0},
        {"cpu_minutes": 0.0},
        {"learning_rate": 0.0},
        {"threads": 0},
        {"encoder_width": 0},
        {"steps_kept": 0},
    ],
)
def test_a_setting_out_of_range_is_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
        _settings(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"history": -1}, "history must be at least 0 with encoder auto, found -1"),
        ({"history": 30, "steps_kept": 26}, r"at least 0 and at most steps_kept \(26\) with encoder auto, found 30"),
        ({"history": 0, "encoder": "window"}, "history must be at least 1 with encoder window, found 0"),
        ({"history": 2, "encoder": "recurrent"}, "left out with encoder recurrent, which has no window; found 2"),
        ({"history": 0, "encoder": "none"}, "left out with encoder none, which has no window; found 0"),
    ],
)
def test_a_history_that_contradicts_the_encoder_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _settings(**change)


def test_a_window_longer_than_requests_usually_are_is_allowed() -> None:
    assert _settings(history=30).history == 30
