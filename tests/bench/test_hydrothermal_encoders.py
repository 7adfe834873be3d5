from pathlib import Path

import pytest

from bench.hydrothermal_encoders import _line, compare, with_encoder
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, small_case_folder
from optimizer.hydrothermal.settings import Settings

_SETTINGS = Settings(
    case=str(small_case_folder()), stages=6, stage_hours=SMALL_CASE_HOURS, steps=10, batch_size=4, width=8,
    check_every=5, held_out=4, device="cpu",
)  # fmt: skip


def test_a_size_behind_an_encoders_name_is_that_encoders() -> None:
    assert with_encoder(_SETTINGS, "window:3").history == 3
    assert with_encoder(_SETTINGS, "recurrent:64").encoder_width == 64
    assert with_encoder(_SETTINGS, "none").encoder == "none"


@pytest.mark.slow
def test_encoders_are_compared_with_the_first_on_common_scenarios(tmp_path: Path) -> None:
    rows = list(compare(_SETTINGS, encoders=["none", "recurrent:4"], scenarios=5, folder=tmp_path))
    assert [(row["encoder"], row["steps"]) for row in rows] == [("none", 10), ("recurrent:4", 10)]
    assert (rows[0]["percent"], rows[0]["percent_low"]) == (0.0, 0.0)
    assert rows[1]["percent_low"] < rows[1]["percent"] < rows[1]["percent_high"]
    assert "recurrent:4   seed 0" in _line(rows[1])
