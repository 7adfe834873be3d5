import json
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from policies.events import Fault
from serving import pipeline as module
from serving.catalogue import Lineup
from serving.decide import decide
from serving.transport.memory import MemoryLog, MemoryTransport, Point
from tests.contracts.transport_suite import CrashError
from tests.helpers.domains import ad_load
from tests.helpers.lineups import lineup
from tests.helpers.streams import Clock, decide_log, documents, new_loop, new_metrics, new_pipeline, sample

BAD = [b"not json", b'{"schema_version": 99}', b'{"domain": "ad_load"}', b""]


@pytest.fixture(scope="module")
def shop() -> Lineup:
    return lineup("ad_load")


def log_of(values: list[bytes], *, partition_count: int = 1) -> MemoryLog:
    log = MemoryLog(partition_count=partition_count)
    for number, value in enumerate(values):
        log.append(value, partition=number % partition_count)
    return log


def changed(value: bytes, **fields: Any) -> bytes:
    return msgspec.json.encode(json.loads(value) | fields)


def said(log: MemoryLog) -> dict[tuple[int, int], Any]:
    """Return what was decided of each message, without the time."""
    found = {}
    for kind in ("decision", "dead_letter"):
        for document in documents(log, kind):
            source = document["source"]
            found[source["partition"], source["offset"]] = {k: v for k, v in document.items() if k != "time"}
    return found


def test_good_and_bad_messages_each_end_in_one_result(shop: Lineup) -> None:
    values = [*ad_load().messages(20), *BAD]
    log = log_of(values)
    totals = decide_log(log, shop, max_batch=7).totals
    assert set(said(log)) == {(0, offset) for offset in range(len(values))}
    assert totals["ad_load", "decision", ""] == 20
    assert sum(totals.values()) == len(values)
    assert Counter(d["reason"] for d in documents(log, "dead_letter")) == {
        reason: count for (_, kind, reason), count in totals.items() if kind == "dead_letter"
    }


def test_batches_partitions_and_restarts_do_not_change_a_decision(shop: Lineup) -> None:
    values = [*ad_load().messages(15), *BAD, changed(ad_load().messages(1)[0], step=7)]
    whole = log_of(values)
    decide_log(whole, shop)
    for size in (1, 2, 5):
        log = log_of(values)
        decide_log(log, shop, max_batch=size)
        assert said(log) == said(whole)


@pytest.mark.parametrize("point", ["poll", "before_commit", "after_commit"])
@pytest.mark.parametrize("life", range(4))
def test_a_crash_at_any_commit_loses_and_doubles_nothing(shop: Lineup, point: Point, life: int) -> None:
    messages = ad_load().messages(9)
    values = [*messages, messages[1], changed(messages[2], step=9), *BAD]
    whole = log_of(values)
    decide_log(whole, shop, max_batch=4)
    log, passed, clock, metrics = log_of(values), Counter[str](), Clock(), new_metrics()

    def crash(here: Point) -> None:
        passed[here] += 1
        if here == point and passed[here] == life + 1:
            raise CrashError

    transport = MemoryTransport(log, max_batch=4, faults=crash)
    pipeline = new_pipeline(transport, shop, clock=clock, metrics=metrics)
    with pytest.raises(CrashError):
        new_loop(transport, pipeline, clock=clock, metrics=metrics).run()
    decide_log(log, shop, max_batch=4)
    assert said(log) == said(whole)
    assert len(log.results("decision")) + len(log.results("dead_letter")) == len(values)


def test_the_same_bytes_again_get_the_same_decision_and_are_counted(shop: Lineup) -> None:
    first = ad_load().messages(1)[0]
    log, clock, metrics = log_of([first, first]), Clock(), new_metrics()
    transport = MemoryTransport(log, max_batch=1)
    new_loop(transport, new_pipeline(transport, shop, clock=clock, metrics=metrics), clock=clock, metrics=metrics).run()
    one, two = documents(log, "decision")
    assert one["choices"] == two["choices"]
    assert sample(metrics, "penstock_duplicate_requests_total") == 1


def test_other_bytes_under_the_same_id_are_a_dead_letter_also_after_a_restart(shop: Lineup) -> None:
    first = ad_load().messages(1)[0]
    log = log_of([first, changed(first, step=1)])
    decide_log(log, shop)
    log.append(changed(first, step=2))
    decide_log(log, shop)
    letters = documents(log, "dead_letter")
    assert [(d["reason"], d["source"]["offset"]) for d in letters] == [
        ("duplicate_conflict", 1),
        ("duplicate_conflict", 2),
    ]
    assert len(documents(log, "decision")) == 1


def test_a_conflicting_request_leaves_no_decision_of_the_shadow_either(shop: Lineup) -> None:
    first = ad_load().messages(1)[0]
    shadowed = replace(shop.domains["ad_load"], shadow=replace(shop.domains["ad_load"].live, role="shadow"))
    log = log_of([first, changed(first, step=1)])
    totals = decide_log(log, replace(shop, domains={"ad_load": shadowed})).totals
    assert [document["source"]["offset"] for document in documents(log, "shadow")] == [0]
    assert totals["ad_load", "shadow", ""] == 1


def test_a_request_that_was_refused_may_be_mended_and_sent_again(shop: Lineup) -> None:
    good = ad_load().messages(1)[0]
    log = log_of([changed(good, fields={}), good])
    totals = decide_log(log, shop).totals
    assert totals["ad_load", "decision", ""] == 1
    assert totals["ad_load", "dead_letter", "missing_field"] == 1


def test_a_rewound_batch_is_no_duplicate_of_itself(shop: Lineup) -> None:
    troubles = iter(["away"])

    def faults(point: Point) -> str | None:
        return next(troubles, None) if point == "before_commit" else None

    log, clock, metrics = log_of(ad_load().messages(3)), Clock(), new_metrics()
    transport = MemoryTransport(log, faults=faults)
    pipeline = new_pipeline(transport, shop, clock=clock, metrics=metrics)
    new_loop(transport, pipeline, clock=clock, metrics=metrics).run()
    assert sample(metrics, "penstock_duplicate_requests_total") == 0
    assert pipeline.totals == {("ad_load", "decision", ""): 3}


def test_a_new_catalogue_is_looked_for_while_no_messages_come(shop: Lineup) -> None:
    class Counting:
        asked = 0

        def current(self) -> Lineup:
            self.asked += 1
            return shop

    lineups, clock = Counting(), Clock()
    transport = MemoryTransport(log_of([]))
    pipeline = module.Pipeline(transport, lineups=lineups, now=clock.microseconds, seconds=clock, metrics=new_metrics())
    assert pipeline.answer(transport.poll()) == ((), None)
    assert lineups.asked == 1


def test_a_passed_deadline_is_counted_as_a_fallback_with_its_reason(shop: Lineup) -> None:
    late = changed(ad_load().messages(1)[0], deadline=1)
    assert decide_log(log_of([late]), shop).totals == {("ad_load", "fallback", "deadline"): 1}


def test_a_decision_that_grows_too_large_is_a_dead_letter_and_not_remembered(
    shop: Lineup, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ad_load().messages(1)[0]
    monkeypatch.setattr("serving.record.MAX_RESULT_BYTES", len(first) + 20)
    log = log_of([first])
    assert decide_log(log, shop).totals == {("ad_load", "dead_letter", "oversize"): 1}
    monkeypatch.undo()
    log.append(changed(first, step=3))
    assert decide_log(log, shop).totals == {("ad_load", "decision", ""): 1}


def test_a_defect_ends_the_loop_and_names_the_message_that_causes_it(
    shop: Lineup, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = ad_load().messages(5)
    poison = json.loads(values[3])["request_id"]
    lines: list[dict[str, Any]] = []

    def break_on_poison(received: Any, lineup: Lineup, *, now: int) -> Any:
        if any(request.request_id == poison for request in received.requests):
            raise ZeroDivisionError
        return decide(received, lineup, now=now)

    monkeypatch.setattr(module, "decide", break_on_poison)
    monkeypatch.setattr(module, "log", lambda event, **fields: lines.append({"event": event, **fields}))
    log = log_of(values)
    with pytest.raises(ZeroDivisionError):
        decide_log(log, shop)
    assert log.results("decision") == log.results("dead_letter") == ()
    assert [line["poison"] for line in lines if line["event"] == "abandon batch"] == ["requests/0@3"]


def test_three_partitions_remember_their_own_requests(shop: Lineup) -> None:
    values = ad_load().messages(9)
    log = log_of([*values, *values], partition_count=3)
    clock, metrics = Clock(), new_metrics()
    transport = MemoryTransport(log, max_batch=5)
    pipeline = new_pipeline(transport, shop, clock=clock, metrics=metrics)
    new_loop(transport, pipeline, clock=clock, metrics=metrics).run()
    assert sample(metrics, "penstock_duplicate_requests_total") == 9
    assert pipeline.totals == {("ad_load", "decision", ""): 18}
    assert not any(isinstance(value, Fault) for value in said(log).values())
