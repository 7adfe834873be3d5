from dataclasses import replace

import numpy as np
import pytest

from bench import hydrothermal_decide
from bench.hydrothermal_decide import BenchFailed, Workload, make_workload, measure, show
from policies.events import DecisionRequest, from_bytes
from tests.helpers.small_case import small_case
from tests.helpers.small_judged import STAGES, artifact_keeping


def workload(*, share: float = 0.0, count: int = 12) -> Workload:
    return make_workload(small_case(), artifact_keeping(share), stages=STAGES, count=count)


def test_requests_are_the_stages_of_some_scenarios_each_once() -> None:
    requests = [from_bytes(line, DecisionRequest) for line in workload().messages]
    assert [one.step for one in requests] == [*range(STAGES), *range(12 - STAGES)]
    assert len({one.request_id for one in requests}) == 12


def test_all_is_measured_and_all_ways_of_solving_find_the_same_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydrothermal_decide, "BY_HAND", 3)
    found = measure(workload())
    assert (found["requests"], found["numbers_per_decision"]) == (12, 33)
    assert set(found["us_per_decision"]) == set(found["split_us"]) == {"1", "16", "256"}
    assert all(value > 0 for value in found["us_per_decision"].values())
    assert found["alone_us"]["p50"] <= found["alone_us"]["p99"] <= found["alone_us"]["max"]
    assert all(parts["recourse, HiGHS"] > 0 and parts["encode"] > 0 for parts in found["split_us"].values())
    assert all(value > 0 for value in found["solves_us"].values())
    assert "12 requests" in show(found)


def test_another_program_than_the_served_one_fails_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydrothermal_decide, "BY_HAND", 3)
    asked = workload()
    dearer = replace(asked.case, generators=tuple(replace(one, cost=2.0 * one.cost) for one in asked.case.generators))
    with pytest.raises(BenchFailed, match="Pyomo finds the least cost"):
        measure(replace(asked, case=dearer))


def test_a_request_that_is_not_decided_fails_the_bench() -> None:
    asked = workload()
    request = asked.messages[3].replace(b'"volume":', b'"volumes":')
    with pytest.raises(BenchFailed, match=r"expected 12 decisions at an optimum, found \{'optimal': 11\}"):
        measure(replace(asked, messages=[*asked.messages[:3], request, *asked.messages[4:]]))


def test_shares_of_few_turns_are_of_those_there_are() -> None:
    assert hydrothermal_decide._shares(np.array([1.0, 2.0, 4.0]).tolist()) == {"p50": 2, "p99": 4, "max": 4}
    assert hydrothermal_decide._shares([]) == {}
