"""What each choice could take is written in canonical order, whatever order it was sent in."""

import msgspec
import numpy as np
import pytest

from policies.cells import cells_of
from policies.events import Choice, Decision, DecisionRequest, Source, to_bytes
from policies.feedback import Feedback, fold
from policies.spec import ActionSet, Field, PolicySpec, Reward

PRICE = Field(name="price", axis="action", lower=0, upper=9)


def folded(spec: PolicySpec, request: DecisionRequest, *choices: Choice) -> Feedback:
    decision = Decision(
        request=msgspec.Raw(to_bytes(request)),
        policy="a" * 32,
        catalogue="c" * 32,
        platform="0" * 8,
        role="live",
        choices=choices,
        source=Source(topic="t", partition=0, offset=0),
        time=0,
    )
    return fold([decision], [], as_of=0, spec=spec).feedback


def asked(**tables: object) -> DecisionRequest:
    record = {"request_id": "r", "domain": "shop", "time": 0, "unit": "u", **tables}
    return msgspec.convert(record, DecisionRequest)


@pytest.mark.parametrize(("ids", "expected"), [(None, ["a", "b", "c"]), (("c", "a", "b", "d"), ["c", "a", "b"])])
def test_actions_follow_the_bytes_of_their_ids_or_the_spec(ids: tuple[str, ...] | None, expected: list[str]) -> None:
    spec = PolicySpec(
        domain="shop", fields=(PRICE,), actions=ActionSet(kind="choice", ids=ids), rewards=(Reward(name="click"),)
    )
    prices = {"b": 2.0, "c": 3.0, "a": 1.0}
    request = asked(actions={"id": list(prices), "price": list(prices.values())})
    feedback = folded(spec, request, Choice(action="a", propensity=0.5))
    cells = cells_of(feedback)
    assert feedback.columns.actions is not None
    assert cells.places is not None
    values = feedback.columns.actions.fields["price"]
    assert (cells.ids, cells.lengths.tolist()) == (expected, [3])
    assert [values[place] for place in cells.places.tolist()] == [prices[action] for action in expected]


def test_each_slot_has_the_actions_that_are_eligible_for_it() -> None:
    spec = PolicySpec(domain="shop", actions=ActionSet(kind="assignment"), rewards=(Reward(name="click"),))
    request = asked(
        actions={"id": ["n2", "n1", "n3"], "eligible": [[True, False, True], [False, True, True]]},
        slots={"id": ["t2", "t1"]},
    )
    choices = (Choice(slot="t1", action="n1", propensity=0.5), Choice(slot="t2", action="n2", propensity=0.5))
    cells = cells_of(folded(spec, request, *choices))
    assert (cells.ids, cells.lengths.tolist()) == (["n1", "n3", "n2", "n3"], [2, 2])


def test_fixed_actions_that_were_not_sent_are_all_the_specs() -> None:
    spec = PolicySpec(domain="shop", actions=ActionSet(kind="choice", ids=("b", "a")), rewards=(Reward(name="click"),))
    cells = cells_of(folded(spec, asked(), Choice(action="a", propensity=0.5)))
    assert (cells.ids, cells.places) == (["b", "a"], None)
    assert np.array_equal(cells.lengths, [2])
