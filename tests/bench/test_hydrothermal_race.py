import argparse
from pathlib import Path

import numpy as np
import pytest

from bench.hydrothermal_race import _line, _row, race
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, small_case_folder
from tests.helpers.small_judged import judged_small, small_cuts


def test_a_row_is_in_percent_of_the_reference_and_says_what_was_spent() -> None:
    judged = judged_small()
    sddp = judged.by_cuts("sddp", small_cuts())
    row = _row("foresight", 15.0, 15.25, 7, judged.foresight(), sddp)
    expected = 100 * (row["mean_with_credit"] / float(sddp.cost_with_credit.mean()) - 1)
    assert row["percent"] == pytest.approx(expected, abs=1e-9)
    assert row["percent_low"] <= row["percent"] <= row["percent_high"]
    assert "spent    15.2 s  rounds      7" in _line(row)


@pytest.mark.slow
def test_a_small_race_judges_both_on_the_same_budgets(tmp_path: Path) -> None:
    arguments = argparse.Namespace(
        case=small_case_folder(), stages=6, stage_hours=SMALL_CASE_HOURS, load_scale=1.0, report_stages=4,
        budgets="1,2", scenarios=10, seed=1, reference=None,
    )  # fmt: skip
    found = race(arguments, keep=tmp_path)
    assert [(row["policy"], row["budget_s"]) for row in found["rows"]] == [
        ("sddp", 1.0), ("ts_ddr", 1.0), ("sddp", 2.0), ("ts_ddr", 2.0),
    ]  # fmt: skip
    assert all(row["cpu_s"] >= row["budget_s"] for row in found["rows"] if row["policy"] == "sddp")
    assert found["rows"][2]["percent"] == 0.0  # SDDP's longest run is the reference
    assert found["foresight"]["percent"] <= min(row["percent"] for row in found["rows"]) + 1e-9
    assert np.isfinite(found["rows"][3]["to_sddp_percent_high"])
    assert sorted(path.name for path in tmp_path.glob("cuts-*")) == ["cuts-1.json", "cuts-2.json"]
