"""The policies that evaluation compares with: uniform, and a table of probabilities."""

from typing import Any

import numpy as np
import pytest

from policies.encode import Encoder
from policies.policy import Policy, TablePolicy, UnableToUseTable, UniformPolicy
from policies.spec import ActionSet, Field, PolicySpec
from tests.contracts.policy_suite import PolicySuite
from tests.helpers.small_specs import FEED, PAYMENT, TASKS, request_of

TABLE = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7], [0.2, 0.2, 0.6]])


class TestUniformOnFixedActions(PolicySuite):
    def policy(self) -> Policy:
        return UniformPolicy(FEED)


class TestUniformOnOwnActions(PolicySuite):
    def policy(self) -> Policy:
        return UniformPolicy(PAYMENT)


class TestUniformOnSlots(PolicySuite):
    def policy(self) -> Policy:
        return UniformPolicy(TASKS)


class TestTable(PolicySuite):
    def policy(self) -> Policy:
        return TablePolicy(FEED, TABLE[0])


class TestTableByField(PolicySuite):
    def policy(self) -> Policy:
        return TablePolicy(FEED, TABLE, field="device")


def propose(policy: Policy, *actions: Any, device: str = "phone") -> list[Any]:
    fields = {"hour": 1, "taste": [0, 0], "device": device}
    requests = [request_of(FEED, number, fields=fields, actions=table) for number, table in enumerate(actions)]
    (bucket,) = Encoder(FEED).encode_requests(requests).buckets
    proposed: list[Any] = policy.propose(bucket.arrays, bucket.mask)[:, 0].tolist()
    return proposed


def test_uniform_gives_each_eligible_action_the_same() -> None:
    assert propose(UniformPolicy(FEED), {"id": ["none", "long"]}, {"id": ["short"]}) == [[0.5, 0, 0.5], [0, 1, 0]]


def test_uniform_gives_a_padded_slot_nothing() -> None:
    mask = np.array([[[True, True], [False, False]]])
    assert UniformPolicy(TASKS).propose({}, mask).tolist() == [[[0.5, 0.5], [0, 0]]]


def test_a_table_is_returned_exactly_where_all_actions_are_eligible() -> None:
    thirds = np.array([0.1, 0.2, 0.7]) * (1 + 5e-7)
    assert propose(TablePolicy(FEED, thirds), None) == [thirds.tolist()]


def test_eligible_actions_share_the_mass_of_the_others_in_proportion() -> None:
    assert propose(TablePolicy(FEED, TABLE[0]), {"id": ["none", "long"]}) == [[0.5 / 0.75, 0.0, 0.25 / 0.75]]


def test_a_table_by_field_is_read_by_the_code_of_each_request() -> None:
    policy = TablePolicy(FEED, TABLE, field="device")
    for code, word in enumerate(["fridge", "phone", "tablet"]):
        assert propose(policy, None, device=word) == [TABLE[code].tolist()]


def test_two_tables_or_two_fields_have_two_identities() -> None:
    policies = [
        TablePolicy(FEED, TABLE, field="device"),
        TablePolicy(FEED, TABLE, field="hour"),
        TablePolicy(FEED, TABLE[::-1].copy(), field="device"),
        TablePolicy(FEED, TABLE[0]),
    ]
    assert len({policy.identity for policy in policies}) == 4


@pytest.mark.parametrize(
    ("table", "field", "message"),
    [
        (TABLE, None, "a table of 3 rows needs the name of a request field"),
        (TABLE, "sales", "there is no request field 'sales'; the spec has hour"),
        (TABLE[:, :2], "device", "the table has 2 actions, the spec 3"),
        (TABLE[0] * 1.01, None, "must sum to 1 within 1e-6, found 1.01 for code 0"),
        ([0.5, np.nan, 0.5], None, "must be finite and not negative"),
        ([1.5, -0.5, 0.0], None, "must be finite and not negative"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: Any, field: str | None, message: str) -> None:
    with pytest.raises(UnableToUseTable, match=message):
        TablePolicy(FEED, np.asarray(table), field=field)


def test_a_table_needs_fixed_actions() -> None:
    with pytest.raises(UnableToUseTable, match="needs a spec with fixed action ids"):
        TablePolicy(PAYMENT, TABLE[0])


@pytest.mark.parametrize("code", [3.0, 0.5, -1.0])
def test_a_code_without_a_row_is_refused(code: float) -> None:
    spec = PolicySpec(
        domain="d", fields=(Field(name="x", lower=-9, upper=9),), actions=ActionSet(kind="choice", ids=("a", "b", "c"))
    )
    with pytest.raises(UnableToUseTable, match="whole numbers from 0 to 2"):
        TablePolicy(spec, TABLE, field="x").propose({"request": np.array([[code]])}, np.ones((1, 1, 3), dtype=bool))


def test_a_table_that_gives_the_eligible_actions_nothing_is_refused() -> None:
    with pytest.raises(UnableToUseTable, match="some eligible action a probability, found none in row 1"):
        propose(TablePolicy(FEED, np.array([1.0, 0.0, 0.0])), {"id": ["none"]}, {"id": ["long", "short"]})
