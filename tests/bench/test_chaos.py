from collections import Counter

from bench.chaos import messages
from bench.chaos_schedule import WORKERS, draw
from tests.helpers.kafka_judge import Verdict, verdict


def test_a_seed_draws_one_schedule_and_another_seed_another() -> None:
    assert draw(1, span_s=20.0) == draw(1, span_s=20.0)
    assert draw(1, span_s=20.0) != draw(2, span_s=20.0)


def test_a_schedule_is_in_order_and_each_window_closes() -> None:
    for seed in range(50):
        steps = draw(seed, span_s=20.0)
        events = Counter(step.event for step in steps)
        assert [step.at_s for step in steps] == sorted(step.at_s for step in steps)
        assert events["faults"] == events["calm"]
        assert events["join"] == events["leave"] == 1
        assert {step.worker for step in steps if step.event in ("kill", "pause")} <= set(WORKERS)


def test_a_request_without_a_result_is_missing_and_a_second_result_is_double() -> None:
    found = verdict(Counter({(0, 0): 1, (0, 1): 3, (1, 0): 1}), ends={0: 4, 1: 1})
    assert found == Verdict(requests=5, results=5, missing=2, double=2)
    assert not found.is_clean


def test_a_result_of_no_request_is_double() -> None:
    assert verdict(Counter({(0, 0): 1, (0, 7): 1}), ends={0: 1}).double == 1


def test_requests_hold_poison_duplicates_and_oversize() -> None:
    found = messages(400, seed=1)
    assert len(found) == 400
    assert messages(400, seed=1) == found
    assert max(map(len, found)) > 524_288
    assert len(set(found)) < 400
