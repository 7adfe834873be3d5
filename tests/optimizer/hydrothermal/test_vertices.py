import numpy as np
import pytest
import torch

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.problem import HydrothermalProblem
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.hydrothermal.vertices import DualVertices, UnableToCache, release_program, violation_cost
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.signs import dual_objective
from tests.helpers.hydrothermal_policies import random_network, small_problem, with_history
from tests.helpers.small_case import small_stage


def _releases(arrays: StageArrays, *, count: int, seed: int) -> Floats:
    """Return net releases that a random policy leads to, float64 [M, R]."""
    problem = HydrothermalProblem(arrays, stages=12, dtype=torch.float64)
    scenarios = problem.scenarios(count, split="test", seed=seed)
    targets = problem.propose(random_network(seed=seed, case=arrays.case), scenarios)
    volumes = with_history(targets, arrays)
    released = arrays.water(volumes[:, :-1], inflow_BR=scenarios.inflow.numpy()) - volumes[:, 1:]
    return released.reshape(-1, arrays.reservoirs)


def _by_highs(arrays: StageArrays, releases: Floats) -> Floats:
    solver = WarmSolver(release_program(arrays), moved_rows=arrays.water_rows)
    return np.array([solver.solve(release) for release in releases])


def test_the_cache_never_says_more_than_the_stage_costs() -> None:
    arrays, vertices = small_stage(), DualVertices(small_stage())
    known, fresh = _releases(arrays, count=2, seed=1), _releases(arrays, count=6, seed=2)
    vertices.audit(known, periods=np.zeros(len(known), np.int32))
    cost = _by_highs(arrays, fresh)
    bound = vertices.evaluate(torch.tensor(fresh), period=0)[0].numpy()
    assert (bound <= cost * (1.0 + 1e-9) + 1e-7).all()


def test_the_cache_is_exact_where_it_has_been_audited() -> None:
    arrays, vertices = small_stage(), DualVertices(small_stage())
    points = _releases(arrays, count=4, seed=3)
    nowhere = np.zeros(len(points), np.int32)
    first = vertices.audit(points, periods=nowhere)
    assert (first.misses, first.added) == (len(points), vertices.size)
    again = vertices.audit(points, periods=nowhere)
    assert (again.points, again.misses, again.added) == (len(points), 0, 0)
    bound = vertices.evaluate(torch.tensor(points), period=0)[0].numpy()
    np.testing.assert_allclose(bound, _by_highs(arrays, points), rtol=1e-9)


def test_few_vertices_hold_for_many_stages() -> None:
    vertices = DualVertices(small_stage())
    points = _releases(small_stage(), count=12, seed=4)
    vertices.audit(points, periods=np.zeros(len(points), np.int32))
    assert vertices.size < len(points) / 3


def test_a_miss_is_counted_with_its_share() -> None:
    arrays, vertices = small_stage(), DualVertices(small_stage())
    points = _releases(arrays, count=6, seed=5)
    vertices.audit(points[:1], periods=np.zeros(1, np.int32))
    bound = vertices.evaluate(torch.tensor(points), period=0)[0].numpy()
    cost = _by_highs(arrays, points)
    gap = (cost - bound) / np.maximum(np.abs(cost), 1.0)
    found = vertices.audit(points, periods=np.zeros(len(points), np.int32))
    assert found.misses == int((gap > 1e-6).sum()) > 0
    assert found.largest_gap == pytest.approx(gap.max(), rel=1e-6)
    assert vertices.misses == 1 + found.misses


def test_every_vertex_is_a_proof_by_weak_duality() -> None:
    """At any release, the dual objective that the program's own bounds give is the vertex's value there."""
    arrays, vertices = small_stage(), small_problem().vertices
    release = _releases(arrays, count=1, seed=6)[3]
    program = release_program(arrays)
    lower, upper = program.row_lower.copy(), program.row_upper.copy()
    lower[arrays.water_rows] = upper[arrays.water_rows] = release
    moved = program.with_rows(lower, upper)
    for dual, intercept in zip(vertices.duals, vertices.intercepts[:, 0], strict=True):
        value = intercept + dual[arrays.water_rows] @ release
        assert value == pytest.approx(dual_objective(moved, dual, tolerance=1e-2), rel=1e-9, abs=1e-6)


def test_the_gradient_is_that_of_the_stage_away_from_kinks() -> None:
    arrays, vertices = small_stage(), small_problem().vertices
    points = _releases(arrays, count=2, seed=7)
    vertices.audit(points, periods=np.zeros(len(points), np.int32))
    value, slope = vertices.evaluate(torch.tensor(points), period=0)
    solver = WarmSolver(release_program(arrays), moved_rows=arrays.water_rows)
    smooth = 0
    for point, at, gradient in zip(points, value.tolist(), slope.numpy(), strict=True):
        direction, step = np.ones(arrays.reservoirs), 1e-5
        ahead, behind = solver.solve(point + step * direction), solver.solve(point - step * direction)
        if abs(ahead + behind - 2.0 * at) < 1e-8 * max(at, 1.0):
            smooth += 1
            assert (ahead - behind) / (2.0 * step) == pytest.approx(gradient @ direction, abs=1e-3)
    assert smooth >= 12


def test_another_load_moves_the_intercepts_and_leaves_the_bounds_valid() -> None:
    lighter = load_case_with(0.8)
    vertices = DualVertices(lighter)
    vertices.restore(small_problem().vertices.duals)
    points = _releases(lighter, count=4, seed=8)
    bound = vertices.evaluate(torch.tensor(points), period=0)[0].numpy()
    cost = _by_highs(lighter, points)
    assert (bound <= cost * (1.0 + 1e-9) + 1e-7).all()
    assert (bound >= 0.99 * cost).mean() > 0.8


def load_case_with(load_scale: float) -> StageArrays:
    from optimizer.hydrothermal.data import SMALL_CASE_HOURS, small_case_folder

    return compile_stage(load_case(small_case_folder(), stage_hours=SMALL_CASE_HOURS, load_scale=load_scale))


def test_a_dual_that_is_not_feasible_is_refused() -> None:
    vertices = DualVertices(small_stage())
    with pytest.raises(UnableToCache, match="expected a feasible dual at a restored vertex"):
        vertices.restore(np.full((1, vertices.duals.shape[1]), -1e6))


def test_a_cache_of_another_program_is_refused() -> None:
    with pytest.raises(UnableToCache, match="expected duals of"):
        DualVertices(small_stage()).restore(np.zeros((1, 2)))


def test_an_audit_finds_the_same_whatever_was_solved_before() -> None:
    points = _releases(small_stage(), count=3, seed=9)
    nowhere = np.zeros(len(points), np.int32)
    fresh, used = DualVertices(small_stage()), DualVertices(small_stage())
    used.audit(points[::-1][:5], periods=nowhere[:5])
    used.restore(fresh.duals)
    fresh.audit(points, periods=nowhere)
    used.audit(points, periods=nowhere)
    np.testing.assert_array_equal(fresh.duals, used.duals)


def test_a_volume_below_its_soft_bound_costs_what_lacks() -> None:
    volume = torch.tensor([[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 6.0]], dtype=torch.float64)
    lake = small_stage().case.hydros[3]
    assert violation_cost(small_stage(), volume, is_last=False).tolist() == [0.5 * lake.volume_violation_cost, 0.0]
    assert violation_cost(small_stage(), volume, is_last=True).tolist() == [4.0 * lake.volume_violation_cost, 0.0]
