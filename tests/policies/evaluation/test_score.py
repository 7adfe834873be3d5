"""A log becomes scored rows; what cannot be weighed is counted."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.evaluation.estimators import estimate
from policies.evaluation.score import fit_values, fold_of, score
from policies.evaluation.scored import UnableToScore
from policies.evaluation.sums import Sums
from policies.events import AppliedRecourse, Choice, Decision, Outcome, Source, to_bytes
from policies.feedback import Feedback, UnableToUseFeedback, fold
from policies.importers.classification import fit_logger, split_rows
from policies.importers.samples import labelled_sample
from policies.policy import UniformPolicy
from policies.spec import PolicySpec
from serving.decide import rule
from serving.ruling import Ruling
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import lineup

HOUR = 3_600_000_000
REWARD = {"correct": 1.0}


def _logged(domain: str, count: int, rewards: Mapping[str, float | None], **changes: Any) -> Feedback:
    """Serve some requests and let outcomes come, one per slot."""
    workload, seat = WORKLOADS[domain](), lineup(domain).domains[domain].live
    requests = [workload.request(number) for number in range(count)]
    rulings = rule(seat.artifact.policy, requests, encoder=seat.encoder, recourse=None, salt=b"").rows
    decisions, outcomes = [], []
    for number, (request, ruling) in enumerate(zip(requests, rulings, strict=True)):
        assert isinstance(ruling, Ruling)
        said = {"role": "live", "fallback": None, **changes}
        decisions.append(_decision(to_bytes(request), ruling.choices, number, **said))
        slots = changes.get("slots", [choice.slot for choice in ruling.choices])
        outcomes += [
            (
                Outcome(request_id=request.request_id, slot=slot, domain=domain, time=HOUR, rewards=dict(rewards)),
                Source(topic="outcomes", partition=0, offset=10 * number + place),
            )
            for place, slot in enumerate(slots)
        ]
    return fold(decisions, outcomes, as_of=2 * HOUR, spec=workload.spec).feedback


def _decision(raw: bytes, choices: tuple[Choice, ...], offset: int, **said: Any) -> Decision:
    import msgspec

    said.pop("slots", None)
    recourse: AppliedRecourse | None = None
    return Decision(
        request=msgspec.Raw(raw), policy="p" * 32, catalogue="c" * 32, platform="0" * 8, choices=choices,
        recourse=recourse, source=Source(topic="requests", partition=0, offset=offset), time=1, **said,
    )  # fmt: skip


@pytest.fixture(scope="module")
def log() -> tuple[Feedback, Any, Any]:
    labelled = labelled_sample(seed=3, count=3000)
    fitted, rows = split_rows(len(labelled), shares=(0.1, 0.9))
    return labelled.as_feedback(rows, fit_logger(labelled, fitted)), labelled, rows


def test_the_policy_that_wrote_the_log_has_weights_of_exactly_one(log: tuple[Feedback, Any, Any]) -> None:
    feedback, _, _ = log
    assert (score(feedback, None, reward=REWARD).scored.weight == 1.0).all()


def test_the_target_is_its_probability_of_the_logged_action(log: tuple[Feedback, Any, Any]) -> None:
    feedback, labelled, _ = log
    found = score(feedback, UniformPolicy(labelled.spec), reward=REWARD).scored
    assert set(found.target.tolist()) == {0.1}
    np.testing.assert_array_equal(found.propensity, feedback.propensity)


def test_dr_comes_near_the_truth_of_a_known_policy_with_less_error_than_ips(log: tuple[Feedback, Any, Any]) -> None:
    feedback, labelled, rows = log
    values = fit_values(feedback, reward=REWARD)
    target = fit_logger(labelled, split_rows(len(labelled), shares=(0.1, 0.9))[0], value=0.8)

    found = score(feedback, target, reward=REWARD, values=values)
    estimates = estimate(Sums.empty().add(found.scored), reward_low=0, reward_high=1)

    assert abs((estimates["dr"].value or 0) - labelled.value(rows, target)) < 0.02
    assert estimates["dr"].standard_error < estimates["ips"].standard_error  # type: ignore[operator]


def test_a_float32_graph_is_weighed_as_it_is_served_on_the_lattice(log: tuple[Feedback, Any, Any]) -> None:
    feedback, labelled, _ = log

    class Third:
        spec: PolicySpec = labelled.spec
        identity = "third"

        def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
            return np.asarray(mask / mask.sum(axis=2, keepdims=True), dtype=np.float32)

    found = score(feedback, Third(), reward=REWARD).scored
    assert ((found.target * 2**32) % 1 == 0).all()


def test_pending_rewards_are_counted_and_left_out() -> None:
    feedback = _logged("payments", 8, {})
    with pytest.raises(UnableToScore, match="'nothing'"):
        score(feedback, None, reward={"nothing": 1.0})
    found = score(feedback, None, reward={"net": 1.0})
    assert (len(found.scored), found.pending, found.excluded) == (0, 8, 0)


def test_retracted_rewards_and_fallbacks_are_excluded() -> None:
    retracted = score(_logged("ad_load", 5, {"revenue": None}), None, reward={"revenue": 1.0})
    assert (len(retracted.scored), retracted.pending, retracted.excluded) == (0, 0, 5)
    fallback = score(_logged("ad_load", 5, {"revenue": 1.0}, fallback="deadline"), None, reward={"revenue": 1.0})
    assert (len(fallback.scored), fallback.excluded) == (0, 5)


def test_rewards_are_summed_by_their_weights() -> None:
    feedback = _logged("ad_load", 4, {"revenue": 1.5, "stayed": 1.0})
    found = score(feedback, None, reward={"revenue": 1.0, "stayed": 0.25}).scored
    assert found.reward.tolist() == [1.75] * 4


def test_each_slot_is_a_row_and_own_actions_are_found_whatever_their_order() -> None:
    feedback = _logged("iot_scheduling", 20, {"on_time": 1.0})
    spec = feedback.spec
    found = score(feedback, UniformPolicy(spec), reward={"on_time": 1.0}).scored
    assert len(found) == len(feedback)
    np.testing.assert_allclose(found.weight, 1.0, rtol=1e-6)


def test_a_reward_of_a_whole_request_is_one_row_whose_weight_is_the_product_over_its_slots() -> None:
    feedback = _logged("iot_scheduling", 12, {"on_time": 1.0}, slots=[""])

    class Half:
        """Halves the probability of all but the first node, so that weights tell the slots apart."""

        spec = feedback.spec
        identity = "half"

        def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
            table = np.where(mask, 0.5 / 64, 0.0)
            table[:, :, 0] += 0.5 * mask.any(axis=2)
            return np.asarray(table)

    found = score(feedback, Half(), reward={"on_time": 1.0})
    assert len(found.scored) == 12

    firsts = dict.fromkeys(feedback.request_ids, 0)
    slots = dict(firsts)
    for request_id, slot, action in zip(feedback.request_ids, feedback.slots, feedback.actions, strict=True):
        if slot:
            slots[request_id] += 1
            firsts[request_id] += action == "node-00"
    expected = sorted(
        (0.5 / 64 + 0.5) ** firsts[name] * (0.5 / 64) ** (slots[name] - firsts[name]) * 64.0 ** slots[name]
        for name in firsts
    )
    np.testing.assert_allclose(sorted(found.scored.weight), expected, rtol=1e-6)


def test_a_deterministic_log_of_rewards_of_whole_requests_is_refused() -> None:
    feedback = _logged("iot_scheduling", 12, {"on_time": 1.0}, slots=[""])
    certain = replace(feedback, propensity=np.where(np.isnan(feedback.propensity), np.nan, 1.0))
    with pytest.raises(UnableToScore, match="a deterministic log cannot be weighed"):
        score(certain, None, reward={"on_time": 1.0})


def test_folds_follow_the_unit_alone(log: tuple[Feedback, Any, Any]) -> None:
    feedback = _logged("ad_load", 50, {"revenue": 1.0})
    by_unit: dict[str, set[int]] = {}
    for unit, place in zip(feedback.units, fold_of(feedback).tolist(), strict=True):
        by_unit.setdefault(unit, set()).add(place)
    assert all(len(places) == 1 for places in by_unit.values())
    assert {place for places in by_unit.values() for place in places} == {0, 1, 2, 3, 4}


def test_units_that_repeat_are_weighed_as_units() -> None:
    feedback = _logged("ad_load", 1200, {"revenue": 1.0})
    found = score(feedback, None, reward={"revenue": 1.0}).scored
    assert found.unit is not None
    assert len(set(found.unit.tolist())) == 997


def test_quantities_cannot_be_weighed_and_the_message_points_to_simulate() -> None:
    feedback = _logged("inventory", 3, {"profit": 1.0})
    with pytest.raises(UnableToUseFeedback, match="simulate"):
        score(feedback, None, reward={"profit": 1.0})
