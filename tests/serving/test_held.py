"""How long the join waits for a request's outcomes, and when it has them all."""

from typing import Any

import msgspec
import pytest

from policies.events import Choice, Decision, Source, UnableToDecode, from_bytes
from policies.spec import Reward
from serving.held import Held, echoed_request, horizon, is_complete
from tests.helpers.small_specs import FEED, TASKS, request_of
from tests.serving.test_join import decision_of


def decision_with(echo: bytes) -> Decision:
    return msgspec.structs.replace(
        from_bytes(decision_of(request_of(FEED, 0, actions=None)), Decision), request=msgspec.Raw(echo)
    )


def test_the_echoed_request_is_named() -> None:
    found = echoed_request(decision_with(b'{"request_id":"a","domain":"feed","more":[1]}'))
    assert (found.request_id, found.domain) == ("a", "feed")


@pytest.mark.parametrize(
    ("echo", "reason", "request_id"),
    [
        (b"{}", "missing_field", None),
        (b'{"request_id":"a"}', "missing_field", "a"),
        (b'{"request_id":"a","domain":7}', "wrong_type", "a"),
        (b'{"request_id":"a","schema_version":99}', "schema_version", "a"),
        (b"[]", "wrong_type", None),
        (b"null", "wrong_type", None),
    ],
)
def test_an_echo_that_names_no_request_has_a_reason(echo: bytes, reason: str, request_id: str | None) -> None:
    with pytest.raises(UnableToDecode, match="in the request that the decision echoes") as caught:
        echoed_request(decision_with(echo))
    assert (caught.value.fault.reason, caught.value.request_id) == (reason, request_id)


@pytest.mark.parametrize(
    ("horizons", "expected"),
    [((10.0, 30.0), 30_000_000), ((10.0, None), 100_000_000), ((10.0, 500.0), 100_000_000), ((), 100_000_000)],
)
def test_the_longest_horizon_counts_unless_one_reward_has_none(
    horizons: tuple[float | None, ...], expected: int
) -> None:
    rewards = tuple(Reward(name=f"r{place}", horizon_s=horizon_s) for place, horizon_s in enumerate(horizons))
    assert horizon(msgspec.structs.replace(FEED, rewards=rewards), longest=100_000_000) == expected


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_reward_is_final_for_each_slot_or_for_the_whole_request(is_whole: bool) -> None:
    choices = tuple(Choice(slot=slot, action="a") for slot in ("s1", "s2"))
    given: dict[str, Any] = {"choices": choices}
    decision = from_bytes(decision_of(request_of(TASKS, 1), **given), Decision)
    held = Held(domain="tasks", decisions=[(decision, Source(topic="decisions", partition=0, offset=0))])
    names = [reward.name for reward in TASKS.rewards]
    slots = [""] if is_whole else ["s1", "s2"]
    wanted = [(slot, name) for slot in slots for name in names]
    for pair in wanted:
        assert not is_complete(held, spec=TASKS)
        held.final.add(pair)
    assert is_complete(held, spec=TASKS)
