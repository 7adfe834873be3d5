import numpy as np
import pytest

from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.sddp.cuts import CostToGo
from optimizer.hydrothermal.sddp.noise import remembering_noise
from optimizer.hydrothermal.sddp.policy import CutPolicy
from optimizer.hydrothermal.sddp.program import StageProgram
from optimizer.hydrothermal.sddp.risk import Risk
from optimizer.hydrothermal.sddp.train import Trainer
from tests.helpers.remembering import remembering_process
from tests.helpers.scenario_tree import tree_cost
from tests.helpers.small_case import small_case, small_stage
from tests.helpers.trainers import few_choices, train, trained


def _paths(count: int, *, stages: int = 4, seed: int = 1) -> np.ndarray:
    noise = few_choices(stages=stages)
    return noise.paths(noise.draw(count, generator=np.random.default_rng(seed)))


def test_what_is_reported_has_its_shapes_and_balances_the_water() -> None:
    policy, paths = CutPolicy(small_stage(), cuts=trained().costs_to_go()), _paths(5)
    found = policy.simulate(paths)
    case, arrays = small_case(), small_stage()
    assert found.costs.shape == found.deficit.shape == (5, 4)
    assert found.volumes.shape == (5, 5, 4)
    assert found.generation.shape == (5, 4, len(case.generators))
    assert (found.volumes[:, 0] == case.volume_initial).all()
    leaving = found.trajectories.columns @ arrays.program.dense()[arrays.water_rows].T - found.volumes[:, 1:]
    np.testing.assert_allclose(
        found.volumes[:, 1:] + leaving, found.volumes[:, :-1] + case.volume_per_flow * paths, atol=1e-6
    )
    served = found.generation.sum(axis=2) + found.deficit
    np.testing.assert_allclose(served, case.base_mva * case.load.sum(axis=1)[0], rtol=1e-9)
    np.testing.assert_allclose(found.trajectories.objective, found.costs.sum(axis=1), rtol=1e-12)


def test_the_same_cuts_and_paths_give_the_same_bits() -> None:
    cuts = trained().costs_to_go()
    first, again = (CutPolicy(small_stage(), cuts=cuts).simulate(_paths(6)) for _ in range(2))
    assert first.costs.tobytes() == again.costs.tobytes()
    assert first.volumes.tobytes() == again.volumes.tobytes()


def test_no_path_costs_less_than_with_foresight() -> None:
    policy, paths = CutPolicy(small_stage(), cuts=trained().costs_to_go()), _paths(6, seed=2)
    bound = DeterministicEquivalent(small_stage(), stages=4).solve(paths).objective
    assert (policy.simulate(paths).costs.sum(axis=1) >= bound * (1 - 1e-9)).all()


def test_cuts_make_a_better_policy_than_none() -> None:
    stages = 12
    blind = [CostToGo(value=np.zeros(0), slope=np.zeros((0, 4)), state=np.zeros((0, 4)), reservoirs=4)] * stages
    paths = _paths(30, stages=stages, seed=3)
    seeing = trained(stages=stages, iterations=20).costs_to_go()
    means = [CutPolicy(small_stage(), cuts=cuts).simulate(paths).costs.sum(axis=1).mean() for cuts in (blind, seeing)]
    assert means[1] < 0.9 * means[0]


def test_the_first_stages_alone_end_with_the_cost_of_the_later_ones() -> None:
    policy, paths = CutPolicy(small_stage(), cuts=trained().costs_to_go()), _paths(4)
    whole, part = policy.simulate(paths), policy.simulate(paths[:, :2])
    assert part.costs.tobytes() == whole.costs[:, :2].tobytes()
    expected = policy.cost_to_go(1).evaluate(part.volumes[:, -1])
    np.testing.assert_allclose(part.trajectories.terminal, expected, rtol=1e-8)
    np.testing.assert_array_equal(whole.trajectories.terminal, 0.0)


def test_all_cuts_count_though_few_are_in_the_models() -> None:
    trainer = trained(stages=6, iterations=25)
    cuts, paths = trainer.costs_to_go(), _paths(8, stages=6, seed=4)
    found = CutPolicy(small_stage(), cuts=cuts).simulate(paths)
    assert any(one.highest_at_states().size < one.value.size for one in cuts)
    for stage, one in enumerate(cuts[:-1]):
        program = StageProgram(small_stage(), stage=stage, is_last=False, cost_to_go=one)
        for path in range(8):
            water = small_stage().water(found.volumes[path, stage], inflow_BR=paths[path, stage])
            whole = program.solve(water, inflow_R=paths[path, stage], where=lambda: "here")
            lazy = found.costs[path, stage] + one.evaluate(found.volumes[path, stage + 1][None])[0]
            assert lazy == pytest.approx(whole, rel=1e-8)


def test_all_cuts_hold_the_best_bound_of_training_and_never_more_than_the_truth() -> None:
    noise = few_choices(stages=3)
    trainer = Trainer(small_stage(), noise=noise)
    best = max(row.bound for row in train(trainer, 6))
    found = CutPolicy(small_stage(), cuts=trainer.costs_to_go()).bound(noise.stages[0], risk=Risk())
    exact = tree_cost(small_stage(), noise=noise, volume=small_case().volume_initial)
    assert best * (1 - 1e-9) <= found <= exact * (1 + 1e-9)


def test_another_start_is_taken() -> None:
    policy = CutPolicy(small_stage(), cuts=trained().costs_to_go())
    full = policy.simulate(_paths(4), volume_initial=small_case().volume_max)
    assert full.volumes[0, 0].tolist() == small_case().volume_max.tolist()
    assert full.costs.sum() < policy.simulate(_paths(4)).costs.sum()


def test_a_policy_with_memory_sees_the_inflow_of_the_stage() -> None:
    process = remembering_process()
    noise = remembering_noise(process, stages=4, choices=4, seed=1)
    trainer = Trainer(small_stage(), noise=noise)
    train(trainer, 8)
    policy = CutPolicy(small_stage(), cuts=trainer.costs_to_go())
    paths = process.draw(5, stages=4, generator=np.random.default_rng(2))
    part = policy.simulate(paths[:, :2])
    expected = policy.cost_to_go(1).evaluate(part.volumes[:, -1], inflow_BR=paths[:, 1])
    np.testing.assert_allclose(part.trajectories.terminal, expected, rtol=1e-8)


def test_water_values_are_what_a_little_more_water_saves() -> None:
    policy, paths = CutPolicy(small_stage(), cuts=trained().costs_to_go()), _paths(1)
    found, step = policy.simulate(paths[:, :1]), 1e-3
    for at in (0, 3):
        moved = small_case().volume_initial.copy()
        moved[at] += step
        more = policy.simulate(paths[:, :1], volume_initial=moved)
        saved = (found.trajectories.objective[0] - more.trajectories.objective[0]) / step
        assert saved <= found.water_values[0, 0, at] + 1e-3


def test_paths_that_do_not_fit_are_errors_of_the_program() -> None:
    policy = CutPolicy(small_stage(), cuts=trained().costs_to_go())
    with pytest.raises(ValueError, match=r"at most \(4, 4\), found \(5, 4\)"):
        policy.simulate(np.zeros((1, 5, 4)))
