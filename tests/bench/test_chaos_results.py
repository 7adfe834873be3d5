from pathlib import Path

import pytest

from bench.chaos_results import ResultsRefused, Run, append_run, left_of, line, read_runs, summary
from tests.helpers.kafka_judge import Verdict

CLEAN = Verdict(requests=5, results=5, missing=0, double=0)


def run_of(seed: int) -> Run:
    return Run(seed=seed, verdict=CLEAN, kills=1, pauses=2, broker_kills=1, faults=4, exits=0, hanging=0, seconds=1.5)


def test_a_run_is_one_row_of_the_table() -> None:
    assert line(run_of(3)) == "| 3 | 5 | 5 | 0 | 0 | 1 | 2 | 1 | 4 | 0 | 0 | 1.5 |"
    assert summary([run_of(3), run_of(3)]) == "2 seeds, 10 requests: 0 missing, 0 double"


def test_seeds_that_a_file_holds_are_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    assert read_runs(path) == []
    for seed in (4, 6):
        append_run(path, run_of(seed))
    assert read_runs(path) == [run_of(4), run_of(6)]
    assert left_of(range(4, 8), read_runs(path)) == [5, 7]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"seed": 1}\n')
    with pytest.raises(ResultsRefused, match="no run"):
        read_runs(path)


def test_without_a_file_nothing_is_kept() -> None:
    append_run(None, run_of(1))
    assert read_runs(None) == []
