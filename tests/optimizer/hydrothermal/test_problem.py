import numpy as np
import pytest
import torch

from optimizer.hydrothermal.operate import operate
from optimizer.hydrothermal.problem import HydrothermalProblem, stratified, stratified_normals
from tests.helpers.hydrothermal_policies import STAGES, random_network, small_problem, with_history
from tests.helpers.small_case import small_case, small_stage, table_of


def test_the_same_arguments_draw_the_same_paths_and_splits_differ() -> None:
    problem = small_problem()
    one, again = (problem.scenarios(3, split="train", seed=4).inflow for _ in range(2))
    assert torch.equal(one, again)
    others = [problem.scenarios(3, split="validation", seed=4), problem.scenarios(3, split="train", seed=5)]
    assert all(not torch.equal(one, other.inflow) for other in others)


def test_each_scenario_is_drawn_as_often_as_its_probability_says() -> None:
    table, count = table_of(small_case()), 60
    drawn = stratified(table, count, stages=table.periods, generator=np.random.default_rng(1))
    counts = np.stack([(drawn == scenario).sum(axis=1) for scenario in range(table.scenarios)], axis=1)
    assert np.abs(counts - count * table.probability).max() < 2.0


def test_the_paths_of_a_law_share_a_ladder_in_each_stage() -> None:
    shape = (3, 50, 2)
    normals = stratified_normals(shape, generator=np.random.default_rng(1))
    assert normals.shape == shape
    level = 0.5 * (1.0 + torch.special.erf(torch.from_numpy(normals) / 2**0.5))
    rungs = np.sort(np.floor(50 * level.numpy()), axis=1)
    assert (rungs == np.arange(50)[None, :, None]).all()
    assert not np.array_equal(normals[0].argsort(axis=0), normals[1].argsort(axis=0))


def test_prices_after_an_audit_are_those_of_highs() -> None:
    problem = HydrothermalProblem(small_stage(), stages=STAGES, dtype=torch.float64)
    scenarios = problem.scenarios(2, split="test", seed=1)
    targets = problem.propose(random_network(seed=1), scenarios).detach()
    release = problem._releases(targets, scenarios).reshape(-1, 4).numpy()
    problem.vertices.audit(release, periods=np.zeros(len(release), np.int32))
    judged = operate(small_stage(), with_history(targets, small_stage()), inflow_BTR=scenarios.inflow.numpy())
    priced = problem.solve(targets, scenarios)
    np.testing.assert_allclose(priced.cost.numpy(), judged.cost.sum(axis=1), rtol=1e-8)
    assert torch.equal(priced.state, targets)


def test_the_target_dual_is_the_derivative_by_each_target_alone() -> None:
    problem = small_problem()
    scenarios = problem.scenarios(1, split="test", seed=2)
    targets = problem.propose(random_network(seed=2), scenarios).detach()
    priced, step = problem.solve(targets, scenarios), 1e-6
    for stage in (0, 5, STAGES - 1):
        for reservoir in (0, 1, 3):
            move = torch.zeros_like(targets)
            move[0, stage, reservoir] = step
            ahead, behind = (problem.solve(targets + sign * move, scenarios).cost for sign in (1.0, -1.0))
            difference = float((ahead - behind)[0]) / (2.0 * step)
            assert float(priced.target_dual[0, stage, reservoir]) == pytest.approx(difference, abs=1e-2, rel=1e-6)


def test_a_refinement_goes_on_while_much_is_missing() -> None:
    problem = HydrothermalProblem(small_stage(), stages=STAGES, dtype=torch.float64)
    scenarios = problem.scenarios(16, split="train", seed=6)
    targets = problem.propose(random_network(seed=6), scenarios).detach()
    last = problem.refine(targets, scenarios, seed=1)
    assert problem.vertices.counts.points >= 2 * last.counts.points
    assert last.missing_share <= 0.05
    again = problem.refine(targets, scenarios, seed=2).counts
    assert again.certified > 0.9 * again.points
    assert again.misses <= again.solved == min(again.points - again.certified, 40)


def test_what_was_found_out_can_be_taken_up_by_another_problem() -> None:
    other = HydrothermalProblem(small_stage(), stages=STAGES, dtype=torch.float64)
    other.restore(small_problem().state())
    scenarios = other.scenarios(2, split="test", seed=3)
    targets = other.propose(random_network(seed=3), scenarios).detach()
    assert torch.equal(other.solve(targets, scenarios).cost, small_problem().solve(targets, scenarios).cost)


def test_the_state_of_another_problem_is_the_same_bits() -> None:
    other = HydrothermalProblem(small_stage(), stages=STAGES, dtype=torch.float64)
    other.restore(small_problem().state())
    state, again = small_problem().state(), other.state()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)
    scenarios = other.scenarios(8, split="test", seed=4)
    targets = other.propose(random_network(seed=4), scenarios).detach()
    third = HydrothermalProblem(small_stage(), stages=STAGES, dtype=torch.float64)
    third.restore(state)
    assert third.refine(targets, scenarios, seed=5) == other.refine(targets, scenarios, seed=5)
    assert torch.equal(third.state()["bases"], other.state()["bases"])
