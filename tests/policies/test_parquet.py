"""Feedback on disk: what is written is read back, foreign logs take their defaults, bad ones are refused by name."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policies.encode import Encoder
from policies.events import Source
from policies.feedback import (
    Feedback,
    LogNotFound,
    UnableToReadFeedback,
    UnableToUseParquet,
    fold,
    logged_choices,
    read_columns,
    read_feedback,
    write_feedback,
)
from policies.spec import ActionSet, Field, PolicySpec, Reward, SpecNotFound, spec_to_bytes
from tests.helpers import domains
from tests.helpers.decided import decide_uniformly

WORKLOADS = [domains.ad_load, domains.payments, domains.iot_scheduling, domains.inventory, domains.hydrothermal]
SPEC = PolicySpec(
    domain="shop",
    fields=(
        Field(name="hour", lower=0, upper=24),
        Field(name="user", vocabulary=("new", "old"), missing="new"),
        Field(name="price", axis="action", lower=0, upper=9, missing=5.0),
    ),
    actions=ActionSet(kind="choice", ids=("left", "mid", "right"), features={"price": (1.0, 2.0, 3.0)}),
    rewards=(Reward(name="click"), Reward(name="sale")),
)
FOREIGN: dict[str, list[Any]] = {
    "action": ["left", "mid", "right", "left"],
    "propensity": [0.5, 0.25, 0.25, 1.0],
    "reward_click": [1, 0, None, 1],
    "context_hour": [1, 2, 3, 4],
}


def feedback_of(workload: domains.Workload, *, count: int = 20) -> Feedback:
    requests = [workload.request(number) for number in range(count)]
    outcomes = [
        (workload.outcome(request), Source(topic="outcomes", partition=0, offset=number))
        for number, request in enumerate(requests)
        if number % 3
    ]
    return fold(decide_uniformly(requests, spec=workload.spec), outcomes, as_of=10**18, spec=workload.spec).feedback


def log_at(path: Path, **changes: list[Any] | pa.Array | None) -> Path:
    columns = {name: values for name, values in {**FOREIGN, **changes}.items() if values is not None}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("make", WORKLOADS)
def test_a_log_of_each_domain_is_read_back_as_it_was_written(
    make: Callable[[], domains.Workload], tmp_path: Path
) -> None:
    written = feedback_of(make())
    write_feedback(written, tmp_path / "log.parquet")
    read = read_feedback(tmp_path / "log.parquet", spec=written.spec)
    for name in (
        "request_ids",
        "slots",
        "units",
        "actions",
        "statuses",
        "policies",
        "roles",
        "fallbacks",
        "is_row_unit",
    ):
        assert getattr(read, name) == getattr(written, name), name
    for name in ("unit_hashes", "steps", "times", "request_rows", "propensity", "propensity_floor", "action_values"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name), err_msg=name)
    for name, values in written.rewards.items():
        np.testing.assert_array_equal(read.rewards[name], values)


@pytest.mark.parametrize("make", WORKLOADS[:3])
def test_what_was_read_back_encodes_to_the_same_bits(make: Callable[[], domains.Workload], tmp_path: Path) -> None:
    written = feedback_of(make())
    write_feedback(written, tmp_path / "log.parquet")
    read = read_feedback(tmp_path / "log.parquet", spec=written.spec)
    encoder = Encoder(written.spec)
    pairs = zip(
        logged_choices(written, encoder, batch_size=7), logged_choices(read, encoder, batch_size=7), strict=True
    )
    for one, other in pairs:
        assert [a.tolist() for a in (one.rows, one.slot, one.action)] == [
            a.tolist() for a in (other.rows, other.slot, other.action)
        ]
        np.testing.assert_array_equal(one.bucket.mask, other.bucket.mask)
        for name, array in one.bucket.arrays.items():
            np.testing.assert_array_equal(array, other.bucket.arrays[name])


@pytest.mark.parametrize("make", WORKLOADS)
def test_writing_what_was_read_gives_the_same_bytes(make: Callable[[], domains.Workload], tmp_path: Path) -> None:
    written = feedback_of(make())
    write_feedback(written, tmp_path / "log.parquet")
    write_feedback(read_feedback(tmp_path / "log.parquet", spec=written.spec), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "log.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.parquet", "log.parquet"]


def test_the_columns_are_those_of_the_reference_of_formats(tmp_path: Path) -> None:
    write_feedback(feedback_of(domains.payments()), tmp_path / "log.parquet")
    schema = pq.read_schema(tmp_path / "log.parquet")
    kinds = {name: str(schema.field(name).type).replace("element", "item") for name in schema.names}
    assert {name: kinds[name] for name in ("unit_hash", "time", "step", "propensity", "action")} == {
        "unit_hash": "uint64",
        "time": "int64",
        "step": "int64",
        "propensity": "double",
        "action": "string",
    }
    assert kinds["eligible"] == "list<item: string>"
    assert {kinds[name] for name in ("action_value", "applied_value", "probabilities")} == {"list<item: double>"}
    assert pq.ParquetFile(tmp_path / "log.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def test_probabilities_stand_beside_the_eligible_actions(tmp_path: Path) -> None:
    write_feedback(feedback_of(domains.iot_scheduling()), tmp_path / "log.parquet")
    table = pq.read_table(tmp_path / "log.parquet").to_pylist()
    choices = [row for row in table if row["action"] is not None]
    assert all(len(row["probabilities"]) == len(row["eligible"]) for row in choices)
    assert all(row["probabilities"][row["eligible"].index(row["action"])] == row["propensity"] for row in choices)


def test_a_foreign_log_takes_defaults(tmp_path: Path) -> None:
    feedback = read_feedback(log_at(tmp_path / "log.parquet"), spec=SPEC)
    order = [int(name) for name in feedback.request_ids]
    assert sorted(order) == [0, 1, 2, 3]
    assert [feedback.actions[order.index(row)] for row in range(4)] == FOREIGN["action"]
    assert feedback.units == feedback.request_ids
    assert (set(feedback.slots), set(feedback.roles), set(feedback.fallbacks)) == ({""}, {"live"}, {None})
    assert feedback.statuses["click"][order.index(2)] == "pending"
    assert set(feedback.statuses["sale"]) == {"pending"}
    assert np.isnan(feedback.propensity_floor).all()
    assert feedback.columns.actions is None
    assert feedback.is_row_unit


def test_eligible_actions_of_a_foreign_log_are_put_in_order_with_their_fields(tmp_path: Path) -> None:
    path = log_at(
        tmp_path / "log.parquet",
        eligible=[["mid", "left"], ["mid"], ["right", "left"], ["left", "mid", "right"]],
        action_price=[[7.0, 6.0], [5.0], [4.0, None], [1.0, 2.0, 3.0]],
        probabilities=[[0.5, 0.5], None, [0.25, 0.75], [1.0, 0.0, 0.0]],
    )
    feedback = read_feedback(path, spec=SPEC)
    actions = feedback.columns.actions
    assert actions is not None
    place = feedback.request_ids.index("0")
    start = int(actions.lengths[:place].sum())
    assert actions.ids[place] == ["left", "mid"]
    assert list(actions.fields["price"][start : start + 2]) == [6.0, 7.0]


def test_unknown_columns_are_left_alone(tmp_path: Path) -> None:
    path = log_at(tmp_path / "log.parquet", p_eval=[0.1] * 4, notes=[["a"]] * 4)
    assert len(read_feedback(path, spec=SPEC)) == 4


def test_extra_columns_stand_in_the_order_of_the_feedback(tmp_path: Path) -> None:
    path = log_at(tmp_path / "log.parquet", p_eval=[0.0, 0.1, 0.2, 0.3], user=["a", "b", "c", "d"])
    feedback = read_feedback(path, spec=SPEC)
    columns = read_columns(path, ["p_eval", "user"])
    rows = [int(name) for name in feedback.request_ids]
    assert columns["p_eval"].tolist() == [row / 10 for row in rows]
    assert columns["user"].tolist() == ["abcd"[row] for row in rows]


def test_an_extra_column_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnableToReadFeedback, match="missing: p_eval"):
        read_columns(log_at(tmp_path / "log.parquet"), ["p_eval", "action"])


@pytest.mark.parametrize("column", ["action", "propensity", "context_hour", "reward_click"])
def test_a_missing_column_is_named(column: str, tmp_path: Path) -> None:
    with pytest.raises(UnableToReadFeedback, match=f"missing columns: {column}"):
        read_feedback(log_at(tmp_path / "log.parquet", **{column: None}), spec=SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propensity": [0.5, 0.0, 1.0, 1.0]}, r"propensity must lie in \(0, 1\], found 0.0 in row 1"),
        ({"propensity": [0.5, 0.5, 1.5, 1.0]}, "found 1.5 in row 2"),
        ({"propensity": [0.5, 0.5, None, 1.0]}, "found null in row 2"),
        ({"propensity": [0.5, 0.5, float("nan"), 1.0]}, "found null in row 2"),
        ({"propensity": ["a", "b", "c", "d"]}, "propensity must hold numbers"),
        ({"action": ["left", "up", "mid", "mid"]}, "'up' in row 1"),
        ({"action": ["left", None, "mid", "mid"]}, "None in row 1"),
        ({"reward_click": [1.0, float("inf"), 0.0, 0.0]}, "reward_click must be finite or null, found inf in row 1"),
        ({"eligible": [["left"], [], ["right"], ["left"]]}, "at least one action, found none in row 1"),
        ({"eligible": [["left"], ["mid", "mid"], ["right"], ["left"]]}, "'mid' twice in row 1"),
        ({"eligible": [["left"], ["left"], ["right"], ["left"]]}, "among the eligible ones, found 'mid' in row 1"),
        ({"eligible": [["left"], ["mid", "up"], ["right"], ["left"]]}, "'up' in row 1"),
        (
            {"eligible": [["left"], ["mid"], ["right"], ["left"]], "action_price": [[1.0], [1.0, 2.0], [1.0], [1.0]]},
            "action_price must have one value per eligible action, found 2 values for 1 actions in row 1",
        ),
        (
            {"eligible": [["left"], ["mid"], ["right"], ["left"]], "probabilities": [[1.0], [0.5, 0.5], [1.0], [1.0]]},
            "probabilities must have one value per eligible action, found 2 values for 1 actions in row 1",
        ),
        ({"request_id": ["a", "b", "a", "c"]}, "'a', slot '' in rows 0 and 2"),
        ({"request_id": ["a", "", "b", "c"]}, "request_id must be a text of 1 to 256 bytes, found '' in row 1"),
        ({"unit": ["a", None, "b", "c"]}, "unit must not be null, found null in row 1"),
        ({"unit": list("abcd"), "unit_hash": pa.array([1, 2, 3, 4], pa.uint64())}, "unit_hash must be the hash"),
        ({"slot": ["", "x", "", ""]}, "slot must be empty for one choice per request, found 'x' in row 1"),
        ({"status_click": [None, "lost", None, None]}, "status_click must be one of .* 'lost' in row 1"),
        ({"role": ["live", "king", "live", "live"]}, "'king' in row 1"),
        ({"context_hour": ["a", "b", "c", "d"]}, "context_hour must hold numbers"),
        ({"time": ["soon", "later", "never", "now"]}, "time must hold microseconds or ISO-8601"),
    ],
)
def test_a_bad_value_is_refused_with_its_row(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnableToReadFeedback, match=message):
        read_feedback(log_at(tmp_path / "log.parquet", **changes), spec=SPEC)


def test_a_deterministic_choice_of_a_policy_of_ours_may_lack_its_propensity(tmp_path: Path) -> None:
    path = log_at(tmp_path / "log.parquet", propensity=[None, 0.5, 0.5, 0.5], policy=["a" * 32] * 4)
    assert int(np.isnan(read_feedback(path, spec=SPEC).propensity).sum()) == 1


@pytest.mark.parametrize(
    "times",
    [
        [0, 1, 2, 3],
        [f"1970-01-01T00:00:00.00000{second}Z" for second in range(4)],
        pa.array(range(4), "timestamp[us]"),
    ],
)
def test_times_are_microseconds_timestamps_or_iso_texts(times: Any, tmp_path: Path) -> None:
    feedback = read_feedback(log_at(tmp_path / "log.parquet", time=times), spec=SPEC)
    assert feedback.times.tolist() == [int(name) for name in feedback.request_ids]


def test_rows_of_one_request_must_share_its_context(tmp_path: Path) -> None:
    workload = domains.iot_scheduling()
    write_feedback(feedback_of(workload, count=5), tmp_path / "log.parquet")
    table = pq.read_table(tmp_path / "log.parquet")
    name = f"context_{next(f.name for f in workload.spec.on('request') if not f.is_category and f.width == 1)}"
    values = table[name].to_pylist()
    twice = next(at for at in range(1, len(values)) if table["request_id"][at] == table["request_id"][at - 1])
    values[twice] += 1e-3
    broken = table.set_column(table.column_names.index(name), name, pa.array(values, pa.float64()))
    pq.write_table(broken, tmp_path / "broken.parquet")
    with pytest.raises(UnableToReadFeedback, match=f"{name} must be the same in all rows of a request"):
        read_feedback(tmp_path / "broken.parquet", spec=workload.spec)


def test_the_spec_beside_the_log_is_read(tmp_path: Path) -> None:
    path = log_at(tmp_path / "log.parquet")
    with pytest.raises(SpecNotFound):
        read_feedback(path)
    (tmp_path / "log.spec.json").write_bytes(spec_to_bytes(SPEC))
    assert read_feedback(path).spec == SPEC


def test_a_missing_file_and_a_file_of_another_kind_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(LogNotFound, match="no such file"):
        read_feedback(tmp_path / "none.parquet", spec=SPEC)
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(UnableToReadFeedback, match="expected a Parquet file"):
        read_feedback(tmp_path / "text.parquet", spec=SPEC)


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    empty = {"action": pa.array([], pa.string()), "propensity": pa.array([], pa.float64())}
    path = log_at(tmp_path / "log.parquet", **empty, reward_click=empty["propensity"], context_hour=empty["propensity"])
    with pytest.raises(UnableToReadFeedback, match="at least one row"):
        read_feedback(path, spec=SPEC)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log_at(tmp_path / "log.parquet")

    def refuse(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(UnableToUseParquet, match=r"install penstock\[evaluate\]"):
        read_feedback(path, spec=SPEC)


def test_a_failed_write_leaves_the_old_log_and_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feedback = feedback_of(domains.ad_load())
    write_feedback(feedback, tmp_path / "log.parquet")
    before = (tmp_path / "log.parquet").read_bytes()

    def fail(table: Any, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_feedback(feedback, tmp_path / "log.parquet")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("log.parquet", before)]
