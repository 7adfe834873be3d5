"""One turn of the ring for each of the five domains: asked, decided, joined, kept, read back, recomputed."""

from pathlib import Path
from threading import Event
from typing import Literal

import msgspec
import numpy as np
import pytest

from policies.encode import Encoder
from policies.events import Decision, DecisionRequest, Outcome, Source, from_bytes, microseconds, to_bytes
from policies.feedback import fold, logged_choices, read_feedback, write_feedback
from serving.service import Service
from serving.settings import ServeSettings
from serving.verify import verify
from tests.helpers.domains import HOUR_US, WORKLOADS
from tests.helpers.lineups import artifact_of, lineup

COUNT = 40
DISCRETE = ("ad_load", "payments", "iot_scheduling")


def _serve(domain: str, folder: Path, *, loops: tuple[Literal["decide", "join"], ...]) -> None:
    settings = ServeSettings(
        artifact=artifact_of(domain).folder, transport="file", dir=folder, loops=loops, follow=False, max_batch=16
    )
    Service(settings, stop=Event()).run()


def _turn(domain: str, folder: Path) -> list[Decision]:
    """Serve requests from a folder, let every choice come to something, and join."""
    workload = WORKLOADS[domain]()
    lines = [value + b"\n" for value in workload.messages(COUNT)]
    (folder / "requests.jsonl").write_bytes(b"".join(lines))
    _serve(domain, folder, loops=("decide",))
    decisions = [from_bytes(line, Decision) for line in (folder / "decisions.jsonl").read_bytes().splitlines()]
    outcomes = [outcome for decision in decisions for outcome in _outcomes(domain, decision)]
    (folder / "outcomes.jsonl").write_bytes(b"".join(to_bytes(outcome) + b"\n" for outcome in outcomes))
    _serve(domain, folder, loops=("join",))
    return decisions


def _outcomes(domain: str, decision: Decision) -> list[Outcome]:
    request = from_bytes(bytes(decision.request), DecisionRequest)
    made = [WORKLOADS[domain]().outcome(request, choice.slot) for choice in decision.choices]
    later = microseconds(decision.time) + HOUR_US
    return [msgspec.structs.replace(outcome, time=later) for outcome in made]


@pytest.mark.parametrize("domain", sorted(WORKLOADS))
def test_the_ring_turns_once(domain: str, tmp_path: Path) -> None:
    decisions = _turn(domain, tmp_path)

    sent = WORKLOADS[domain]().messages(COUNT)
    assert [bytes(decision.request) for decision in decisions] == sent
    assert (tmp_path / "dead-letters.jsonl").read_bytes() == b""
    rows = [msgspec.json.decode(line) for line in (tmp_path / "feedback.jsonl").read_bytes().splitlines()]
    assert len(rows) == sum(len(decision.choices) for decision in decisions)
    log = (tmp_path / "decisions.jsonl").read_bytes().splitlines()
    found = verify(log, lineups=[lineup(domain)])
    assert (found.bitwise, found.different) == (COUNT, 0)


@pytest.mark.parametrize("domain", sorted(WORKLOADS))
def test_what_is_joined_is_read_back_as_it_was_kept(domain: str, tmp_path: Path) -> None:
    decisions = _turn(domain, tmp_path)
    told = [
        (outcome, Source(topic="outcomes", partition=0, offset=number))
        for number, outcome in enumerate(o for decision in decisions for o in _outcomes(domain, decision))
    ]
    spec = WORKLOADS[domain]().spec
    kept = fold(decisions, told, as_of=microseconds(decisions[-1].time) + 2 * HOUR_US, spec=spec).feedback

    write_feedback(kept, tmp_path / "log.parquet")
    back = read_feedback(tmp_path / "log.parquet", spec=spec)

    assert (back.request_ids, back.slots, back.units, back.actions) == (
        kept.request_ids,
        kept.slots,
        kept.units,
        kept.actions,
    )
    np.testing.assert_array_equal(back.propensity, kept.propensity)
    for reward in spec.rewards:
        np.testing.assert_array_equal(back.rewards[reward.name], kept.rewards[reward.name])
        assert np.isfinite(back.rewards[reward.name]).all()


@pytest.mark.parametrize("domain", DISCRETE)
def test_feedback_encodes_to_the_very_arrays_that_were_decided_on(domain: str, tmp_path: Path) -> None:
    """Train as served: there is one encoder, whether columns come from requests or from feedback."""
    decisions = _turn(domain, tmp_path)
    spec = WORKLOADS[domain]().spec
    kept = fold(decisions, [], as_of=0, spec=spec).feedback
    requests = {
        request.request_id: request
        for request in (from_bytes(bytes(decision.request), DecisionRequest) for decision in decisions)
    }
    encoder = Encoder(spec)

    for choices in logged_choices(kept, encoder):
        for row, place in zip(choices.rows.tolist(), choices.request.tolist(), strict=True):
            (alone,) = encoder.encode_requests([requests[kept.request_ids[row]]]).buckets
            for name, array in alone.arrays.items():
                np.testing.assert_array_equal(choices.bucket.arrays[name][place], array[0])
            np.testing.assert_array_equal(choices.bucket.mask[place], alone.mask[0])
