"""The fold: its rules one by one, and its laws under any order, any duplicates and any split into parts."""

import math
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.events import Choice, Decision, DecisionRequest, Outcome, Role, Source, to_bytes
from policies.feedback import Feedback, Folded, Folding, UnableToFold, fold
from policies.settle import Late
from policies.spec import ActionSet, Field, PolicySpec, Reward
from tests.helpers import domains
from tests.helpers.decided import decide_uniformly

SECOND = 1_000_000
SPEC = PolicySpec(
    domain="shop",
    fields=(Field(name="hour", lower=0, upper=24),),
    actions=ActionSet(kind="choice", ids=("left", "right")),
    rewards=(Reward(name="click", default=0.0, horizon_s=60), Reward(name="sale")),
    floor=0.5,
)


def request(request_id: str = "r1", *, unit: str = "u", time: int = 0, **changes: Any) -> DecisionRequest:
    return DecisionRequest(request_id=request_id, domain="shop", time=time, unit=unit, fields={"hour": 3}, **changes)


def decision(
    request_id: str = "r1", *, offset: int = 0, time: int = 0, role: Role = "live", **changes: Any
) -> Decision:
    fields: dict[str, Any] = {
        "request": msgspec.Raw(to_bytes(request(request_id, unit=f"unit of {request_id[0]}"))),
        "policy": "a" * 32,
        "catalogue": "c" * 32,
        "platform": "0" * 8,
        "role": role,
        "choices": (Choice(action="left", propensity=0.25, lattice=(1 << 30, 3 << 30)),),
        "source": Source(topic="requests", partition=0, offset=offset),
        "time": time,
    }
    return Decision(**{**fields, **changes})


def told(offset: int = 0, *, request_id: str = "r1", **changes: Any) -> tuple[Outcome, Source]:
    fields: dict[str, Any] = {"request_id": request_id, "domain": "shop", "time": 5, "rewards": {"click": 1.0}}
    return Outcome(**{**fields, **changes}), Source(topic="outcomes", partition=0, offset=offset)


def folded(*outcomes: tuple[Outcome, Source], as_of: int = 0, decisions: list[Decision] | None = None) -> Folded:
    return fold([decision()] if decisions is None else decisions, outcomes, as_of=as_of, spec=SPEC)


def click(result: Folded) -> tuple[float | None, str | None]:
    value = float(result.feedback.rewards["click"][0])
    return None if math.isnan(value) else value, result.feedback.statuses["click"][0]


def contents(feedback: Feedback) -> list[Any]:
    """List everything a log says, NaN as None, so that two can be compared."""
    numbers = [feedback.propensity, feedback.propensity_floor, *feedback.rewards.values()]
    return [
        feedback.request_ids,
        feedback.slots,
        feedback.units,
        feedback.times.tolist(),
        feedback.request_rows.tolist(),
        feedback.actions,
        {name: list(values) for name, values in feedback.columns.request.items()},
        [[None if math.isnan(value) else value for value in column.tolist()] for column in numbers],
        dict(feedback.statuses),
        feedback.policies,
        feedback.roles,
        feedback.fallbacks,
    ]


def test_the_highest_revision_wins_whatever_comes_first() -> None:
    late_news = told(0, revision=2, rewards={"click": 0.5})
    assert click(folded(late_news, told(1, revision=1))) == (0.5, None)


def test_a_reward_that_an_outcome_does_not_name_is_unchanged() -> None:
    result = folded(told(0), told(1, revision=1, rewards={"sale": 3.0}))
    assert (click(result), float(result.feedback.rewards["sale"][0])) == ((1.0, None), 3.0)


def test_null_retracts_a_reward() -> None:
    assert click(folded(told(0), told(1, revision=1, rewards={"click": None}), as_of=10**9)) == (None, "retracted")


def test_a_revision_above_the_final_one_is_late_and_kept_apart() -> None:
    result = folded(told(0, final=True), told(1, revision=1, rewards={"click": 0.0}))
    assert (click(result), result.late, result.kept_apart) == ((1.0, None), 1, (Late("r1", "", "click", 1, 0.0),))


def test_final_covers_only_the_rewards_that_its_outcome_names() -> None:
    result = folded(told(0, final=True), told(1, revision=1, rewards={"sale": 2.0}))
    assert (result.late, float(result.feedback.rewards["sale"][0])) == (0, 2.0)


def test_a_revision_below_the_final_one_is_not_late() -> None:
    result = folded(told(0, revision=3, final=True), told(1, revision=1, rewards={"click": 0.0}))
    assert (click(result), result.late) == ((1.0, None), 0)


def test_of_two_values_of_one_revision_the_first_by_its_source_stands() -> None:
    result = folded(told(7, rewards={"click": 0.0}), told(3))
    assert (click(result), result.conflicts) == ((1.0, None), 1)


def test_the_topic_and_the_partition_come_before_the_offset() -> None:
    outcome = Outcome(request_id="r1", domain="shop", time=5, rewards={"click": 0.25})
    first = (outcome, Source(topic="corrections", partition=9, offset=9))
    assert click(folded(told(0), first)) == (0.25, None)


def test_a_conflicting_record_cannot_make_a_reward_final() -> None:
    usurper = told(5, rewards={"click": 0.0}, final=True)
    result = folded(told(0), usurper, told(6, revision=1, rewards={"click": 0.75}))
    assert (click(result), result.late, result.conflicts) == ((0.75, None), 0, 1)


def test_the_same_outcome_delivered_twice_is_no_conflict() -> None:
    assert folded(told(0), told(0), told(4)).conflicts == 0


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [(59 * SECOND, (None, "pending")), (60 * SECOND, (0.0, "default")), (61 * SECOND, (0.0, "default"))],
)
def test_a_reward_is_pending_before_its_horizon_and_the_default_after_it(as_of: int, expected: Any) -> None:
    assert click(folded(as_of=as_of)) == expected


def test_the_horizon_counts_from_the_decision_not_from_the_request() -> None:
    decided_later = [decision(time=30 * SECOND)]
    assert click(folded(as_of=60 * SECOND, decisions=decided_later)) == (None, "pending")


def test_a_reward_without_a_default_stays_pending() -> None:
    assert folded(as_of=10**15).feedback.statuses["sale"] == ["pending"]


def test_an_outcome_after_the_horizon_replaces_the_default() -> None:
    assert click(folded(told(0, time=10**12), as_of=10**13)) == (1.0, None)


def test_a_redelivered_decision_counts_once() -> None:
    again = decision(offset=8, time=77 * SECOND)
    result = folded(decisions=[again, decision(), decision()])
    assert (len(result.feedback), result.duplicates, result.decision_conflicts) == (1, 1, 0)
    assert result.feedback.times.tolist() == [0]


def test_of_two_decisions_on_one_request_the_first_by_its_source_stands() -> None:
    other = decision(offset=8, choices=(Choice(action="right", propensity=0.75),))
    result = folded(decisions=[other, decision()])
    assert (result.feedback.actions, result.decision_conflicts) == (["left"], 1)


def test_a_shadow_is_left_out_beside_the_decision_that_was_carried_out() -> None:
    shadow = decision(role="shadow", choices=(Choice(action="right", propensity=0.75),))
    result = folded(told(0), decisions=[shadow, decision(offset=9)])
    assert (result.feedback.actions, result.feedback.roles, result.decision_conflicts) == (["left"], ["live"], 0)


def test_a_shadow_alone_never_earns_what_another_decision_earned() -> None:
    assert click(folded(told(0), decisions=[decision(role="shadow")], as_of=0)) == (None, "pending")


def test_fallbacks_and_canaries_keep_their_marks() -> None:
    late = decision("f1", fallback="deadline", choices=(Choice(action="left"),))
    result = folded(decisions=[late, decision("c1", offset=1, role="canary")])
    marks = dict(
        zip(
            result.feedback.request_ids, zip(result.feedback.roles, result.feedback.fallbacks, strict=True), strict=True
        )
    )
    assert marks == {"f1": ("live", "deadline"), "c1": ("canary", None)}


def test_outcomes_of_unknown_requests_and_slots_are_orphans() -> None:
    assert folded(told(0, request_id="nobody"), told(1, slot="nowhere")).orphans == 2


def test_records_of_another_domain_and_rewards_without_a_name_in_the_spec_are_counted() -> None:
    result = folded(told(0, domain="bank"), told(1, rewards={"smile": 1.0}))
    assert (result.foreign, result.unnamed, click(result)) == (1, 1, (None, "pending"))


def test_the_floor_of_a_propensity_is_the_specs_share_of_one_eligible_action() -> None:
    assert folded().feedback.propensity_floor.tolist() == [0.25]


def test_a_request_that_cannot_be_read_names_its_source() -> None:
    broken = decision(request=msgspec.Raw(b'{"request_id": 3}'), offset=42)
    with pytest.raises(UnableToFold, match="requests/0@42"):
        folded(decisions=[broken])


def test_an_outcome_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UnableToFold, match="not_finite"):
        folded(told(0, rewards={"click": math.nan}))


def test_a_reward_of_a_whole_many_slot_request_is_one_row_without_an_action() -> None:
    workload = domains.iot_scheduling()
    requests = [workload.request(number) for number in range(6)]
    decisions = decide_uniformly(requests, spec=workload.spec)
    outcome = (workload.outcome(requests[0]), Source(topic="outcomes", partition=0, offset=0))
    feedback = fold(decisions, [outcome], as_of=0, spec=workload.spec).feedback
    rows = [row for row, name in enumerate(feedback.request_ids) if name == requests[0].request_id]
    name = workload.spec.rewards[0].name
    assert [feedback.slots[row] for row in rows] == ["", *sorted((requests[0].slots or {})["id"])]
    assert (feedback.actions[rows[0]], feedback.statuses[name][rows[0]]) == (None, None)
    assert {(math.isnan(feedback.rewards[name][row]), feedback.statuses[name][row]) for row in rows[1:]} == {
        (True, None)
    }


def test_quantities_are_rows_of_vectors() -> None:
    workload = domains.hydrothermal()
    requests = [workload.request(number) for number in range(3)]
    feedback = fold(decide_uniformly(requests, spec=workload.spec), [], as_of=0, spec=workload.spec).feedback
    assert feedback.action_values is not None
    assert feedback.action_values.shape == (3, len(workload.spec.actions.names))
    assert feedback.actions == [None] * 3
    assert np.isnan(feedback.propensity).all()


outcome_records = st.lists(
    st.builds(
        told,
        st.integers(0, 5),
        request_id=st.sampled_from(["r1", "s2", "t3", "nobody"]),
        revision=st.integers(0, 3),
        final=st.booleans(),
        rewards=st.dictionaries(st.sampled_from(["click", "sale"]), st.sampled_from([0.0, 1.0, None]), max_size=2),
    ),
    max_size=12,
)
decision_records = st.lists(
    st.builds(
        decision,
        st.sampled_from(["r1", "s2", "t3"]),
        offset=st.integers(0, 2),
        time=st.sampled_from([0, 90 * SECOND]),
        role=st.sampled_from(["live", "canary", "shadow"]),
    ),
    max_size=6,
)


@settings(max_examples=35, deadline=None)
@given(decision_records, outcome_records, st.integers(0, 2**32), st.integers(0, 200))
def test_order_and_redelivery_never_matter(
    decisions: list[Decision], outcomes: list[tuple[Outcome, Source]], seed: int, as_of_s: int
) -> None:
    expected = fold(decisions, outcomes, as_of=as_of_s * SECOND, spec=SPEC)
    source = random.Random(seed)
    other_decisions = decisions + source.choices(decisions, k=3) if decisions else []
    other_outcomes = outcomes + source.choices(outcomes, k=3) if outcomes else []
    source.shuffle(other_decisions)
    source.shuffle(other_outcomes)
    actual = fold(other_decisions, other_outcomes, as_of=as_of_s * SECOND, spec=SPEC)
    assert contents(actual.feedback) == contents(expected.feedback)
    assert (actual.kept_apart, actual.conflicts, actual.orphans) == (
        expected.kept_apart,
        expected.conflicts,
        expected.orphans,
    )


@settings(max_examples=35, deadline=None)
@given(decision_records, outcome_records, st.integers(0, 2**32))
def test_folding_in_parts_is_folding_at_once(
    decisions: list[Decision], outcomes: list[tuple[Outcome, Source]], seed: int
) -> None:
    expected = fold(decisions, outcomes, as_of=0, spec=SPEC)
    source = random.Random(seed)
    folding = Folding(SPEC)
    cuts = sorted(source.choices(range(len(decisions) + 1), k=2)), sorted(source.choices(range(len(outcomes) + 1), k=2))
    for part in range(3):
        spans = [([0, *cut, None][part], [0, *cut, None][part + 1]) for cut in cuts]
        folding.add(decisions[slice(*spans[0])], outcomes[slice(*spans[1])])
        folding.result(as_of=0)
    assert contents(folding.result(as_of=0).feedback) == contents(expected.feedback)


def test_released_requests_fold_as_they_would_have_and_are_forgotten() -> None:
    folding = Folding(SPEC)
    old, young = decision(), decision("s2", offset=1, time=100)
    folding.add([old, young], [told(0), told(1, request_id="s2"), told(2, request_id="ghost", time=3)])
    released = folding.release(decided_before=100).result(as_of=0)
    held = folding.result(as_of=0)
    assert contents(released.feedback) == contents(fold([old], [told(0)], as_of=0, spec=SPEC).feedback)
    assert (held.feedback.request_ids, released.orphans, held.orphans) == (["s2"], 1, 0)
    assert (len(folding), folding.first_decided) == (1, 100)


def test_rows_are_sorted_by_unit_hash_request_and_slot() -> None:
    decisions = [decision(f"{letter}{number}", offset=number) for number in range(20) for letter in "ab"]
    feedback = folded(decisions=decisions).feedback
    keys = list(zip(feedback.unit_hashes.tolist(), feedback.request_ids, feedback.slots, strict=True))
    assert keys == sorted(keys)
    assert not feedback.is_row_unit
