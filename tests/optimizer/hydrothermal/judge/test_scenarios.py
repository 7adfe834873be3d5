from pathlib import Path

import numpy as np
import pytest

from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.fields import CaseRefused
from optimizer.hydrothermal.judge.scenarios import UnableToDraw, judged_inflow
from tests.helpers.small_case import small_case, table_of


def _table(folder: Path, text: str) -> Path:
    path = folder / "indices.csv"
    path.write_text(text)
    return path


def test_numbers_of_a_table_are_scenarios_from_one_a_column_each(tmp_path: Path) -> None:
    path = _table(tmp_path, "1,6\n2,1\n3,3\n")
    inflow = judged_inflow(small_case(), stages=3, indices=path)
    flow = table_of(small_case()).flow
    np.testing.assert_array_equal(inflow[1], [flow[0, 5], flow[1, 0], flow[2, 2]])
    np.testing.assert_array_equal(inflow[0], [flow[0, 0], flow[1, 1], flow[2, 2]])


def test_a_longer_table_is_read_for_the_stages_that_count(tmp_path: Path) -> None:
    path = _table(tmp_path, "1\n2\n3\n4\n")
    assert judged_inflow(small_case(), stages=2, indices=path).shape == (1, 2, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n", "expected at least 2 rows, one for each stage, found 1"),
        ("1,2\n0,1\n", r"row 2, column 1: expected a scenario's number from 1 to 6, found 0"),
        ("1,2\n3,7\n", r"row 2, column 2: .* found 7"),
        ("1,2\n3,1.5\n", r"row 2, column 2: .* found 1.5"),
        ("1,2\n3,x\n", "indices.csv"),
        ("1,2\n3\n", "indices.csv"),
        ("", "indices.csv"),
    ],
)
def test_a_table_that_is_none_is_refused_by_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CaseRefused, match=message) as caught:
        judged_inflow(small_case(), stages=2, indices=_table(tmp_path, text))
    assert caught.value.exit_code == 3


def test_a_table_that_is_not_there_is_a_usage_problem(tmp_path: Path) -> None:
    with pytest.raises(UnableToDraw, match="found no file there") as caught:
        judged_inflow(small_case(), stages=2, indices=tmp_path / "absent.csv")
    assert caught.value.exit_code == 2


def test_inflows_may_be_brought_themselves_a_column_for_each_scenario_of_a_plant(tmp_path: Path) -> None:
    inflow_BTR = judged_inflow(small_case(), stages=3, count=2, seed=5)
    rows = inflow_BTR.transpose(1, 2, 0).reshape(3, -1)
    path = _table(tmp_path, "\n".join(",".join(map(repr, row)) for row in rows.tolist()))
    np.testing.assert_array_equal(judged_inflow(small_case(), stages=3, inflows=path), inflow_BTR)
    np.testing.assert_array_equal(judged_inflow(small_case(), stages=2, inflows=path), inflow_BTR[:, :2])


def test_inflows_that_are_not_there_are_a_usage_problem(tmp_path: Path) -> None:
    with pytest.raises(UnableToDraw, match=r"expected a table of inflows at .* found no file there"):
        judged_inflow(small_case(), stages=2, inflows=tmp_path / "absent.csv")


def test_an_autoregression_takes_inflows_and_no_numbers(tmp_path: Path, shared_data: Path) -> None:
    case = load_case(shared_data / "hydrothermal" / "msppy_brazil", stage_hours=730.0)
    path = _table(tmp_path, "1,2,3,4,5,6,7,8\n")
    assert judged_inflow(case, stages=1, inflows=path).tolist() == [[[1.0, 3.0, 5.0, 7.0]], [[2.0, 4.0, 6.0, 8.0]]]
    with pytest.raises(UnableToDraw, match="or bring them by scenario_inflows"):
        judged_inflow(case, stages=1, indices=path)


def test_the_same_seed_draws_the_same_scenarios_and_more_of_them_begin_alike() -> None:
    few, many = (judged_inflow(small_case(), stages=6, count=count, seed=4) for count in (5, 9))
    np.testing.assert_array_equal(few, many[:5])
    assert not np.array_equal(few, judged_inflow(small_case(), stages=6, count=5, seed=5))


def test_a_longer_horizon_begins_with_the_same_inflows() -> None:
    short, long = (judged_inflow(small_case(), stages=stages, count=4) for stages in (3, 9))
    np.testing.assert_array_equal(short, long[:, :3])
