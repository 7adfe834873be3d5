"""Quantities that cannot be made feasible fall back, or end as a fault of their own."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from policies.encode import Encoder
from policies.events import Fault
from policies.recourse.contract import Applied
from policies.spec import Output
from serving.quantities import fall_back, propose_quantities
from serving.ruling import Part, Ruling
from tests.helpers.domains import WORKLOADS


class _Picky:
    """Finds nothing feasible above a limit."""

    kind = "picky"
    outputs: tuple[Output, ...] = (Output(name="sum"),)

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def apply(
        self,
        proposed: NDArray[np.float64],
        *,
        parameters: Mapping[str, NDArray[Any]],
        seeds: NDArray[np.uint64] | None = None,
    ) -> Applied:
        totals = proposed.sum(axis=1)
        faults = {row: f"{total} is too much" for row, total in enumerate(totals.tolist()) if total > self._limit}
        return Applied(values=proposed, status=("kept",) * len(proposed), outputs={"sum": totals}, faults=faults)


def _part(count: int, **actions: Any) -> Part:
    workload = WORKLOADS["inventory"]()
    spec = msgspec.structs.replace(
        workload.spec, actions=msgspec.structs.replace(workload.spec.actions, **actions), recourse=None
    )
    requests = [workload.request(number) for number in range(count)]
    (bucket,) = Encoder(spec).encode_requests(requests).buckets
    return Part(spec, bucket, requests)


def test_an_infeasible_row_takes_the_fallback_and_says_so() -> None:
    proposal = np.array([[1.0, 2.0, 3.0], [100.0, 100.0, 100.0]])
    kept, fallen = propose_quantities(_part(2), proposal, _Picky(50))
    assert isinstance(kept, Ruling)
    assert isinstance(fallen, Ruling)
    assert (kept.fallback, fallen.fallback) == (None, "recourse_infeasible")
    assert fallen.choices[0].action == [0.0, 0.0, 0.0]
    assert fallen.recourse is not None
    assert fallen.recourse.outputs == {"sum": 0.0}


def test_where_the_fallback_is_infeasible_too_the_request_ends_as_a_fault_with_the_detail() -> None:
    (found,) = propose_quantities(_part(1), np.array([[100.0, 100.0, 100.0]]), _Picky(-1))
    assert found == Fault("recourse_infeasible", "300.0 is too much")


def test_without_a_fallback_an_infeasible_row_is_a_fault() -> None:
    (found,) = propose_quantities(_part(1, fallback=None), np.array([[100.0, 100.0, 100.0]]), _Picky(50))
    assert found == Fault("recourse_infeasible", "300.0 is too much")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_proposal_that_is_not_finite_is_a_fault_of_its_row(bad: float) -> None:
    sound, unsound = propose_quantities(_part(2), np.array([[1.0, 2.0, 3.0], [bad, 0.0, 0.0]]), None)
    assert isinstance(sound, Ruling)
    assert isinstance(unsound, Fault)
    assert unsound.reason == "policy_not_finite"


def test_a_fallback_without_recourse_is_the_constant_itself() -> None:
    found = fall_back(_part(1, fallback=(1.0, 2.0, 3.0)), 0, "kill", None)
    assert isinstance(found, Ruling)
    assert (found.choices[0].action, found.fallback, found.recourse) == ([1.0, 2.0, 3.0], "kill", None)
