from pathlib import Path

import numpy as np
import pytest

from optimizer.hydrothermal.fields import CaseRefused
from optimizer.hydrothermal.inflow import (
    InflowAutoregression,
    InflowTable,
    read_inflows,
    read_scenario_indices,
    read_scenario_inflows,
)


def _table() -> InflowTable:
    return InflowTable(
        flow=np.arange(12.0).reshape(3, 2, 2), probability=np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    )


def _autoregression(spread: float = 0.3) -> InflowAutoregression:
    return InflowAutoregression(
        initial=np.array([8.0, 2.0]),
        median=np.array([[10.0, 3.0], [20.0, 5.0]]),
        persistence=np.array([[0.5, 0.25], [0.75, 1.0]]),
        covariance=np.array([[[1.0, 0.6], [0.6, 1.0]], [[1.0, -0.6], [-0.6, 1.0]]]) * spread**2,
    )


def test_a_path_takes_the_whole_scenario_and_begins_the_table_anew() -> None:
    indices = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    paths = _table().paths(indices)
    assert paths.shape == (2, 4, 2)
    assert paths[0].tolist() == [[0.0, 1.0], [6.0, 7.0], [8.0, 9.0], [2.0, 3.0]]
    assert paths[1, 3].tolist() == [0.0, 1.0]


def test_scenarios_are_drawn_by_their_probabilities_stage_by_stage() -> None:
    drawn = _table().draw(20_000, stages=4, generator=np.random.default_rng(1))
    shares = drawn.mean(axis=1)
    assert shares[1] == 0.0
    np.testing.assert_allclose(shares[[0, 2, 3]], [0.75, 0.5, 0.75], atol=0.015)  # five standard errors


def test_the_same_seed_draws_the_same() -> None:
    first, second = (_table().draw(50, stages=7, generator=np.random.default_rng(9)) for _ in range(2))
    assert (first == second).all()


def test_without_noise_the_autoregression_is_the_recursion_by_hand() -> None:
    process = _autoregression()
    after = process.step(np.array([[8.0, 2.0]]), noise_BR=np.zeros((1, 2)), stage=1)
    assert after[0, 0] == pytest.approx(0.25 * 20 + 0.75 * (20 / 10) * 8, rel=1e-15)
    assert after[0, 1] == pytest.approx(0.0 * 5 + 1.0 * (5 / 3) * 2, rel=1e-15)
    again = process.step(after, noise_BR=np.array([[np.log(2.0), 0.0]]), stage=2)
    assert again[0, 0] == pytest.approx(2 * (0.5 * 10 + 0.5 * (10 / 20) * after[0, 0]), rel=1e-15)


def test_noise_is_joint_with_the_covariance_of_its_period() -> None:
    noise = _autoregression().noise(40_000, stage=3, generator=np.random.default_rng(2))
    np.testing.assert_allclose(np.cov(noise.T), 0.09 * np.array([[1.0, -0.6], [-0.6, 1.0]]), atol=0.003)


def test_drawn_paths_follow_step_after_the_known_first_stage() -> None:
    process = _autoregression()
    paths = process.draw(3, stages=4, generator=np.random.default_rng(5))
    assert (paths[:, 0] == process.initial).all()
    generator = np.random.default_rng(5)
    for stage in range(1, 4):
        noise = process.noise(3, stage=stage, generator=generator)
        assert (process.step(paths[:, stage - 1], noise_BR=noise, stage=stage) == paths[:, stage]).all()


def test_a_table_of_scenario_numbers_counts_from_one(tmp_path: Path) -> None:
    path = tmp_path / "scenarios.csv"
    path.write_text("1,2\n2,2\n1,1\n")
    assert read_scenario_indices(path, stages=2, scenarios=2).tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n", "expected at least 2 rows"),
        ("1,2\n0,1\n", "row 2, column 1: expected a scenario's number from 1 to 2, found 0"),
        ("1,3\n1,1\n", "row 1, column 2"),
        ("1,1.5\n1,1\n", "row 1, column 2"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_at_its_cell(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "scenarios.csv"
    path.write_text(text)
    with pytest.raises(CaseRefused, match=said):
        read_scenario_indices(path, stages=2, scenarios=2)


def test_a_table_of_inflows_has_a_block_of_columns_for_each_reservoir(tmp_path: Path) -> None:
    path = tmp_path / "inflows.csv"
    path.write_text("1,2,3,10,20,30\n4,5,6,40,50,60\n7,8,9,70,80,90\n")
    flow_TSR = read_inflows(path, reservoirs=2)
    assert flow_TSR.shape == (3, 3, 2)
    assert flow_TSR[1].tolist() == [[4.0, 40.0], [5.0, 50.0], [6.0, 60.0]]
    paths_BTR = read_scenario_inflows(path, stages=2, reservoirs=2)
    assert paths_BTR.shape == (3, 2, 2)
    assert paths_BTR[2].tolist() == [[3.0, 30.0], [6.0, 60.0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n", "inflows.csv: expected at least 2 rows, one for each stage, found 1"),
        ("1,2,3\n4,5,6\n", "inflows.csv: expected a multiple of the 2 plants as the number of columns, found 3"),
        ("1,2\n3,-4\n", "inflows.csv: row 2, column 2: expected an inflow of at least 0, found -4"),
        ("1,nan\n3,4\n", "inflows.csv: row 1, column 2: expected a finite number, found 'nan'"),
        ("1,inf\n3,4\n", "inflows.csv: row 1, column 2: expected a finite number, found 'inf'"),
    ],
)
def test_inflows_that_cannot_be_are_refused_at_their_cell(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "inflows.csv"
    path.write_text(text)
    with pytest.raises(CaseRefused, match=said):
        read_scenario_inflows(path, stages=2, reservoirs=2)
