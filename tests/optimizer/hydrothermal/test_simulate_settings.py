from typing import Any

import pytest

from optimizer.hydrothermal.simulate_settings import Settings
from optimizer.registry import UnknownSetting, make_settings

_NEEDED: dict[str, Any] = {"cuts": "cuts.json", "case": "here", "stages": 9, "stage_hours": 168.0}


def test_all_stages_are_reported_unless_fewer_are_asked_for() -> None:
    assert Settings(**_NEEDED).reported == 9
    assert Settings(**_NEEDED, report_stages=4).reported == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stages": 0}, "stages must be at least 1"),
        ({"report_stages": 10}, "report_stages must lie in 1 to 9, found 10"),
        ({"report_stages": 0}, "report_stages must lie in 1 to 9"),
        ({"scenarios": 0}, "scenarios must be at least 1"),
        ({"scenario_indices": "a.csv", "scenario_inflows": "b.csv"}, "two tables of the same scenarios: give one"),
        ({"confidence": 1.0}, r"confidence must lie in \(0, 1\)"),
        ({"requests_out": "r.jsonl"}, "requests_out needs an artifact"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownSetting, match=message):
        make_settings(Settings, {**_NEEDED, **wrong})
