"""Logged choices: every choice is found among the encoded requests, whatever the batch and the order of ids."""

from typing import Any

import numpy as np
import pytest

from policies.assemble import assemble
from policies.columns import Columns
from policies.encode import Encoder
from policies.events import Source
from policies.feedback import Feedback, UnableToUseFeedback, fold, logged_choices
from policies.spec import ActionSet, Field, PolicySpec, Reward
from tests.helpers import domains
from tests.helpers.decided import decide_uniformly

SPEC = PolicySpec(
    domain="shop",
    fields=(Field(name="hour", lower=0, upper=24),),
    actions=ActionSet(kind="choice", ids=("left", "mid", "right")),
    rewards=(Reward(name="click"),),
)


def plain_log(*, hours: list[float] | None = None) -> Feedback:
    actions = [("left", "mid", "right")[row % 3] for row in range(10)]
    return assemble(
        SPEC,
        columns=Columns(count=10, request={"hour": np.array(hours or range(10), dtype=np.float64)}),
        actions=list(actions),
        propensity=np.full(10, 1 / 3),
        rewards={"click": np.ones(10)},
    )


def folded(workload: domains.Workload) -> Feedback:
    requests = [workload.request(number) for number in range(25)]
    outcomes = [(workload.outcome(requests[0]), Source(topic="o", partition=0, offset=0))]
    return fold(decide_uniformly(requests, spec=workload.spec), outcomes, as_of=0, spec=workload.spec).feedback


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("make", [domains.ad_load, domains.payments, domains.iot_scheduling])
def test_every_choice_is_found_once_where_its_ids_say(make: Any, batch_size: int) -> None:
    feedback = folded(make())
    ids = feedback.spec.actions.ids
    found = {}
    for choices in logged_choices(feedback, Encoder(feedback.spec), batch_size=batch_size):
        bucket = choices.bucket
        parts = zip(
            *(part.tolist() for part in (choices.rows, choices.request, choices.slot, choices.action)), strict=True
        )
        for row, request, slot, action in parts:
            assert bucket.rows[request] == feedback.request_rows[row]
            assert feedback.slots[row] == ("" if bucket.slot_ids is None else bucket.slot_ids[request][slot])
            found[row] = (ids if bucket.action_ids is None else bucket.action_ids[request])[action]  # type: ignore[index]
    assert found == {row: action for row, action in enumerate(feedback.actions) if action is not None}


def test_a_target_may_list_the_logs_actions_in_another_order() -> None:
    feedback = plain_log()
    turned = PolicySpec(domain="shop", actions=ActionSet(kind="choice", ids=("right", "left", "mid")))
    (choices,) = logged_choices(feedback, Encoder(turned))
    assert [turned.actions.ids[place] for place in choices.action.tolist()] == feedback.actions  # type: ignore[index]


@pytest.mark.parametrize(
    "actions",
    [
        ActionSet(kind="choice", ids=("left", "mid")),
        ActionSet(kind="choice"),
        ActionSet(kind="assignment", ids=("left", "mid", "right")),
        ActionSet(kind="quantity", names=("a",), units=("",), lower=(0,), upper=(1,)),
    ],
)
def test_a_target_over_other_actions_is_refused(actions: ActionSet) -> None:
    with pytest.raises(UnableToUseFeedback):
        list(logged_choices(plain_log(), Encoder(PolicySpec(domain="shop", actions=actions))))


def test_a_request_that_does_not_encode_is_named() -> None:
    feedback = plain_log(hours=[1, 2, 3, 4, 99, 6, 7, 8, 9, 10])
    with pytest.raises(UnableToUseFeedback, match=r"out_of_range.*in request '4'"):
        list(logged_choices(feedback, Encoder(SPEC), batch_size=3))
