from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from optimizer.hydrothermal.affine import UnableToUseBasis
from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.problem import HydrothermalProblem
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.hydrothermal.vertices import Audit, Counts, DualVertices, UnableToCache, release_program, violation_cost
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import Integers
from optimizer.solvers.signs import dual_objective
from tests.helpers.hydrothermal_policies import random_network, small_problem, with_history
from tests.helpers.small_case import small_stage


def _releases(arrays: StageArrays, *, count: int, seed: int, paths_seed: int | None = None) -> Floats:
    """Return net releases that a random policy leads to, float64 [M, R]."""
    problem = HydrothermalProblem(arrays, stages=12, dtype=torch.float64)
    scenarios = problem.scenarios(count, split="test", seed=seed if paths_seed is None else paths_seed)
    targets = problem.propose(random_network(seed=seed, case=arrays.case), scenarios)
    volumes = with_history(targets, arrays)
    released = arrays.water(volumes[:, :-1], inflow_BR=scenarios.inflow.numpy()) - volumes[:, 1:]
    return released.reshape(-1, arrays.reservoirs)


def _by_highs(arrays: StageArrays, releases: Floats, *, period: int = 0) -> Floats:
    solver = WarmSolver(release_program(arrays, period=period), moved_rows=arrays.water_rows)
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
    assert (again.counts.points, again.misses, again.added) == (len(points), 0, 0)
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
    assert vertices.counts.misses == 1 + found.misses


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
    np.testing.assert_array_equal(fresh.bases.statuses, used.bases.statuses)


def _audited(arrays: StageArrays, *, count: int, seed: int) -> DualVertices:
    """Return a cache that has been audited on a random policy's paths of one seed."""
    vertices = DualVertices(arrays)
    points = _releases(arrays, count=count, seed=seed)
    vertices.audit(points, periods=_periods(arrays, points))
    return vertices


def _periods(arrays: StageArrays, points: Floats) -> Integers:
    periods: Integers = (np.arange(len(points)) % 12 % arrays.case.load.shape[0]).astype(np.int32)
    return periods


def _certified(vertices: DualVertices, points: Floats) -> NDArray[np.bool_]:
    return vertices._certified(points, _periods(vertices.arrays, points))


def _assert_certificates_hold(arrays: StageArrays, *, least: float, seed: int, count: int) -> None:
    """Audit paths of a policy, certify fresh ones of it and of another, and hold both to HiGHS."""
    vertices = _audited(arrays, count=count, seed=seed)
    for fresh, is_same in ((_releases(arrays, count=count, seed=seed + 1), False), (_again(arrays, count, seed), True)):
        certified, periods = _certified(vertices, fresh), _periods(arrays, fresh)
        for period in np.unique(periods).tolist():
            here = periods == period
            cost = _by_highs(arrays, fresh[here], period=period)
            bound = vertices.evaluate(torch.tensor(fresh[here]), period=period)[0].numpy()
            gap = np.abs(cost - bound) / np.maximum(np.abs(cost), 1.0)
            assert gap[certified[here]].max(initial=0.0) <= 1e-7
        assert not is_same or certified.mean() > least


def _again(arrays: StageArrays, count: int, seed: int) -> Floats:
    """Return fresh paths of the policy that `_releases` draws from a seed."""
    return _releases(arrays, count=count, seed=seed, paths_seed=seed + 1000)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_certified_costs_what_highs_says(seed: int) -> None:
    _assert_certificates_hold(small_stage(), least=0.9, seed=seed, count=12)


@pytest.mark.parametrize(
    ("folder", "stage_hours", "least"),
    [("hydropowermodels/case3", 1.0, 0.9), ("bolivia", 168.0, 0.4), ("msppy_brazil", 730.0, 0.1)],
)
def test_what_is_certified_costs_what_highs_says_on_published_cases(
    folder: str, stage_hours: float, least: float, shared_data: Path
) -> None:
    case = load_case(shared_data / "hydrothermal" / folder, stage_hours=stage_hours)
    _assert_certificates_hold(compile_stage(case), least=least, seed=4, count=8)


def test_at_what_is_certified_the_gradient_is_a_subgradient_and_in_the_interior_the_derivative() -> None:
    arrays = small_stage()
    vertices, points, step = _audited(arrays, count=12, seed=5), _again(arrays, 4, 5), 1e-5
    release = torch.tensor(points)
    gradient = vertices.evaluate(release, period=0)[1].numpy()
    certified, interior = vertices.certify(release, period=0).numpy(), 0
    for direction in np.vstack([np.eye(arrays.reservoirs), np.ones(arrays.reservoirs)]):
        ends = [points + sign * step * direction for sign in (1.0, -1.0)]
        ahead, behind = (_by_highs(arrays, end) for end in ends)
        here, along = _by_highs(arrays, points), gradient @ direction
        for end, sign in ((ahead, 1.0), (behind, -1.0)):
            assert (end >= here + sign * step * along - 1e-7 * np.abs(here))[certified].all()
        same = [(vertices.evaluate(torch.tensor(end), period=0)[1].numpy() == gradient).all(axis=1) for end in ends]
        is_inside = certified & same[0] & same[1] & _certified(vertices, ends[0]) & _certified(vertices, ends[1])
        interior += int(is_inside.sum())
        np.testing.assert_allclose(((ahead - behind) / (2.0 * step))[is_inside], along[is_inside], atol=1e-3)
    assert interior > 0.8 * len(points) * (arrays.reservoirs + 1)


@pytest.mark.parametrize("moved", [-0.5, 0.5])
def test_a_planted_wrong_vertex_is_not_certified(moved: float) -> None:
    vertices, points = _audited(small_stage(), count=6, seed=6), _again(small_stage(), 3, 6)
    assert _certified(vertices, points).mean() > 0.8
    vertices.intercepts = vertices.intercepts + moved
    vertices._tensors = {}
    assert not _certified(vertices, points).any()


def test_a_planted_wrong_basis_is_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(solver: WarmSolver) -> NDArray[np.int8]:
        statuses = honest(solver)
        return statuses[::-1].copy()

    honest = WarmSolver.statuses
    monkeypatch.setattr(WarmSolver, "statuses", swapped)
    vertices = _audited(small_stage(), count=2, seed=7)
    assert (vertices.bases.size, vertices.counts.refused) == (0, vertices.counts.solved)
    assert not _certified(vertices, _releases(small_stage(), count=2, seed=7)).any()


def test_only_what_is_not_certified_is_solved_and_no_more_than_is_allowed() -> None:
    vertices = _audited(small_stage(), count=1, seed=8)
    points = _releases(small_stage(), count=30, seed=9)
    unproven = int((~_certified(vertices, points)).sum())
    found = vertices.audit(points, periods=_periods(small_stage(), points), solve_at_most=unproven - 3).counts
    assert (found.points, found.certified, found.solved) == (len(points), len(points) - unproven, unproven - 3)
    assert found.misses <= found.solved


def test_restored_bases_certify_the_same_and_wrong_ones_are_refused() -> None:
    vertices, fresh = _audited(small_stage(), count=6, seed=10), _releases(small_stage(), count=8, seed=11)
    other = DualVertices(small_stage())
    statuses = vertices.bases.statuses
    other.restore(vertices.duals, statuses=statuses, counts=vertices.counts)
    assert other.counts == vertices.counts
    np.testing.assert_array_equal(other.bases.statuses, statuses)
    np.testing.assert_array_equal(_certified(other, fresh), _certified(vertices, fresh))
    with pytest.raises(UnableToUseBasis, match="restored basis 0"):
        other.restore(vertices.duals, statuses=np.zeros_like(statuses))


def test_an_empty_cache_certifies_nothing() -> None:
    assert not DualVertices(small_stage()).certify(torch.zeros((2, 4), dtype=torch.float64), period=0).any()


def test_a_volume_below_its_soft_bound_costs_what_lacks() -> None:
    volume = torch.tensor([[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 6.0]], dtype=torch.float64)
    lake = small_stage().case.hydros[3]
    assert violation_cost(small_stage(), volume, is_last=False).tolist() == [0.5 * lake.volume_violation_cost, 0.0]
    assert violation_cost(small_stage(), volume, is_last=True).tolist() == [4.0 * lake.volume_violation_cost, 0.0]


def test_the_share_that_is_missing_counts_what_was_not_solved_like_what_was() -> None:
    counts = Counts(points=100, certified=60, solved=10, misses=2)
    assert Audit(counts=counts, added=1, largest_gap=0.1).missing_share == pytest.approx(0.08)
    assert Audit(counts=Counts(points=5, certified=5), added=0, largest_gap=0.0).missing_share == 0.0


def test_bases_are_kept_no_longer_where_they_certify_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizer.hydrothermal.vertices.FEW_BASES", 3)
    vertices, points = DualVertices(small_stage()), _releases(small_stage(), count=6, seed=12)
    vertices.audit(points[:4], periods=np.zeros(4, np.int32))
    kept = vertices.bases.size
    assert kept >= 3
    unknown = points[~_certified(vertices, points)]
    found = vertices.audit(unknown, periods=np.zeros(len(unknown), np.int32))
    assert found.added > 0
    assert (vertices.bases.size, found.counts.refused) == (kept, 0)
    assert all(type(count) is int for count in astuple(found.counts))
    mixed = np.vstack([points[:4], points[:4], unknown[:3]])
    assert vertices.audit(mixed, periods=np.zeros(11, np.int32)).counts.certified == 8
    assert vertices.bases.size > kept
