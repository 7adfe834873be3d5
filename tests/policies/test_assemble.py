"""Rows in any order become one log."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.assemble import assemble, canonical_order
from policies.choose import unit_hashes
from policies.columns import Columns
from policies.feedback import Feedback, UnableToUseFeedback
from policies.spec import ActionSet, Field, PolicySpec, Reward

SPEC = PolicySpec(
    domain="shop",
    fields=(Field(name="hour", lower=0, upper=24),),
    actions=ActionSet(kind="choice", ids=("left", "right")),
    rewards=(Reward(name="click"),),
)


def log_of(rows: list[int]) -> Feedback:
    return assemble(
        SPEC,
        columns=Columns(count=len(rows), request={"hour": np.array(rows, dtype=np.float64)}),
        request_ids=[f"r{row}" for row in rows],
        units=[f"u{row % 3}" for row in rows],
        actions=["left" if row % 2 else "right" for row in rows],
        propensity=np.array([1 / (row + 1) for row in rows]),
        rewards={"click": np.array(rows, dtype=np.float64)},
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_order_of_rows_given_does_not_matter(seed: int) -> None:
    shuffled = list(range(12))
    random.Random(seed).shuffle(shuffled)
    one, other = log_of(list(range(12))), log_of(shuffled)
    assert (one.request_ids, one.units, one.actions) == (other.request_ids, other.units, other.actions)
    assert one.propensity.tolist() == other.propensity.tolist()
    hours = [list(log.columns.request["hour"])[place] for log in (one, other) for place in log.request_rows.tolist()]
    assert hours[:12] == hours[12:] == one.rewards["click"].tolist()


def test_the_canonical_order_is_that_of_hash_request_and_slot() -> None:
    units = ["u", "v", "u", "u", "v"]
    keys = list(zip(unit_hashes(units).tolist(), ["b", "a", "a", "b", "c"], ["2", "", "", "1", ""], strict=True))
    order = canonical_order(unit_hashes(units), [key[1] for key in keys], [key[2] for key in keys])
    assert [keys[row] for row in order.tolist()] == sorted(keys)


def test_units_of_several_rows_are_told_from_units_that_are_rows() -> None:
    assert not log_of([0, 1, 3]).is_row_unit
    assert log_of([0, 1, 2]).is_row_unit


def test_a_choice_without_an_action_is_refused_and_a_whole_request_without_one_is_not() -> None:
    spec = PolicySpec(
        domain="shop", actions=ActionSet(kind="assignment", ids=("left",)), rewards=(Reward(name="click"),)
    )

    def log(actions: list[str | None]) -> Feedback:
        return assemble(
            spec,
            columns=Columns(count=1, request={}),
            request_ids=["r"] * 2,
            request_rows=np.zeros(2, dtype=np.int64),
            slots=["", "a"],
            units=["u"] * 2,
            actions=actions,
            propensity=np.array([np.nan, 0.5]),
            rewards={"click": np.ones(2)},
        )

    assert log([None, "left"]).actions == [None, "left"]
    with pytest.raises(UnableToUseFeedback, match="found None in row 1"):
        log([None, None])


def test_a_request_of_two_units_is_refused() -> None:
    spec = PolicySpec(
        domain="shop", actions=ActionSet(kind="assignment", ids=("left",)), rewards=(Reward(name="click"),)
    )
    with pytest.raises(UnableToUseFeedback, match="two units"):
        assemble(
            spec,
            columns=Columns(count=1, request={}),
            request_ids=["r", "r"],
            request_rows=np.zeros(2, dtype=np.int64),
            slots=["a", "b"],
            units=["u", "v"],
            actions=["left", "left"],
            propensity=np.ones(2),
            rewards={"click": np.ones(2)},
        )
