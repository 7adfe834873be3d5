from itertools import pairwise
from statistics import fmean

import pytest

from bench.peers.serving.schedule import arrivals, numbered, templates
from bench.serving.workload import requests


def test_a_seed_gives_one_schedule_and_another_seed_another() -> None:
    assert arrivals(100, rate=50.0, seed=1) == arrivals(100, rate=50.0, seed=1)
    assert arrivals(100, rate=50.0, seed=1) != arrivals(100, rate=50.0, seed=2)


def test_arrivals_are_in_order_and_come_at_the_rate() -> None:
    times = arrivals(20_000, rate=2_000.0, seed=7)
    assert times == sorted(times)
    # The mean of 20,000 exponential gaps has a standard error of 0.7 %.
    assert 1 / fmean(after - before for before, after in pairwise(times)) == pytest.approx(2_000.0, rel=0.03)


def test_a_request_is_asked_again_under_another_id_and_nothing_else_changes() -> None:
    lines = requests(3)
    for number, (head, tail) in enumerate(templates(lines)):
        assert head + numbered(number) + tail == lines[number]
        assert len(head + numbered(99_999_999) + tail) == len(lines[number])
