from dataclasses import replace

import numpy as np
import pytest
import torch

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.exactness import exactness
from optimizer.hydrothermal.operate import Operation, operate
from optimizer.hydrothermal.problem import HydrothermalProblem
from optimizer.hydrothermal.vertices import DualVertices
from tests.helpers.hydrothermal_policies import STAGES, random_network, with_history
from tests.helpers.small_case import small_stage


def _operated(*, paths: int, seed: int) -> tuple[Operation, Floats, Floats]:
    """Return what HiGHS says of a random policy's paths, with their volumes and inflows."""
    problem = HydrothermalProblem(small_stage(), stages=STAGES, dtype=torch.float64)
    scenarios = problem.scenarios(paths, split="test", seed=seed)
    volumes = with_history(problem.propose(random_network(seed=1), scenarios), small_stage())
    inflow = scenarios.inflow.numpy()
    return operate(small_stage(), volumes, inflow_BTR=inflow), volumes, inflow


def _audited(*, paths: int) -> DualVertices:
    _, volumes, inflow = _operated(paths=paths, seed=1)
    release = small_stage().water(volumes[:, :-1], inflow_BR=inflow) - volumes[:, 1:]
    vertices = DualVertices(small_stage())
    points = release.reshape(-1, small_stage().reservoirs)
    vertices.audit(points, periods=np.zeros(len(points), np.int32))
    return vertices


def test_certified_stages_cost_what_highs_says_soft_volumes_of_the_last_stage_included() -> None:
    operation, volumes, inflow = _operated(paths=8, seed=2)
    found = exactness(_audited(paths=8), operation, volume_BTR=volumes, inflow_BTR=inflow)
    assert 0.9 < found.certified_share <= 1.0
    assert found.certified_largest_gap <= 1e-9


def test_what_is_not_certified_may_be_a_miss_and_its_size_is_told() -> None:
    operation, volumes, inflow = _operated(paths=8, seed=2)
    found = exactness(_audited(paths=1), operation, volume_BTR=volumes, inflow_BTR=inflow)
    assert found.certified_share < 1.0
    assert found.uncertified_largest_gap > 1e-6
    assert found.certified_largest_gap <= 1e-9


@pytest.mark.parametrize("share", [-1e-3, 1e-3])
def test_a_judge_who_says_otherwise_is_told(share: float) -> None:
    operation, volumes, inflow = _operated(paths=2, seed=2)
    other = replace(operation, cost=operation.cost * (1.0 + share))
    found = exactness(_audited(paths=8), other, volume_BTR=volumes, inflow_BTR=inflow)
    assert found.certified_largest_gap == pytest.approx(1e-3, rel=0.01)
