import pytest

from bench.hot_swap import Change, Row, costs, effect_ms, line, longest_gap_ms
from policies.errors import Unable

CHANGE = Change("load", "new", 1_000.0)


def steady(*, until_ms: int, step_ms: int = 10, taken_from_ms: int = 1_030) -> list[Row]:
    """Decide at a steady pace in four partitions, 5 ms after each request; later ones by the new catalogue."""
    return [
        Row(partition, "new" if moment >= taken_from_ms else "old", moment - 5, moment)
        for moment in range(0, until_ms, step_ms)
        for partition in range(4)
    ]


def test_a_steady_stream_has_the_gaps_of_its_pace() -> None:
    assert longest_gap_ms(steady(until_ms=1_000), 0.0, 1_000.0) == 10.0


def test_a_partition_that_waits_is_the_gap() -> None:
    rows = [row for row in steady(until_ms=1_000) if row.partition != 2 or not 200 <= row.appended_ms < 400]
    assert longest_gap_ms(rows, 0.0, 1_000.0) == 210.0


def test_a_change_is_in_effect_when_the_last_partition_follows_it() -> None:
    assert effect_ms(steady(until_ms=2_000), CHANGE) == 30.0


def test_a_change_that_a_partition_never_followed_is_no_measurement() -> None:
    with pytest.raises(Unable, match="0 of 4 partitions"):
        effect_ms(steady(until_ms=1_020), CHANGE)


def test_the_window_after_a_change_is_held_against_the_next_without_one() -> None:
    rows = [row for row in steady(until_ms=3_000) if not 1_100 <= row.appended_ms < 1_200]
    load, none = costs(rows, [CHANGE], window_s=1.0)
    assert (load.kind, load.windows, load.gap_longest, load.effect_longest) == ("load", 1, 110.0, 30.0)
    assert (none.kind, none.windows, none.gap_longest, none.effect_longest) == ("none", 1, 10.0, None)
    assert load.latency_p99 == none.latency_longest == 5.0
    assert line(none) == "| none | 1 | 400 | 10 | 10 | 5 | 5 | 5 |  |  |"
