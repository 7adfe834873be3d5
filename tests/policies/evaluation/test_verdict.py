from dataclasses import replace
from pathlib import Path

import pytest

from policies.evaluation.bounds import RewardBounds, WeightBound
from policies.evaluation.estimators import Estimate, estimate
from policies.evaluation.intervals import Interval
from policies.evaluation.sums import Sums
from policies.evaluation.verdict import Diagnostics, Verdict, judge
from tests.helpers.bandit_logs import open_bandit, take

SOUND = Diagnostics(
    row_count=10_000,
    effective_units=2_000.0,
    largest_share=0.001,
    mean_weight=1.0,
    mean_weight_error=0.005,
    excluded=0,
    pending=0,
    weight_bound=WeightBound(20.0, "floor"),
    interval=Interval(0.4, 0.5),
    reward=RewardBounds(0.0, 1.0),
)


def test_a_log_with_support_is_answered() -> None:
    assert judge(SOUND).verdict == "answer"
    assert "2,000 effective units" in judge(SOUND).reason


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("effective_units", 29.99, "refuse"),
        ("effective_units", 30.0, "partial"),
        ("effective_units", 30 - 2e-14, "partial"),  # what thirty weights of 0.95 come to in doubles
        ("effective_units", 200 - 3e-14, "answer"),
        ("largest_share", 0.25 + 1e-16, "partial"),
        ("mean_weight", 0.97 - 3e-16, "answer"),
        ("mean_weight", 1.1 + 3e-16, "partial"),
        ("effective_units", 199.9, "partial"),
        ("effective_units", 200.0, "answer"),
        ("largest_share", 0.2501, "refuse"),
        ("largest_share", 0.25, "partial"),
        ("largest_share", 0.1001, "partial"),
        ("largest_share", 0.10, "answer"),
        ("mean_weight", 0.89, "refuse"),
        ("mean_weight", 1.11, "refuse"),
        ("mean_weight", 0.96, "partial"),
        ("mean_weight", 1.04, "partial"),
        ("mean_weight", 0.975, "answer"),
        ("mean_weight", None, "refuse"),
        ("mean_weight", 0.0, "refuse"),
        ("row_count", 0, "refuse"),
        ("excluded", 527, "partial"),
        ("pending", 527, "partial"),
        ("pending", 526, "answer"),
    ],
)
def test_each_threshold_is_held(name: str, value: float | None, verdict: Verdict) -> None:
    assert judge(replace(SOUND, **{name: value})).verdict == verdict  # type: ignore[arg-type]


def test_a_mean_weight_within_four_standard_errors_is_borne() -> None:
    assert judge(replace(SOUND, mean_weight=0.8, mean_weight_error=0.06)).verdict == "answer"
    assert judge(replace(SOUND, mean_weight=0.8, mean_weight_error=0.04)).verdict == "refuse"
    assert judge(replace(SOUND, mean_weight=0.95, mean_weight_error=0.0126)).verdict == "answer"


def test_excluded_and_pending_rows_count_together() -> None:
    assert judge(replace(SOUND, excluded=300, pending=300)).verdict == "partial"


def test_a_wide_interval_is_partial_only_when_its_bound_was_read_off_the_log() -> None:
    wide = replace(SOUND, interval=Interval(0.2, 0.71))
    assert judge(wide).verdict == "answer"
    assert judge(replace(wide, weight_bound=WeightBound(20.0, "log"))).verdict == "partial"
    narrow = replace(SOUND, weight_bound=WeightBound(20.0, "log"))
    assert judge(narrow).verdict == "answer"
    assert "read off the log" in judge(narrow).reason


def test_the_width_is_measured_in_the_rewards_range() -> None:
    found = replace(SOUND, weight_bound=WeightBound(20.0, "log"), interval=Interval(0.0, 4.0))
    assert judge(replace(found, reward=RewardBounds(-5.0, 5.0))).verdict == "answer"
    assert judge(replace(found, reward=RewardBounds(0.0, 7.0))).verdict == "partial"


def test_the_reason_names_what_was_found_the_threshold_and_what_to_do() -> None:
    reason = judge(replace(SOUND, effective_units=2.08, largest_share=0.694)).reason
    assert "2.08 effective units, at least 30" in reason
    assert "69.4% of the weight, at most 25%" in reason
    assert reason.count("explore more") == 1


def test_a_partial_doubt_does_not_dilute_a_refusal() -> None:
    judgment = judge(replace(SOUND, effective_units=2.0, pending=10_000))
    assert judgment.verdict == "refuse"
    assert "pending" not in judgment.reason


DIRECTIONS = [
    ("all", "random", 1_640, "answer"),
    ("all", "bts", 340, "answer"),
    ("men", "random", 2_467, "answer"),
    ("men", "bts", 656, "answer"),
    ("women", "random", 1_954, "answer"),
    ("women", "bts", 2.08, "refuse"),
]


def last_rows(root: Path, campaign: str, logger: str, count: int) -> Estimate:
    log = open_bandit(root, campaign=campaign, logger=logger)
    return estimate(Sums.empty().add(take(log, slice(-count, None))), reward_low=0, reward_high=1)["ips"]


@pytest.mark.parametrize(("campaign", "logger", "effective_units", "verdict"), DIRECTIONS)
def test_open_bandit_is_answered_but_for_women_thompson_to_uniform(
    shared_data: Path, campaign: str, logger: str, effective_units: float, verdict: Verdict
) -> None:
    # Effective units: a recount of the public sample by three numpy lines.
    ips = last_rows(shared_data, campaign, logger, 10_000)
    assert ips.effective_units == pytest.approx(effective_units, rel=2e-3)
    assert ips.verdict == verdict


@pytest.mark.parametrize(("count", "verdict"), [(2_000, "partial"), (500, "refuse")])
def test_fewer_rows_turn_an_answer_into_less(shared_data: Path, count: int, verdict: Verdict) -> None:
    assert last_rows(shared_data, "all", "bts", count).verdict == verdict
