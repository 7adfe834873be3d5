import os
from dataclasses import replace

import numpy as np

from bench.serving.figures import (
    CatchUp,
    Latency,
    Load,
    count_answers,
    cpu_share_of,
    latencies_ms,
    memory_of,
    shares_ms,
)
from bench.serving.processes import Sample, busy_s, cpu_s_of

CALM = Load(before=0.1, busy_cores=1.0, other_cores=0.02)
CAUGHT_UP = CatchUp(
    contender="one", requests=1_000, missing=0, double=0, cpu_s=0.5, start_cpu_s=0.3, wall_s=2.0, answer_bytes=440,
    load=CALM,
)  # fmt: skip
TIMED = Latency(
    contender="one", rate=200, requests=1_000, missing=0, double=0, p50_ms=5.0, p99_ms=9.0, max_ms=11.0, cpu_share=0.1,
    rss_mib=80.0, rss_mib_per_min=0.5, lag_p99_ms=0.6, generator_cpu_share=0.05, reader_cpu_share=0.02, load=CALM,
)  # fmt: skip


def test_a_request_without_an_answer_is_missing_and_a_second_answer_or_a_strange_one_is_double() -> None:
    assert count_answers(np.array([0, 1, 2, 3]), count=4) == (0, 0)
    assert count_answers(np.array([0, 0, 0, 3, 7]), count=4) == (2, 3)
    assert count_answers(np.array([], dtype=np.int64), count=4) == (4, 0)


def test_latency_counts_from_when_a_request_was_due_and_the_first_reading_counts() -> None:
    due_s = [0.0, 0.5, 1.0, 1.5]
    begin_ns = 10_000_000_000
    read = [(4, 0.002), (5, 0.503), (6, 1.004), (7, 1.507), (6, 9.0), (0, 0.0), (3, 0.0)]
    pairs = np.array([(number, begin_ns + round(at_s * 1e9)) for number, at_s in read])
    assert latencies_ms(pairs, due_s, begin_ns=begin_ns, warm_up=0) == [2.0, 3.0, 4.0, 7.0]
    assert latencies_ms(pairs, due_s, begin_ns=begin_ns, warm_up=2) == [4.0, 7.0]


def test_a_request_that_was_never_answered_has_no_latency() -> None:
    pairs = np.array([(4, 1_000_000)])
    assert latencies_ms(pairs, [0.0, 0.5], begin_ns=0, warm_up=0) == [1.0]


def test_shares_of_nothing_are_no_numbers() -> None:
    assert all(np.isnan(shares_ms([])))
    assert shares_ms([float(n) for n in range(1, 101)]) == (51.0, 100.0, 100.0)


def test_memory_that_does_not_grow_has_no_slope() -> None:
    flat = [Sample(at_s=float(second), rss_mib=90.0, cpu_s=0.0) for second in range(20)]
    assert memory_of(flat) == (90.0, 0.0)
    growing = [replace(sample, rss_mib=90.0 + sample.at_s / 60) for sample in flat]
    assert memory_of(growing)[1] == 1.0


def test_cpu_share_is_cpu_over_wall_time_between_samples() -> None:
    samples = [Sample(at_s=10.0, rss_mib=1.0, cpu_s=2.0), Sample(at_s=14.0, rss_mib=1.0, cpu_s=3.0)]
    assert cpu_share_of(samples) == 0.25
    assert np.isnan(cpu_share_of(samples[:1]))


def test_the_start_is_not_part_of_a_decision() -> None:
    assert round(CAUGHT_UP.us_per_decision, 6) == 200.0


def test_a_generator_that_was_late_did_not_keep_its_schedule() -> None:
    assert TIMED.is_on_time
    assert not replace(TIMED, lag_p99_ms=5.1).is_on_time


def test_the_operating_system_counts_our_own_cpu() -> None:
    assert 0 < cpu_s_of(os.getpid()) <= busy_s()
