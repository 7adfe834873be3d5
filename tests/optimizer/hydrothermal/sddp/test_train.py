from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.sddp.noise import InflowNoise, StageNoise, remembering_noise, table_noise
from optimizer.hydrothermal.sddp.policy import CutPolicy
from optimizer.hydrothermal.sddp.risk import Risk
from optimizer.hydrothermal.sddp.train import Trainer, Training, cost_floors
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.mean_interval import mean_interval
from optimizer.solvers.highs import UnableToSolve
from tests.helpers.remembering import remembering_process
from tests.helpers.scenario_tree import tree_cost
from tests.helpers.small_case import small_case, small_stage, table_of
from tests.helpers.trainers import few_choices, train


@pytest.mark.parametrize(("stages", "choices"), [(1, 6), (2, 6), (3, 3)])
def test_the_bound_comes_to_the_cost_of_the_extensive_form(stages: int, choices: int) -> None:
    noise = few_choices(stages=stages, choices=choices)
    rows = train(Trainer(small_stage(), noise=noise, training=Training(paths=3)), 20)
    exact = tree_cost(small_stage(), noise=noise, volume=small_case().volume_initial)
    assert rows[-1].bound == pytest.approx(exact, rel=1e-8)
    assert all(row.bound <= exact * (1 + 1e-9) for row in rows)


def test_with_inflows_as_states_the_bound_comes_to_the_cost_of_the_extensive_form() -> None:
    noise = remembering_noise(remembering_process(), stages=3, choices=4, seed=5)
    rows = train(Trainer(small_stage(), noise=noise, training=Training(paths=4)), 20)
    exact = tree_cost(small_stage(), noise=noise, volume=small_case().volume_initial)
    assert rows[-1].bound == pytest.approx(exact, rel=1e-8)


def _states(noise: InflowNoise, *, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    volume = generator.uniform(0.0, 1.0, (count, 4)) * small_case().volume_max
    return volume, generator.uniform(0.0, 12.0, (count, 4)) if noise.has_memory else np.zeros((count, 4))


@pytest.mark.parametrize(
    "make",
    [
        lambda: few_choices(stages=4, choices=3),
        lambda: remembering_noise(remembering_process(), stages=4, choices=3, seed=6),
    ],
    ids=["independent", "remembering"],
)
def test_every_cut_lies_below_the_exact_cost_at_any_state(make: Callable[[], InflowNoise]) -> None:
    noise = make()
    trainer = Trainer(small_stage(), noise=noise)
    train(trainer, 12)
    volume, before = _states(noise, count=6)
    for stage in (1, 2):
        pool = trainer.pools[stage]
        state = np.hstack([volume, before])[:, : trainer.dimension]
        heights = pool.intercept[:, None] + pool.slope @ state.T
        exact = [
            tree_cost(small_stage(), noise=noise, first=stage + 1, volume=v, before=x)
            for v, x in zip(volume, before, strict=True)
        ]
        assert pool.count > 3
        assert (heights <= np.array(exact) * (1 + 1e-8) + 1e-6).all()


def test_one_scenario_makes_it_the_deterministic_equivalent() -> None:
    stages = 12
    full = table_noise(table_of(small_case()), stages=stages)
    certain = [StageNoise(constant=one.constant[:1], gain=None, probability=np.ones(1)) for one in full.stages]
    noise = InflowNoise(stages=tuple(certain), has_memory=False)
    rows = train(Trainer(small_stage(), noise=noise), 30)
    paths = noise.paths(np.zeros((stages, 1), dtype=np.int64))
    exact = DeterministicEquivalent(small_stage(), stages=stages).solve(paths).objective[0]
    assert (rows[-1].bound, rows[-1].simulation) == pytest.approx((exact, exact), rel=1e-8)


def test_probabilities_are_honored() -> None:
    """A scenario that never comes counts for nothing, and one that always comes for all."""
    noise = few_choices(stages=3, choices=3)
    sure = [replace(one, probability=np.array([0.0, 1.0, 0.0])) for one in noise.stages]
    alone = [StageNoise(constant=one.constant[1:2], gain=None, probability=np.ones(1)) for one in noise.stages]
    bounds = [
        train(Trainer(small_stage(), noise=InflowNoise(stages=tuple(stages), has_memory=False)), 12)[-1].bound
        for stages in (sure, alone, noise.stages)
    ]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)
    assert abs(bounds[2] / bounds[0] - 1) > 0.01


def test_risk_corners_order_the_bounds() -> None:
    noise = few_choices(stages=2, choices=4)

    def bound(expectation_weight: float, tail_share: float) -> float:
        risk = Risk(expectation_weight=expectation_weight, tail_share=tail_share)
        return train(Trainer(small_stage(), noise=noise, training=Training(risk=risk)), 15)[-1].bound

    mean = tree_cost(small_stage(), noise=noise, volume=small_case().volume_initial)
    assert bound(1.0, 0.0) == pytest.approx(mean, rel=1e-8)
    assert bound(0.0, 1.0) == pytest.approx(mean, rel=1e-8)
    assert mean < bound(0.5, 0.5) < bound(0.0, 0.5) < bound(0.0, 0.0)


def test_the_worst_case_of_one_stage_is_its_dearest_scenario() -> None:
    noise = few_choices(stages=1, choices=6)
    solver = small_stage().solver(is_last=True)
    costs = [
        solver.solve(small_stage().water(small_case().volume_initial, inflow_BR=flow))
        for flow in noise.stages[0].constant
    ]
    worst = Trainer(small_stage(), noise=noise, training=Training(risk=Risk(expectation_weight=0.0, tail_share=0.0)))
    assert worst.iterate().bound == pytest.approx(max(costs), rel=1e-9)


def test_the_bound_lies_below_what_its_policy_costs_on_fresh_paths() -> None:
    noise = table_noise(table_of(small_case()), stages=8)
    trainer = Trainer(small_stage(), noise=noise)
    bound = train(trainer, 30)[-1].bound
    paths = noise.paths(noise.draw(60, generator=np.random.default_rng(99)))
    found = mean_interval(CutPolicy(small_stage(), cuts=trainer.costs_to_go()).simulate(paths).costs.sum(axis=1))
    assert bound <= found.high
    assert found.low <= bound * 1.05


def test_several_paths_make_several_cuts_of_one_iteration() -> None:
    trainer = Trainer(small_stage(), noise=few_choices(stages=3), training=Training(paths=3))
    trainer.iterate()
    assert trainer.pools[0].visited.shape == (3, 4)
    assert trainer.solves == 3 * 3 + 2 * 3 * 3 + 3


def test_the_same_seed_makes_the_same_cuts_and_another_one_others() -> None:
    noise = few_choices(stages=4)
    bounds = [
        [row.bound for row in train(Trainer(small_stage(), noise=noise, training=Training(seed=seed)), 4)]
        for seed in (1, 1, 2)
    ]
    assert bounds[0] == bounds[1]
    assert bounds[0] != bounds[2]


def test_cuts_that_were_taken_over_hold_the_bound_where_it_was() -> None:
    noise = few_choices(stages=4)
    trainer = Trainer(small_stage(), noise=noise)
    before = train(trainer, 10)[-1].bound
    other = Trainer(small_stage(), noise=noise)
    other.take(trainer.costs_to_go())
    assert other.bound() == pytest.approx(before, rel=1e-8)
    with pytest.raises(ValueError, match="expected cuts of 4 stages with 4 state variables"):
        other.take(trainer.costs_to_go()[:3])


def test_without_negative_costs_the_floor_is_zero() -> None:
    assert cost_floors(small_stage(), stages=3) == [0.0, 0.0, 0.0]


def test_a_negative_cost_lowers_the_floor_by_what_it_can_earn_and_needs_a_bound() -> None:
    arrays = small_stage()
    cost = arrays.program.cost.copy()
    cost[arrays.volume_columns[0]] = -2.0
    paid = replace(arrays, program=replace(arrays.program, cost=cost))
    assert cost_floors(paid, stages=3) == [-180.0, -90.0, 0.0]
    cost[arrays.columns["spilled"][0]] = -1.0
    with pytest.raises(ValueError, match="no bound on its cheap side"):
        cost_floors(paid, stages=3)


def test_a_program_that_cannot_be_solved_is_named_by_stage_scenario_and_state() -> None:
    noise = few_choices(stages=2)
    wrong = replace(noise.stages[1], constant=noise.stages[1].constant * -1e6)
    trainer = Trainer(small_stage(), noise=InflowNoise(stages=(noise.stages[0], wrong), has_memory=False))
    with pytest.raises(UnableToSolve, match=r"stage 2 going forward, path 1, at the state \["):
        trainer.iterate()


@pytest.mark.slow
def test_the_peers_case_with_three_scenarios_runs(shared_data) -> None:  # type: ignore[no-untyped-def]
    case: Case = load_case(shared_data / "hydrothermal" / "hydropowermodels" / "case3", stage_hours=1.0)
    arrays: StageArrays = compile_stage(case)
    noise = table_noise(table_of(case), stages=4)
    rows = train(Trainer(arrays, noise=noise), 40)
    exact = tree_cost(arrays, noise=noise, volume=case.volume_initial)
    assert rows[-1].bound == pytest.approx(exact, rel=1e-8)
