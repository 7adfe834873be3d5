"""Every decision of a log is recomputed, and the first that differs is named."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from policies.choose import ONE, draw, draw_uniforms
from policies.encode import Encoded, Encoder
from policies.events import DecisionRequest
from serving.verify import UnableToReadLog, UnableToVerify, verify
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import answer, lineup


def _log(domain: str, count: int = 12, salt: bytes = b"") -> list[bytes]:
    return [result.value for result in answer(WORKLOADS[domain]().messages(count), lineup(domain, salt))]


def _tampered(line: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads(line)
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize("domain", sorted(WORKLOADS))
def test_an_honest_log_is_recomputed_bit_for_bit(domain: str) -> None:
    found = verify(_log(domain), lineups=[lineup(domain)])
    assert (found.decisions, found.bitwise, found.different) == (12, 12, 0)
    assert found.first_difference is None


def _other_action(document: dict[str, Any]) -> None:
    document["choices"][0]["action"] = "5" if document["choices"][0]["action"] != "5" else "4"


def _other_propensity(document: dict[str, Any]) -> None:
    document["choices"][0]["propensity"] += 2.0**-32


def _other_lattice(document: dict[str, Any]) -> None:
    document["choices"][0]["lattice"][0] += 1
    document["choices"][0]["lattice"][1] -= 1


def _other_applied(document: dict[str, Any]) -> None:
    document["choices"][0]["applied"] = "5"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_other_action, "action"),
        (_other_propensity, "propensity"),
        (_other_lattice, "lattice"),
        (_other_applied, "applied"),
        (lambda document: document.update(role="canary"), "role"),
        (lambda document: document.update(fallback="kill"), "fallback"),
        (lambda document: document.update(fallback="deadline"), "fallback"),
        (lambda document: document["request"].update(domain="elsewhere"), "policy"),
    ],
)
def test_the_first_tampered_decision_is_named(change: Callable[[dict[str, Any]], None], field: str) -> None:
    log = _log("ad_load")
    log[4], log[9] = _tampered(log[4], change), _tampered(log[9], change)

    found = verify(log, lineups=[lineup("ad_load")])

    assert found.different == 2
    assert found.first_difference is not None
    assert found.first_difference.line == 5
    assert found.first_difference.request_id == "ad_load-00000004"
    assert field in found.first_difference.field


def _other_output(document: dict[str, Any]) -> None:
    document["recourse"]["outputs"]["water_value"][3] += 1e-9


def _other_applied_volume(document: dict[str, Any]) -> None:
    document["choices"][0]["applied"][2] += 1e-9


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_other_output, "recourse.outputs.water_value"),
        (_other_applied_volume, "choices[''].applied"),
        (lambda document: document["recourse"].update(kind="rounding"), "recourse"),
        (lambda document: document["recourse"].update(status="infeasible"), "recourse"),
    ],
)
def test_what_recourse_made_of_a_proposal_is_compared_to_the_bit(
    change: Callable[[dict[str, Any]], None], field: str
) -> None:
    log = _log("hydrothermal", 3)
    found = verify([log[0], _tampered(log[1], change), log[2]], lineups=[lineup("hydrothermal")])

    assert found.first_difference is not None
    assert (found.first_difference.line, found.first_difference.field) == (2, field)


def test_another_platform_is_compared_within_a_tolerance_but_action_and_propensity_exactly() -> None:
    def elsewhere(document: dict[str, Any]) -> None:
        document["platform"] = "00000000"

    def near(document: dict[str, Any]) -> None:
        elsewhere(document)
        lattice = document["choices"][0]["lattice"]
        lattice[0], lattice[1] = lattice[0] + 100, lattice[1] - 100
        document["choices"][0]["propensity"] = None

    def wrong(document: dict[str, Any]) -> None:
        elsewhere(document)
        _other_action(document)

    log = _log("ad_load")
    assert verify([_tampered(log[0], elsewhere)], lineups=[lineup("ad_load")]).within_tolerance == 1
    found = verify([_tampered(log[0], near)], lineups=[lineup("ad_load")]).first_difference
    assert found is not None
    assert "propensity" in found.field
    found = verify([_tampered(log[0], wrong)], lineups=[lineup("ad_load")]).first_difference
    assert found is not None
    assert "action" in found.field


def test_a_request_of_many_slots_is_encoded_once_more_however_many_of_them_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def elsewhere(document: dict[str, Any]) -> None:
        document["platform"] = "00000000"
        for choice in document["choices"]:
            cells = choice["lattice"]
            uniforms = draw_uniforms([document["request"]["request_id"]], [choice["slot"]], salt=b"")
            drawn = draw(np.array([cells]), uniforms)
            if len(cells) > 1:
                cells[0], cells[1] = cells[0] - 1, cells[1] + 1
            choice["propensity"] = cells[drawn[0]] / ONE

    whole = [_tampered(line, elsewhere) for line in _log("iot_scheduling", 3)]
    assert max(len(json.loads(line)["choices"]) for line in whole) > 2
    counts = Counter[int]()
    encode = Encoder.encode_requests

    def count(self: Encoder, requests: Sequence[DecisionRequest]) -> Encoded:
        counts[len(requests)] += 1
        return encode(self, requests)

    monkeypatch.setattr(Encoder, "encode_requests", count)
    assert verify(whole, lineups=[lineup("iot_scheduling")]).within_tolerance == 3
    assert counts == {3: 1, 1: 3}


def test_the_wrong_salt_is_found_out() -> None:
    found = verify(_log("ad_load", salt=b"pepper"), lineups=[lineup("ad_load")])
    assert found.different > 0


def test_fallbacks_are_recomputed_too() -> None:
    messages = [value.replace(b'"step":0', b'"step":0,"deadline":5') for value in WORKLOADS["ad_load"]().messages(3)]
    log = [result.value for result in answer(messages, lineup("ad_load"), now=6)]

    assert verify(log, lineups=[lineup("ad_load")]).fallbacks == 3
    found = verify([_tampered(log[0], _other_action)], lineups=[lineup("ad_load")])
    assert found.different == 1


def test_an_artifact_that_was_not_given_is_named() -> None:
    with pytest.raises(UnableToVerify, match=lineup("ad_load").domains["ad_load"].live.policy) as caught:
        verify(_log("ad_load"), lineups=[lineup("payments")])
    assert caught.value.exit_code == 3


def test_a_decision_under_the_kill_switch_must_be_its_fallback() -> None:
    whole = lineup("ad_load")
    killed = dataclasses.replace(whole, domains={"ad_load": dataclasses.replace(whole.domains["ad_load"], kill=True)})
    messages = WORKLOADS["ad_load"]().messages(3)

    assert verify([result.value for result in answer(messages, killed)], lineups=[killed]).different == 0
    assert verify([result.value for result in answer(messages, whole)], lineups=[killed]).different == 3


def test_a_line_that_is_no_decision_is_named() -> None:
    with pytest.raises(UnableToReadLog, match="line 2"):
        verify([_log("ad_load", 1)[0], b"{}"], lineups=[lineup("ad_load")])
