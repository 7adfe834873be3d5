"""Plain tables as a log: kinds of columns are inferred, ids are texts, nothing is taken for granted."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policies.importers.table import UnableToImportTable, import_table

CSV = """action,propensity,reward_click,reward_sale,hour,device,context_depth
10,0.5,1,2.5,1,phone,3
9,0.5,0,,2,desk,
10,0.25,0,0,30,watch,5
"""


def csv_at(folder: Path, text: str = CSV) -> Path:
    (folder / "My Log.csv").write_text(text)
    return folder / "My Log.csv"


def test_a_csv_becomes_a_log(tmp_path: Path) -> None:
    feedback = import_table(csv_at(tmp_path))
    place = feedback.request_ids.index("1")
    assert (feedback.spec.domain, feedback.spec.actions.ids) == ("my-log", ("9", "10"))
    assert (feedback.actions[place], feedback.propensity[place]) == ("9", 0.5)
    assert (feedback.statuses["sale"][place], feedback.statuses["click"][place]) == ("pending", None)


def test_numbers_and_categories_are_told_apart_and_bounded_by_the_training_rows(tmp_path: Path) -> None:
    fields = {field.name: field for field in import_table(csv_at(tmp_path), train_share=0.67).spec.fields}
    assert set(fields) == {"hour", "device", "depth"}
    assert (fields["hour"].lower, fields["hour"].upper) == (1.0, 2.0)
    assert fields["device"].vocabulary == ("desk", "phone")
    assert (fields["depth"].missing, fields["hour"].missing) == (3.0, "refuse")


def test_parquet_and_csv_say_the_same(tmp_path: Path) -> None:
    columns = {
        "action": [10, 9, 10],
        "propensity": [0.5, 0.5, 0.25],
        "reward_click": [True, False, False],
        "reward_sale": [2.5, None, 0.0],
        "hour": [1, 2, 30],
        "device": pa.array(["phone", "desk", "watch"]).dictionary_encode(),
        "context_depth": [3, None, 5],
    }
    pq.write_table(pa.table(columns), tmp_path / "My Log.parquet")
    one, other = import_table(tmp_path / "My Log.parquet"), import_table(csv_at(tmp_path))
    assert one.spec == other.spec
    assert (one.actions, one.propensity.tolist()) == (other.actions, other.propensity.tolist())


def test_units_times_and_ids_are_taken_where_they_are_there(tmp_path: Path) -> None:
    header = "request_id,unit,time,action,propensity,reward\n"
    text = header + "b,7,1970-01-01T00:00:02Z,x,1,1\na,7,1970-01-01T00:00:01Z,y,0.5,0\n"
    feedback = import_table(csv_at(tmp_path, text))
    assert (feedback.request_ids, feedback.units, feedback.times.tolist()) == (
        ["a", "b"],
        ["7", "7"],
        [1000000, 2000000],
    )
    assert [reward.name for reward in feedback.spec.rewards] == ["reward"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_units_beyond_the_whole_numbers_of_a_float_stay_apart(suffix: str, tmp_path: Path) -> None:
    units = [2**53, 2**53 + 1]
    if suffix == "csv":
        path = csv_at(tmp_path, f"unit,action,propensity,reward\n{units[0]},x,1,1\n{units[1]},y,1,0\n")
    else:
        path = tmp_path / "log.parquet"
        columns = {"unit": units, "action": ["x", "y"], "propensity": [1.0, 1.0], "reward": [1.0, 0.0]}
        pq.write_table(pa.table(columns), path)
    assert set(import_table(path).units) == {str(unit) for unit in units}


def test_an_action_may_be_called_inf(tmp_path: Path) -> None:
    feedback = import_table(csv_at(tmp_path, "action,propensity,reward\ninf,0.5,1\n1,0.5,0\n"))
    assert set(feedback.actions) == {"inf", "1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("action,reward\nx,1\n", "missing columns: propensity.*never taken as 1"),
        ("action,propensity\nx,1\n", "missing columns: reward"),
        ("action,propensity,reward\n", "expected rows, found none"),
        ("action,propensity,reward\nx,1\n", "expected 3 values in each line, found 2 in line 2"),
        ("action,propensity,reward\nx,1,1\ny,much,0\n", "propensity must hold numbers, found 'much' in row 1"),
        ("action,propensity,reward\nx,1,1\n,1,0\n", "action must not be empty, found nothing in row 1"),
        ("action,propensity,reward,time\nx,1,1,noon\n", "time must be microseconds or ISO-8601"),
        ("action,propensity,reward,step\nx,1,1,\n", "step must be a whole number from 0, found nan in row 0"),
    ],
)
def test_what_is_no_log_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnableToImportTable, match=message):
        import_table(csv_at(tmp_path, text))


def test_lists_need_a_spec(tmp_path: Path) -> None:
    columns = {"action": ["x"], "propensity": [1.0], "reward": [1.0], "eligible": [["x", "y"]]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    with pytest.raises(UnableToImportTable, match="--format feedback"):
        import_table(tmp_path / "log.parquet")
