import numpy as np
import pytest

from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.sddp.noise import forgetful_noise, remembering_noise, table_noise
from tests.helpers.remembering import remembering_process
from tests.helpers.small_case import small_case, table_of


def test_a_table_is_taken_as_it_is_and_begun_anew_at_its_end() -> None:
    table = table_of(small_case())
    noise = table_noise(table, stages=26)
    assert noise.stages[25].constant.tolist() == table.flow[1].tolist()
    assert noise.stages[25].probability.tolist() == table.probability[1].tolist()
    choices = table.draw(3, stages=26, generator=np.random.default_rng(1))
    assert noise.paths(choices).tolist() == table.paths(choices).tolist()


def test_choices_are_drawn_by_their_probabilities() -> None:
    table = InflowTable(flow=np.ones((1, 3, 2)), probability=np.array([[0.7, 0.0, 0.3]]))
    drawn = table_noise(table, stages=2).draw(20_000, generator=np.random.default_rng(2))
    shares = [(drawn == choice).mean() for choice in range(3)]
    assert shares == pytest.approx([0.7, 0.0, 0.3], abs=0.01)  # a standard error is 0.0023


def test_the_reduced_autoregression_has_the_true_conditional_mean() -> None:
    process = remembering_process()
    noise = remembering_noise(process, stages=4, choices=6, seed=3)
    before = np.array([5.0, 1.0, 2.0, 3.0])
    variance = np.diagonal(process.covariance[2])
    expected = np.exp(0.5 * variance) * (process.constant[2] + process.gain[2] * before)
    found = noise.stages[2].probability @ noise.stages[2].flow(before)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_paths_of_a_memory_follow_the_recursion_of_the_process() -> None:
    process = remembering_process()
    noise = remembering_noise(process, stages=5, choices=4, seed=4)
    choices = noise.draw(3, generator=np.random.default_rng(5))
    paths = noise.paths(choices)
    np.testing.assert_array_equal(paths[:, 0], np.tile(process.initial, (3, 1)))
    for stage in range(1, 5):
        period, chosen = stage % 3, choices[stage]
        factor = noise.stages[stage].constant[chosen] / process.constant[period]
        expected = process.step(paths[:, stage - 1], noise_BR=np.log(factor), stage=stage)
        np.testing.assert_allclose(paths[:, stage], expected, rtol=1e-12)


def test_without_memory_each_stage_has_the_mean_of_its_own_law() -> None:
    process = remembering_process()
    noise = forgetful_noise(process, stages=4, choices=8, seed=6)
    paths = process.draw(20_000, stages=4, generator=np.random.default_rng(7))
    assert not noise.has_memory
    assert noise.stages[0].constant.tolist() == [process.initial.tolist()]
    for stage in range(1, 4):
        found = noise.stages[stage].probability @ noise.stages[stage].constant
        np.testing.assert_allclose(found, paths[:, stage].mean(axis=0), rtol=0.05)  # 1,600 paths against 20,000


def test_the_same_seed_reduces_alike() -> None:
    process = remembering_process()
    for reduced in (remembering_noise, forgetful_noise):
        first, again, other = (reduced(process, stages=3, choices=4, seed=seed) for seed in (8, 8, 9))
        assert first.stages[2].constant.tolist() == again.stages[2].constant.tolist()
        assert first.stages[2].constant.tolist() != other.stages[2].constant.tolist()
