from dataclasses import replace

import numpy as np
import pytest

from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.judge.artifact import ServedPolicy
from optimizer.hydrothermal.judge.foresight import lower_bound, no_costs_to_go
from optimizer.hydrothermal.judge.judged import Judged
from optimizer.hydrothermal.judge.scenarios import judged_inflow
from optimizer.hydrothermal.sddp.noise import remembering_noise, table_noise
from optimizer.hydrothermal.sddp.train import Trainer
from optimizer.hydrothermal.stage import compile_stage
from optimizer.training.progress import SilentProgress
from tests.helpers.remembering import remembering_process
from tests.helpers.small_case import small_case, small_stage, table_of
from tests.helpers.small_judged import REPORTED, STAGES, artifact_keeping, judged_small, small_cuts


def test_foresight_costs_no_more_than_any_policy_on_any_scenario() -> None:
    judged = judged_small()
    foresight = judged.foresight().cost_with_credit
    served = ServedPolicy(artifact_keeping(0.4), case=small_case(), stages=STAGES)
    greedy = no_costs_to_go(stages=STAGES, reservoirs=judged.arrays.reservoirs)
    others = [judged.served("kept", served), judged.by_cuts("sddp", small_cuts()), judged.by_cuts("greedy", greedy)]
    for other in others:
        assert (foresight <= other.cost_with_credit * (1 + 1e-9)).all(), other.name


def test_foresight_of_a_longer_horizon_cut_short_is_no_bound() -> None:
    judged = judged_small(reported=STAGES, scenarios=12)
    whole = DeterministicEquivalent(small_stage(), stages=STAGES).solve(judged.inflow)
    short = judged_small(scenarios=12)
    np.testing.assert_array_equal(short.inflow, judged.inflow[:, :REPORTED])
    left = whole.columns[:, REPORTED - 1, small_stage().volume_columns]
    cut_short = whole.stage_costs[:, :REPORTED].sum(axis=1) + short.credit.evaluate(left)
    bound = short.foresight().cost_with_credit
    assert (bound <= cut_short * (1 + 1e-9)).all()
    assert (bound < cut_short - 1.0).any()


def test_only_the_last_stage_of_the_horizon_asks_for_final_volumes() -> None:
    short, ended = judged_small(), judged_small()
    object.__setattr__(ended, "horizon", REPORTED)
    assert ended.foresight().cost_with_credit.mean() > short.foresight().cost_with_credit.mean()


def test_the_lower_bound_is_that_of_the_trainer() -> None:
    trainer = Trainer(small_stage(), noise=table_noise(table_of(small_case()), stages=STAGES))
    for _ in range(4):
        trainer.iterate()
    trainer.settle()
    assert lower_bound(small_stage(), trainer.costs_to_go()) == pytest.approx(trainer.bound(), rel=1e-9)


def test_the_lower_bound_holds_for_fewer_stages_with_the_credit_behind_them() -> None:
    bound = lower_bound(small_stage(), small_cuts())
    for reported in (2, REPORTED, STAGES):
        costs = judged_small(reported=reported, scenarios=60).by_cuts("sddp", small_cuts()).cost_with_credit
        # 60 paths: the mean of the policy may lie below its expectation by three standard errors of it
        assert bound <= costs.mean() + 3.0 * costs.std(ddof=1) / np.sqrt(costs.size)


def test_where_inflows_remember_the_credit_moves_with_them_and_foresight_still_bounds() -> None:
    case = replace(small_case(), inflow=remembering_process())
    arrays = compile_stage(case)
    noise = remembering_noise(remembering_process(), stages=STAGES, choices=4, seed=1)
    trainer = Trainer(arrays, noise=noise)
    for _ in range(8):
        trainer.iterate()
    cuts = trainer.costs_to_go()
    judged = Judged(
        arrays=arrays,
        inflow=judged_inflow(case, stages=REPORTED, count=6, seed=2),
        horizon=STAGES,
        credit=cuts[REPORTED - 1],
        progress=SilentProgress(),
    )
    foresight, sddp = judged.foresight(), judged.by_cuts("sddp", cuts)
    assert (foresight.cost_with_credit <= sddp.cost_with_credit * (1 + 1e-9)).all()
    alone = replace(judged, inflow=judged.inflow[3:4])
    assert alone.foresight().cost_with_credit[0] == pytest.approx(foresight.cost_with_credit[3], rel=1e-9)
