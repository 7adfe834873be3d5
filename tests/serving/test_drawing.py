"""Rows of all buckets are drawn in one pass, and none sees another."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policies.encode import Encoder
from policies.events import Fault
from serving.drawing import draw_choices
from serving.ruling import Part, Ruling
from tests.helpers.domains import WORKLOADS


def _parts(domain: str, count: int) -> list[Part]:
    workload = WORKLOADS[domain]()
    requests = [workload.request(number) for number in range(count)]
    buckets = Encoder(workload.spec).encode_requests(requests).buckets
    return [Part(workload.spec, bucket, [requests[row] for row in bucket.rows.tolist()]) for bucket in buckets]


def _uniform(parts: Sequence[Part]) -> list[NDArray[np.float64]]:
    return [part.bucket.mask / np.maximum(part.bucket.mask.sum(axis=2, keepdims=True), 1) for part in parts]


def test_buckets_of_other_sizes_change_nothing() -> None:
    parts = _parts("payments", 60)
    assert len(parts) > 1
    together = list(draw_choices(parts, _uniform(parts), salt=b"s"))
    apart = [next(draw_choices([part], _uniform([part]), salt=b"s")) for part in parts]
    assert together == apart


def test_no_part_gives_no_rulings() -> None:
    assert list(draw_choices([], [], salt=b"")) == []


def test_one_unsound_slot_makes_its_request_a_fault_and_no_other() -> None:
    parts = _parts("iot_scheduling", 30)
    proposals = _uniform(parts)
    place = next(n for n, part in enumerate(parts) if part.bucket.mask.shape[1] > 1)
    proposals[place][0, 1, 0] = np.nan

    rulings = list(draw_choices(parts, proposals, salt=b""))

    assert isinstance(rulings[place][0], Fault)
    others = [ruling for part in rulings for ruling in part][:]
    assert sum(isinstance(ruling, Fault) for ruling in others) == 1
    assert all(isinstance(ruling, Ruling) for ruling in rulings[place][1:])
