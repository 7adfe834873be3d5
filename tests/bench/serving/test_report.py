from dataclasses import replace
from pathlib import Path

from bench.serving.contenders import Contender
from bench.serving.report import catch_up_table, latency_table, notes
from tests.bench.serving.test_figures import CAUGHT_UP, TIMED

ONE = Contender(name="one", python=Path("python"), module="m", guarantee="none")


def _last(table: str) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]


def test_a_row_shows_cost_rate_and_distance_from_the_ceiling() -> None:
    table = catch_up_table([CAUGHT_UP], [ONE], ceiling={"500": 5.0})
    assert _last(table) == ["one", "none", "200", "40.0", "5,000", "500", "440", "0", "0", "0.1, 0.02"]


def test_repeated_runs_show_median_and_range_and_sum_what_was_lost() -> None:
    runs = [replace(TIMED, p99_ms=p99, missing=missing) for p99, missing in ((9.0, 0), (12.0, 2), (10.0, 1))]
    cells = _last(latency_table(runs, [ONE]))
    assert cells[3] == "10.0 (9.00 to 12.0)"
    assert cells[10:12] == ["**3**", "0"]


def test_a_late_generator_is_marked() -> None:
    assert "**6.00**: behind" in latency_table([replace(TIMED, lag_p99_ms=6.0)], [ONE])
    assert "behind" not in latency_table([TIMED], [ONE])


def test_all_lines_of_a_table_have_as_many_cells() -> None:
    for table in (catch_up_table([CAUGHT_UP], [ONE], ceiling={"500": 5.0}), latency_table([TIMED], [ONE])):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_who_is_absent_or_failed_is_named_with_the_reason() -> None:
    assert notes({"two, 200 per second": "it ended"}, {"three": "no index is reached"}) == (
        "- three did not take part: no index is reached\n- two, 200 per second failed: it ended"
    )
