"""A ruling is a pure function of the request, the artifact and the salt."""

import random
from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from policies.choose import ONE
from policies.events import DecisionRequest, Fault, from_bytes, to_bytes
from policies.spec import PolicySpec
from serving.catalogue import Assignment, Lineup, Seat, lineup_of
from serving.decide import decide, rule
from serving.receive import receive
from serving.ruling import Ruling
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import answer, artifact_of, decision, letter, lineup, message, uniform_artifact


def _requests(domain: str, count: int) -> list[DecisionRequest]:
    return [WORKLOADS[domain]().request(number) for number in range(count)]


def _rule(domain: str, requests: list[DecisionRequest], *, salt: bytes = b"") -> dict[str, Ruling | Fault]:
    seat = lineup(domain).domains[domain].live
    rows = rule(seat.artifact.policy, requests, encoder=seat.encoder, recourse=seat.artifact.recourse, salt=salt).rows
    return {request.request_id: row for request, row in zip(requests, rows, strict=True)}


def _shuffled(request: DecisionRequest, source: random.Random) -> DecisionRequest:
    def mixed(table: dict[str, list[object]] | None) -> dict[str, list[object]] | None:
        if table is None:
            return None
        order = list(range(len(table["id"])))
        source.shuffle(order)
        return {name: [values[place] for place in order] for name, values in table.items()}

    return msgspec.structs.replace(request, actions=mixed(request.actions), slots=mixed(request.slots))


@pytest.mark.parametrize("domain", sorted(WORKLOADS))
def test_the_same_bits_whatever_the_batch_the_order_and_the_order_of_rows(domain: str) -> None:
    source = random.Random(1)
    requests = _requests(domain, 24)
    expected = _rule(domain, requests)

    alone = {key: row for request in requests for key, row in _rule(domain, [request]).items()}
    mixed = [_shuffled(request, source) for request in requests]
    source.shuffle(mixed)

    assert alone == expected
    assert {**_rule(domain, mixed[:7]), **_rule(domain, mixed[7:])} == expected
    assert not any(isinstance(row, Fault) for row in expected.values())


@pytest.mark.parametrize("domain", ["ad_load", "payments", "iot_scheduling"])
def test_a_propensity_is_the_drawn_cell_of_a_lattice_that_sums_to_one(domain: str) -> None:
    for row in _rule(domain, _requests(domain, 50)).values():
        assert isinstance(row, Ruling)
        for choice in row.choices:
            assert choice.lattice is not None
            assert sum(choice.lattice) == ONE
            assert choice.propensity in {cell / ONE for cell in choice.lattice}


def test_another_salt_draws_other_actions() -> None:
    requests = _requests("ad_load", 60)
    plain, salted = _rule("ad_load", requests), _rule("ad_load", requests, salt=b"pepper")
    same = sum(plain[key] == salted[key] for key in plain)
    assert 0 < same < 40


def test_slots_of_one_request_are_drawn_apart() -> None:
    rows = [r for r in _rule("iot_scheduling", _requests("iot_scheduling", 40)).values() if isinstance(r, Ruling)]
    pairs = [r.choices for r in rows if len(r.choices) > 1]
    assert any(choices[0].action != choices[1].action for choices in pairs)


class _Broken:
    """Proposes what is no distribution for the rows that a flag column marks."""

    identity = "b" * 64

    def __init__(self, spec: PolicySpec, bad: float) -> None:
        self.spec, self.bad = spec, bad

    def propose(self, arrays: Mapping[str, NDArray[np.generic]], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        table = mask / mask.sum(axis=2, keepdims=True)
        table[np.asarray(arrays["request"], dtype=np.float64)[:, 0] > 20, :, 0] = self.bad
        return np.asarray(table)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5, 0.9])
def test_a_row_that_is_no_distribution_is_a_fault_of_its_own(bad: float) -> None:
    seat = lineup("ad_load").domains["ad_load"].live
    requests = _requests("ad_load", 30)
    broken = _Broken(seat.artifact.spec, bad)

    rows = rule(broken, requests, encoder=seat.encoder, recourse=None, salt=b"").rows

    sound = [request for request in requests if request.fields["position"] <= 20]
    apart = rule(broken, sound, encoder=seat.encoder, recourse=None, salt=b"").rows
    expected = {request.request_id: row for request, row in zip(sound, apart, strict=True)}
    assert 0 < len(sound) < len(requests)
    for request, row in zip(requests, rows, strict=True):
        if request.fields["position"] > 20:
            assert isinstance(row, Fault)
            assert row.reason == "policy_not_finite"
        else:
            assert row == expected[request.request_id]


def _with(domain: str, **changes: object) -> Lineup:
    base = lineup(domain)
    assignment = replace(base.domains[domain], **changes)  # type: ignore[arg-type]
    return Lineup(identity=base.identity, domains={domain: assignment}, salt=base.salt)


def test_the_kill_switch_ends_requests_in_the_fallback_with_its_reason() -> None:
    results = answer(WORKLOADS["ad_load"]().messages(5), _with("ad_load", kill=True))

    for result in results:
        found = decision(result)
        assert found.fallback == "kill"
        assert [(c.action, c.propensity, c.lattice) for c in found.choices] == [("0", None, None)]


def test_a_passed_deadline_ends_in_the_fallback_and_its_neighbor_is_decided() -> None:
    requests = _requests("ad_load", 2)
    late = msgspec.structs.replace(requests[0], deadline=99)
    values = [to_bytes(late), to_bytes(requests[1])]

    found = [decision(result) for result in answer(values, lineup("ad_load"), now=100)]

    assert [one.fallback for one in found] == ["deadline", None]


def test_without_a_fallback_a_late_request_is_a_dead_letter() -> None:
    spec = lineup("ad_load").domains["ad_load"].live.artifact.spec
    bare = msgspec.structs.replace(spec, actions=msgspec.structs.replace(spec.actions, fallback=None))
    late = msgspec.structs.replace(_requests("ad_load", 1)[0], deadline=99)

    (result,) = answer([to_bytes(late)], lineup_of(uniform_artifact(bare)), now=100)

    assert letter(result).reason == "deadline"


def test_the_first_fallback_takes_the_first_eligible_action_in_canonical_order() -> None:
    request = _requests("payments", 1)[0]
    assert request.actions is not None
    count = len(request.actions["id"])
    shut = {**request.actions, "eligible": [[False] + [True] * (count - 1)]}
    late = msgspec.structs.replace(request, deadline=0, actions=shut)

    (result,) = answer([to_bytes(late)], lineup("payments"), now=1)

    assert decision(result).choices[0].action == sorted(request.actions["id"])[1]


def test_a_fallback_that_is_not_eligible_is_a_dead_letter() -> None:
    late = msgspec.structs.replace(_requests("ad_load", 1)[0], deadline=0, actions={"id": ["3", "4"]})
    (result,) = answer([to_bytes(late)], lineup("ad_load"), now=1)
    assert letter(result).reason == "deadline"
    assert "not eligible" in letter(result).detail


def test_quantities_go_through_recourse_and_report_its_outputs() -> None:
    results = answer(WORKLOADS["hydrothermal"]().messages(3), lineup("hydrothermal"))

    for result in results:
        found = decision(result)
        assert found.recourse is not None
        assert found.recourse.status == "optimal"
        assert len(found.recourse.outputs["water_value"]) == 11  # type: ignore[arg-type]
        assert len(found.choices[0].applied or "") == 11


def test_orders_are_rounded_to_whole_cases() -> None:
    (result,) = answer(WORKLOADS["inventory"]().messages(1), lineup("inventory"))
    choice = decision(result).choices[0]
    assert choice.action == [13.4, 7.2, 30.0]
    assert choice.applied == [12.0, 6.0, 30.0]


def test_the_canary_decides_for_its_share_of_the_units_and_always_the_same_ones() -> None:
    seat = lineup("ad_load").domains["ad_load"].live
    canary = Seat(artifact=seat.artifact, role="canary", encoder=seat.encoder, policy="c" * 32)
    base = lineup("ad_load").domains["ad_load"]
    split = Assignment(live=base.live, canary=canary, share=0.3, shadow=None, kill=False)
    half = Lineup(identity="x", domains={"ad_load": split}, salt=b"")

    roles = [(decision(r), decision(r).role) for r in answer(WORKLOADS["ad_load"]().messages(600), half)]

    by_unit: dict[str, set[str]] = {}
    for found, role in roles:
        by_unit.setdefault(from_bytes(bytes(found.request), DecisionRequest).unit, set()).add(role)
    assert all(len(seen) == 1 for seen in by_unit.values())
    share = sum(role == "canary" for _, role in roles) / len(roles)
    assert 0.2 < share < 0.4
    assert all((found.policy == "c" * 32) == (role == "canary") for found, role in roles)


def test_a_shadow_rules_beside_the_live_policy_and_answers_nobody() -> None:
    seat = lineup("ad_load").domains["ad_load"].live
    shadow = Seat(artifact=seat.artifact, role="shadow", encoder=seat.encoder, policy="d" * 32)

    results = answer(WORKLOADS["ad_load"]().messages(4), _with("ad_load", shadow=shadow))

    assert [result.kind for result in results] == ["decision"] * 4 + ["shadow"] * 4
    assert {decision(r).role for r in results[4:]} == {"shadow"}


def test_two_domains_in_one_batch_are_each_decided_by_their_own() -> None:
    both = Lineup(
        identity="two",
        domains={**lineup("ad_load").domains, **lineup("payments").domains},
        salt=b"",
    )
    ads, pays = WORKLOADS["ad_load"]().messages(3), WORKLOADS["payments"]().messages(3)
    mixed = [value for pair in zip(ads, pays, strict=True) for value in pair]

    received = receive([message(v, n) for n, v in enumerate(mixed)], known_domains=both.domains)
    ruled = decide(received, both, now=0)

    assert [seat.artifact.spec.domain for seat in ruled.seats] == ["ad_load", "payments"] * 3
    apart = [*_rule("ad_load", _requests("ad_load", 3)).values()]
    assert ruled.rulings[::2] == apart


def test_clipped_and_filled_values_are_counted() -> None:
    request = _requests("ad_load", 1)[0]
    far = msgspec.structs.replace(request, fields={**request.fields, "scroll_depth": 9999})
    received = receive([message(to_bytes(far))], known_domains={"ad_load"})
    assert decide(received, lineup("ad_load"), now=0).clipped == 1


def test_artifacts_of_the_five_domains_are_what_the_fixtures_say() -> None:
    assert {domain: artifact_of(domain).spec.domain for domain in WORKLOADS} == {domain: domain for domain in WORKLOADS}
