"""Estimates are told in rows that a person reads at a glance."""

from pathlib import Path

import numpy as np
import pytest

from penstock.demo.telling import interval, judge, pick, plain, table


@pytest.fixture
def log(tmp_path: Path) -> Path:
    draws = np.random.default_rng(5)
    path = tmp_path / "log.npz"
    np.savez(path, reward=draws.integers(0, 2, 500), pscore=np.full(500, 0.5), p_eval=np.full(500, 0.5))
    return path


def test_a_table_has_one_row_per_policy_and_the_log_has_its_mean(log: Path) -> None:
    answer = judge(log, {"mine": "columns"}, file_format="npz")
    found = table(answer, estimator="snips", names={"logged": "the log's own"})
    assert [row[0] for row in found.rows] == ["mine", "the log's own"]
    assert found.rows[0][1] == found.rows[1][1]


def test_one_estimate_is_picked_by_name_and_told_with_its_interval(log: Path) -> None:
    answer = judge(log, {"mine": "columns"}, file_format="npz")
    found = pick(answer, "mine", "ips")
    assert interval(found).startswith("[0.4")
    assert {(one["target"], one["estimator"]) for one in plain(answer, ["ips"])} == {("mine", "ips"), ("logged", "ips")}
