"""Rows of one request become one request: the union of its slots' actions, with a matrix where they differ."""

from typing import Any

import pyarrow as pa
import pytest

from policies.gather import UnableToGather, gather
from policies.spec import ActionSet, Field, PolicySpec, Reward

SPEC = PolicySpec(
    domain="shop",
    fields=(
        Field(name="load", lower=0, upper=1),
        Field(name="zone", vocabulary=("a", "b")),
        Field(name="free", axis="action", lower=0, upper=9),
        Field(name="size", axis="slot", lower=0, upper=9),
    ),
    actions=ActionSet(kind="assignment"),
    rewards=(Reward(name="cost"),),
)
TABLE: dict[str, list[Any]] = {
    "request_id": ["r", "q", "r", "r"],
    "slot": ["t2", "t1", "t1", ""],
    "context_load": [0.5, 0.25, 0.5, 0.5],
    "context_zone": ["a", "b", "a", "a"],
    "eligible": [["n1", "n3"], ["n9"], ["n2", "n1"], None],
    "action_free": [[1.0, 3.0], [9.0], [2.0, 1.0], None],
    "slot_size": [2.0, 7.0, 1.0, None],
}


def gathered(**changes: list[Any]) -> Any:
    columns = {**TABLE, **changes}
    table = pa.table({name: values for name, values in columns.items() if name not in ("request_id", "slot")})
    return gather(table, spec=SPEC, request_ids=columns["request_id"], slots=columns["slot"], probabilities=None)


def test_the_union_of_slots_is_one_table_with_an_eligible_matrix() -> None:
    columns = gathered().columns
    assert columns.actions.ids == [["n1", "n2", "n3"], ["n9"]]
    assert list(columns.actions.fields["free"]) == [1.0, 2.0, 3.0, 9.0]
    assert columns.eligible == [[[True, True, False], [True, False, True]], None]


def test_slots_are_in_order_with_their_fields_and_without_the_whole() -> None:
    columns = gathered().columns
    assert columns.slots.ids == [["t1", "t2"], ["t1"]]
    assert list(columns.slots.fields["size"]) == [1.0, 2.0, 7.0]
    assert list(columns.request["load"]) == [0.5, 0.25]


def test_slots_that_may_take_the_same_need_no_matrix() -> None:
    free = [[1.0, 3.0], [9.0], [3.0, 1.0], None]
    found = gathered(eligible=[["n1", "n3"], ["n9"], ["n3", "n1"], None], action_free=free)
    assert found.columns.eligible is None


def test_rows_of_one_request_that_say_different_things_of_an_action_are_refused() -> None:
    with pytest.raises(UnableToGather, match=r"action_free must be the same.* found 1\.0 for 'n1' in row 0 and 8\.0"):
        gathered(action_free=[[1.0, 3.0], [9.0], [2.0, 8.0], None])


@pytest.mark.parametrize(
    ("load", "zone", "named"),
    [([0.5, 0.25, 0.75, 0.5], ["a", "b", "a", "a"], "context_load"), ([0.5] * 4, ["a", "b", "c", "a"], "context_zone")],
)
def test_rows_of_one_request_that_differ_in_its_context_are_refused(
    load: list[float], zone: list[str], named: str
) -> None:
    with pytest.raises(UnableToGather, match=f"{named} must be the same in all rows of a request, .* in row 2"):
        gathered(context_load=load, context_zone=zone)


def test_a_log_of_whole_requests_that_list_nothing_is_told_from_an_empty_one() -> None:
    with pytest.raises(UnableToGather, match="has no row with a slot"):
        gathered(slot=[""] * 4, eligible=[[], [], [], []], action_free=[[], [], [], []])


def test_a_request_of_the_whole_alone_is_refused() -> None:
    with pytest.raises(UnableToGather, match="'q' has no row with a slot"):
        gathered(slot=["t2", "", "t1", ""])
