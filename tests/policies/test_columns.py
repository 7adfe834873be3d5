"""Requests become columns: what is sent is laid end to end, and tables that are none are refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.columns import UnableToEncode, are_ids, columns_of, table_of
from policies.spec import is_id
from tests.helpers.small_specs import FEED, PAYMENT, STORE, TASKS, request_of


@given(ids=st.lists(st.lists(st.text(min_size=1, max_size=3), unique=True, min_size=1, max_size=5), max_size=4))
def test_a_table_stands_in_canonical_order_whatever_order_it_came_in(ids: list[list[str]]) -> None:
    sent = [name for row in ids for name in row]
    table = table_of(ids, fields={"name": sent})
    assert table.ids == [sorted(row) for row in ids]
    assert table.lengths.tolist() == [len(row) for row in ids]
    order = range(len(sent)) if table.order is None else table.order.tolist()
    assert [sent[place] for place in order] == [name for row in table.ids for name in row]


def test_a_table_that_came_sorted_needs_no_order_and_a_fixed_one_stays_as_sent() -> None:
    assert table_of([["a", "b"], ["a"]], fields={}).order is None
    fixed = table_of([["b", "a"]], fields={}, is_sorted=False)
    assert (fixed.ids, fixed.order) == ([["b", "a"]], None)


def test_fields_that_the_spec_does_not_name_are_left_out() -> None:
    request = request_of(PAYMENT, fields={"amount": 1, "note": "x"}, actions={"id": ["a"], "fee": [1.0], "note": ["x"]})
    columns = columns_of([request], spec=PAYMENT)
    assert columns.request == {"amount": [1], "country": [None]}
    assert columns.actions is not None
    assert columns.actions.fields == {"fee": [1.0]}


def test_a_column_that_only_some_requests_send_is_null_for_the_others() -> None:
    requests = [
        request_of(PAYMENT, actions={"id": ["a", "b"], "fee": [1, 2]}),
        request_of(PAYMENT, actions={"id": ["c"], "fee": [3], "risk": [0.1]}),
    ]
    columns = columns_of(requests, spec=PAYMENT)
    assert columns.actions is not None
    assert columns.actions.fields == {"fee": [1, 2, 3], "risk": [None, None, 0.1]}


def test_requests_of_fixed_ids_without_tables_have_no_table() -> None:
    assert columns_of([request_of(FEED, actions=None)], spec=FEED).actions is None


def test_a_request_without_a_table_beside_one_with_it_lists_every_fixed_id() -> None:
    requests = [request_of(FEED, actions=None), request_of(FEED, actions={"id": ["long"]})]
    columns = columns_of(requests, spec=FEED)
    assert columns.actions is not None
    assert columns.actions.ids == [["none", "short", "long"], ["long"]]


def test_eligible_rows_are_kept_as_sent_and_a_quantity_has_none() -> None:
    sent = request_of(TASKS, actions={"id": ["b", "a"], "cost": [1, 2], "eligible": [[True, False]]})
    assert columns_of([sent, request_of(TASKS, 1, actions={"id": ["a"]})], spec=TASKS).eligible == [
        [[True, False]],
        None,
    ]
    assert columns_of([request_of(STORE, actions={"eligible": [[True]]})], spec=STORE).eligible is None


def test_a_refused_table_names_its_row() -> None:
    with pytest.raises(UnableToEncode, match=r"actions.fee must have 1 values, .* found 2 \(row 1\)") as caught:
        columns_of([request_of(PAYMENT), request_of(PAYMENT, actions={"id": ["a"], "fee": [1, 2]})], spec=PAYMENT)
    assert caught.value.row == 1
    assert caught.value.fault.reason == "unequal_columns"


@given(ids=st.lists(st.text(st.characters(), max_size=3) | st.sampled_from(["a" * 256, "a" * 257, "é" * 129, "\x00"])))
def test_the_glance_at_many_ids_agrees_with_the_look_at_each(ids: list[str]) -> None:
    assert are_ids(ids) == all(map(is_id, ids))


@pytest.mark.parametrize("ids", [[1], ["a", None], [b"a"], [["a"]]])
def test_what_is_no_text_is_no_id(ids: list[Any]) -> None:
    assert not are_ids(ids)


def test_lengths_are_whole_numbers_that_numpy_can_index_with() -> None:
    assert table_of([], fields={}).lengths.dtype == np.int64
