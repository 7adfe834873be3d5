from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.events import Choice, Decision, DecisionRequest, Outcome, Source, to_bytes
from serving.transport.memory import MemoryLog, Point
from tests.contracts.transport_suite import CrashError
from tests.helpers.small_specs import FEED, TASKS, request_of
from tests.helpers.streams import Clock, documents, new_join, sample

CLOCK_START = Clock().microseconds()
HORIZON_S = 3600.0
HALF = 1 << 31


def decision_of(request: DecisionRequest, *, time: int = CLOCK_START, **changes: Any) -> bytes:
    choice = Choice(action="short", propensity=0.5, lattice=(0, HALF, HALF))
    said: dict[str, Any] = {"role": "live", "choices": (choice,), "time": time} | changes
    source = Source(topic="requests", partition=0, offset=0)
    raw = msgspec.Raw(to_bytes(request))
    return to_bytes(Decision(request=raw, policy="p", catalogue="c", platform="f", source=source, **said))


def outcome_of(request_id: str, click: float | None, *, revision: int = 0, final: bool = False, **more: Any) -> bytes:
    said: dict[str, Any] = {"domain": "feed", "time": CLOCK_START, "rewards": {"click": click}} | more
    return to_bytes(Outcome(request_id=request_id, revision=revision, final=final, **said))


def feed(number: int) -> DecisionRequest:
    return request_of(FEED, number, actions=None)


def decide_some(log: MemoryLog, count: int, **changes: Any) -> list[str]:
    for number in range(count):
        log.append(decision_of(feed(number), **changes), topic="decisions")
    return [feed(number).request_id for number in range(count)]


def rows(log: MemoryLog) -> dict[str, Any]:
    found = documents(log, "feedback")
    by_id = {row["request_id"]: (row["reward_click"], row["status_click"]) for row in found}
    assert len(by_id) == len(found)
    return by_id


def test_a_decision_leaves_as_soon_as_its_rewards_are_final() -> None:
    log, clock = MemoryLog(), Clock()
    one, two = decide_some(log, 2)
    log.append(outcome_of(one, 1.0, final=True), topic="outcomes")
    log.append(outcome_of(two, 1.0), topic="outcomes")
    join, loop, metrics = new_join(log, FEED, clock=clock)
    loop.go_round()
    assert rows(log) == {one: (1.0, None)}
    assert join.open_count == 1
    assert sample(metrics, "penstock_open_decisions", domain="feed") == 1
    assert sample(metrics, "penstock_outcomes_total", domain="feed", fate="joined") == 1


def test_a_decision_leaves_when_its_horizon_is_over_with_the_default() -> None:
    log, clock = MemoryLog(), Clock()
    (one,) = decide_some(log, 1)
    _, loop, _ = new_join(log, FEED, clock=clock, hold_s=2 * HORIZON_S)
    loop.go_round()
    clock.advance(HORIZON_S - 1)
    loop.go_round()
    assert rows(log) == {}
    clock.advance(1.0)
    loop.go_round()
    assert rows(log) == {one: (0.0, "default")}


def test_what_was_held_long_enough_leaves_as_pending() -> None:
    log, clock = MemoryLog(), Clock()
    (one,) = decide_some(log, 1)
    _, loop, _ = new_join(log, FEED, clock=clock, hold_s=60.0)
    loop.go_round()
    clock.advance(60.0)
    loop.go_round()
    assert rows(log) == {one: (None, "pending")}


def test_an_outcome_may_come_before_its_decision() -> None:
    log, clock = MemoryLog(), Clock()
    log.append(outcome_of(feed(0).request_id, 1.0, final=True), topic="outcomes")
    _, loop, _ = new_join(log, FEED, clock=clock)
    loop.go_round()
    (one,) = decide_some(log, 1)
    loop.go_round()
    assert rows(log) == {one: (1.0, None)}


def test_an_outcome_without_a_decision_is_an_orphan_in_the_end() -> None:
    log, clock = MemoryLog(), Clock()
    log.append(outcome_of("nobody", 1.0), topic="outcomes")
    join, loop, metrics = new_join(log, FEED, clock=clock, hold_s=60.0)
    loop.go_round()
    for _ in range(5):
        clock.advance(13.0)
        loop.go_round()
    assert join.open_count == 0
    assert rows(log) == {}
    log.append(outcome_of("nobody", 1.0), topic="outcomes")
    loop.go_round()
    assert sample(metrics, "penstock_outcomes_total", domain="feed", fate="orphan") == 1


def test_an_outcome_after_its_decision_has_left_is_late() -> None:
    log, clock = MemoryLog(), Clock()
    (one,) = decide_some(log, 1)
    log.append(outcome_of(one, 1.0, final=True), topic="outcomes")
    _, loop, metrics = new_join(log, FEED, clock=clock)
    loop.go_round()
    log.append(outcome_of(one, 0.0, revision=1), topic="outcomes")
    loop.go_round()
    assert rows(log) == {one: (1.0, None)}
    assert sample(metrics, "penstock_outcomes_total", domain="feed", fate="late") == 1


def test_the_highest_revision_wins_as_in_the_durable_fold() -> None:
    log, clock = MemoryLog(), Clock()
    (one,) = decide_some(log, 1)
    for revision, click in ((2, 0.25), (1, 1.0), (0, 0.5)):
        log.append(outcome_of(one, click, revision=revision), topic="outcomes")
    _, loop, _ = new_join(log, FEED, clock=clock, is_finite=True)
    loop.run()
    assert rows(log) == {one: (0.25, None)}


def test_catching_up_on_an_old_log_does_not_take_unread_outcomes_for_missing() -> None:
    log, clock = MemoryLog(), Clock()
    ids = decide_some(log, 9, time=CLOCK_START - 10_000_000_000_000)
    for one in reversed(ids):
        log.append(outcome_of(one, 1.0), topic="outcomes")
    _, loop, _ = new_join(log, FEED, clock=clock, max_batch=2)
    for _ in range(9):
        loop.go_round()
    assert rows(log) == {}
    loop.go_round()
    assert rows(log) == dict.fromkeys(ids, (1.0, None))


def test_the_committed_position_is_that_of_the_oldest_decision_held() -> None:
    log, clock = MemoryLog(), Clock()
    ids = decide_some(log, 4)
    for one in (ids[0], ids[2], ids[3]):
        log.append(outcome_of(one, 1.0, final=True), topic="outcomes")
    _, loop, _ = new_join(log, FEED, clock=clock)
    loop.go_round()
    assert log.positions("join") == {("decisions", 0): 1, ("outcomes", 0): 3}


def test_what_left_before_a_restart_does_not_leave_again() -> None:
    log, clock = MemoryLog(), Clock()
    ids = decide_some(log, 4)
    log.append(outcome_of(ids[2], 1.0, final=True), topic="outcomes")
    new_join(log, FEED, clock=clock)[1].go_round()
    assert log.positions("join")["decisions", 0] == 0
    new_join(log, FEED, clock=clock, is_finite=True)[1].run()
    assert rows(log) == {one: (1.0, None) if one == ids[2] else (None, "pending") for one in ids}


def test_the_gauge_of_open_decisions_falls_to_zero_when_the_last_one_leaves() -> None:
    log, clock = MemoryLog(), Clock()
    (one,) = decide_some(log, 1)
    decide_some(log, 1)  # the same decision once more: one request is still one
    _, loop, metrics = new_join(log, FEED, clock=clock)
    loop.go_round()
    assert sample(metrics, "penstock_open_decisions", domain="feed") == 1
    log.append(outcome_of(one, 1.0, final=True), topic="outcomes")
    loop.go_round()
    assert sample(metrics, "penstock_open_decisions", domain="feed") == 0


def test_too_many_open_decisions_leave_oldest_first() -> None:
    log, clock = MemoryLog(), Clock()
    ids = decide_some(log, 5)
    join, loop, _ = new_join(log, FEED, clock=clock, max_open=2)
    loop.go_round()
    assert join.open_count == 2
    assert set(rows(log)) == set(ids[:3])


def test_a_decision_that_too_many_others_have_overtaken_leaves() -> None:
    log, clock = MemoryLog(), Clock()
    oldest, *others = decide_some(log, 6)
    for one in others:
        log.append(outcome_of(one, 1.0, final=True), topic="outcomes")
    join, loop, _ = new_join(log, FEED, clock=clock, max_open=3)
    for _ in range(3):
        loop.go_round()
    assert join.open_count == 0
    assert rows(log)[oldest] == (None, "pending")


def test_an_unreadable_outcome_is_a_dead_letter() -> None:
    log, clock = MemoryLog(), Clock()
    log.append(b"not json", topic="outcomes")
    new_join(log, FEED, clock=clock, is_finite=True)[1].run()
    (found,) = documents(log, "dead_letter")
    assert (found["reason"], found["source"]["topic"]) == ("not_json", "outcomes")


@pytest.mark.parametrize(
    ("echo", "reason"),
    [
        (b"{}", "missing_field"),
        (b'{"request_id":"r"}', "missing_field"),
        (b'{"domain":"feed"}', "missing_field"),
        (b'{"request_id":7,"domain":"feed"}', "wrong_type"),
        (b'"text"', "wrong_type"),
    ],
)
def test_a_decision_that_echoes_no_request_is_a_dead_letter_and_the_others_leave(echo: bytes, reason: str) -> None:
    log, clock = MemoryLog(), Clock()
    whole = decision_of(feed(1))
    log.append(whole.replace(to_bytes(feed(1)), echo), topic="decisions")
    ids = decide_some(log, 1)
    _, loop, metrics = new_join(log, FEED, clock=clock, is_finite=True)
    loop.run()
    (found,) = documents(log, "dead_letter")
    assert (found["reason"], found["source"]["topic"], found["source"]["offset"]) == (reason, "decisions", 0)
    assert set(rows(log)) == set(ids)
    assert log.positions("join")["decisions", 0] == 2
    assert sample(metrics, "penstock_outcomes_total", domain="unknown", fate="unreadable") == 1


def test_a_domain_that_the_join_does_not_know_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    log, clock = MemoryLog(), Clock()
    ids = decide_some(log, 1)
    for number in range(3):
        log.append(decision_of(request_of(TASKS, number), choices=(Choice(action="a"),)), topic="decisions")
    log.append(outcome_of("t", 1.0, domain=TASKS.domain), topic="outcomes")
    _, loop, metrics = new_join(log, FEED, clock=clock, is_finite=True)
    with caplog.at_level("WARNING", logger="penstock.serving"):
        loop.run()
    assert set(rows(log)) == set(ids)
    assert sample(metrics, "penstock_outcomes_total", domain="unknown", fate="foreign") == 4
    passed_over = [record for record in caplog.records if record.getMessage() == "pass over domain"]
    assert [record.__dict__["fields"]["domain"] for record in passed_over] == [repr(TASKS.domain)]


def test_a_decision_that_cannot_be_folded_is_a_dead_letter_and_the_others_leave() -> None:
    log, clock = MemoryLog(), Clock()
    decide_some(log, 2)
    log.append(decision_of(feed(2), choices=(Choice(action="elsewhere"),)), topic="decisions")
    new_join(log, FEED, clock=clock, is_finite=True)[1].run()
    (found,) = documents(log, "dead_letter")
    assert (found["reason"], found["request_id"], found["source"]["offset"]) == ("wrong_type", feed(2).request_id, 2)
    assert set(rows(log)) == {feed(0).request_id, feed(1).request_id}


def test_a_repeated_decision_leaves_once_and_a_shadow_not_at_all() -> None:
    log, clock = MemoryLog(), Clock()
    ids = decide_some(log, 2)
    decide_some(log, 2, time=CLOCK_START + 5)
    decide_some(log, 3, role="shadow")
    new_join(log, FEED, clock=clock, is_finite=True)[1].run()
    assert set(rows(log)) == set(ids)


def test_each_slot_has_a_row_and_a_source() -> None:
    log, clock = MemoryLog(), Clock()
    request = request_of(TASKS, 1)
    assert request.slots is not None
    assert request.actions is not None
    names, action = request.slots["id"], sorted(request.actions["id"])[0]
    choices = tuple(Choice(slot=slot, action=action, propensity=1.0) for slot in names)
    log.append(decision_of(request, choices=choices), topic="decisions")
    new_join(log, TASKS, clock=clock, is_finite=True)[1].run()
    found = documents(log, "feedback")
    assert [row["slot"] for row in found] == sorted(names)
    assert {row["source"]["topic"] for row in found} == {"decisions"}


def test_a_finite_input_ends_with_reports_of_the_estimate() -> None:
    log, clock = MemoryLog(), Clock()
    for one in decide_some(log, 40):
        log.append(outcome_of(one, 0.5, final=True), topic="outcomes")
    new_join(log, FEED, clock=clock, is_finite=True)[1].run()
    (report,) = documents(log, "estimate")
    assert (report["domain"], report["reward"], report["open_units"]) == ("feed", "click", 0)
    assert report["estimate"]["value"] == pytest.approx(0.5)
    assert report["estimate"]["row_count"] == 40


@settings(max_examples=25)
@given(
    crash=st.integers(0, 30),
    point=st.sampled_from(["poll", "before_commit", "after_commit"]),
    max_batch=st.integers(1, 6),
    finals=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_a_crash_anywhere_loses_no_decision_and_doubles_no_row(
    crash: int, point: Point, max_batch: int, finals: list[bool]
) -> None:
    log, clock = MemoryLog(), Clock()
    ids = decide_some(log, 5)
    for one, is_final in zip(ids, finals, strict=True):
        log.append(outcome_of(one, 1.0, final=is_final), topic="outcomes")
    passed = 0

    def faults(here: Point) -> None:
        nonlocal passed
        passed += here == point
        if here == point and passed == crash + 1:
            raise CrashError

    try:
        new_join(log, FEED, clock=clock, is_finite=True, max_batch=max_batch, faults=faults)[1].run()
    except CrashError:
        new_join(log, FEED, clock=clock, is_finite=True, max_batch=max_batch)[1].run()
    assert rows(log) == dict.fromkeys(ids, (1.0, None))
