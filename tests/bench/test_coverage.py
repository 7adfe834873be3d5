import numpy as np
import pytest

from bench.coverage import (
    LABELS,
    LOG_ROWS,
    _cell_means,
    _normal,
    draw_logs,
    measure_grid,
    measure_relogged,
    show,
    summarize,
)
from bench.relogged import CASES, draw_log, labelled_sets, population, target_of
from policies.evaluation.intervals import Interval
from policies.evaluation.scored import scored_from_columns
from tests.helpers.bandit_logs import ACTIONS, CONTEXTS, GRID


def test_the_grid_is_the_one_whose_values_are_written_down() -> None:
    assert [round(world.value, 4) for world in GRID.values()] == [0.3669, 0.0054, 0.5818, 0.0271]


def test_a_log_draws_actions_as_the_logging_policy_does() -> None:
    world = GRID["poor overlap"]
    logs = draw_logs(world, 20, seed=3)
    assert logs.action.shape == (20, LOG_ROWS)
    assert logs.model.shape == (20, CONTEXTS, ACTIONS)
    seen = np.bincount(logs.action.ravel(), minlength=ACTIONS) / logs.action.size
    # Standard errors are below .0035 with 20,000 rows; four of them.
    assert np.abs(seen - world.logging.mean(axis=0)).max() < 0.014


def test_cells_without_rows_get_the_mean_of_their_action() -> None:
    model = _cell_means(np.array([0, 0, 1]), np.array([0, 0, 1]), np.array([1.0, 1.0, 0.0]))
    assert model[5, 0] == pytest.approx((2 + 2 * 2 / 3) / 4)
    assert model[5, 2] == pytest.approx(2 / 3)
    assert model[0, 0] > model[5, 0]


def test_a_summary_counts_what_holds_the_truth_and_what_was_kept() -> None:
    ends = [Interval(0.0, 1.0), Interval(0.4, 0.6), Interval(0.6, 0.8), Interval(0.7, 0.9)]
    found = summarize(ends, truth=0.5, verdicts=["refuse", "answer", "partial", "answer"])
    assert found["coverage"] == 0.5
    assert found["width"] == pytest.approx(0.4)
    assert found["refused"] == 0.25
    assert found["coverage_of_kept"] == pytest.approx(1 / 3)


def test_the_normal_interval_is_the_textbook_one() -> None:
    scored = scored_from_columns({
        "reward": np.array([0.0, 1.0, 1.0, 0.0]), "pscore": np.full(4, 0.5), "p_eval": np.full(4, 0.5),
        "q_logged": np.zeros(4), "q_pi": np.zeros(4),
    })  # fmt: skip
    half_width = 1.959964 * np.array([0.0, 1.0, 1.0, 0.0]).std(ddof=1) / 2
    for interval in _normal(scored).values():
        assert interval == pytest.approx((0.5 - half_width, 0.5 + half_width))


@pytest.mark.slow
def test_a_short_run_holds_what_the_table_promises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PENSTOCK_DATA", raising=False)
    grid = measure_grid(repetitions=20, peer=None, resamples=0)
    relogged = measure_relogged(repetitions=5)
    # With 20 logs a true 95 % gives 16 or more with probability .997.
    assert all(row["intervals"][group]["coverage"] >= 0.8 for row in grid for group in list(LABELS)[:2])
    assert [(row["set"], row["case"]) for row in relogged] == [("generated", case) for case in CASES]
    show({"grid": grid, "repetitions": 20, "relogged": relogged, "relogged_repetitions": 5})
    assert "normal: snips" in capsys.readouterr().out


def test_a_relogged_set_knows_its_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_DATA", raising=False)
    ((_, features, labels),) = labelled_sets(0)
    people = population(features, labels, generator=np.random.default_rng(0))
    for case in CASES:
        logs = [draw_log(people, case, generator=np.random.default_rng(seed)) for seed in range(20)]
        column = {name: np.concatenate([log[name] for log in logs]) for name in ("reward", "pscore", "p_eval")}
        weight = column["p_eval"] / column["pscore"]
        assert weight.max() <= people.weight_bound
        error = (weight * column["reward"]).std() / len(weight) ** 0.5 * (10 if case.startswith("units") else 1) ** 0.5
        assert (weight * column["reward"]).mean() == pytest.approx(people.truth(target_of(case)), abs=4 * error)
    assert "unit" in draw_log(people, "units", generator=np.random.default_rng(0))
    assert "unit" not in draw_log(people, "units ignored", generator=np.random.default_rng(0))
