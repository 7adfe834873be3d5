import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.errors import UsageProblem
from policies.evaluation.bounds import UnableToBound
from policies.evaluation.estimators import CORRECTED, NAMES, WEIGHTED, ClippedIPS, Estimate, UnableToEstimate, estimate
from policies.evaluation.scored import Scored, scored_from_columns
from policies.evaluation.sums import BLOCK_ROWS, Sums
from policies.npz import load_npz
from tests.helpers.bandit_logs import GRID, World, random_scored, take


def estimates_of(
    scored: Scored,
    *,
    clip: float = 100.0,
    reward_low: float = -10.0,
    reward_high: float = 10.0,
    weight_bound: float | None = None,
) -> dict[str, Estimate]:
    sums = Sums.empty(clip=clip).add(scored)
    return estimate(sums, reward_low=reward_low, reward_high=reward_high, weight_bound=weight_bound)


def textbook(scored: Scored) -> dict[str, float]:
    w, r = scored.target / scored.propensity, scored.reward
    assert scored.q_logged is not None
    assert scored.q_target is not None
    return {
        "ips": float(np.mean(w * r)),
        "clipped_ips": float(np.mean(np.minimum(w, 100.0) * r)),
        "snips": float(np.sum(w * r) / np.sum(w)),
        "dm": float(np.mean(scored.q_target)),
        "dr": float(np.mean(scored.q_target + w * (r - scored.q_logged))),
    }


@given(st.integers(0, 2**31), st.sampled_from([None, 5, 40]))
@settings(max_examples=20, deadline=None)
def test_values_are_the_textbook_sums(seed: int, unit_count: int | None) -> None:
    scored = random_scored(300, seed=seed, unit_count=unit_count)
    values = {name: one.value for name, one in estimates_of(scored).items()}
    assert values == pytest.approx(textbook(scored), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ["all_random_to_bts", "all_bts_to_random", "women_bts_to_random"])
def test_values_on_open_bandit_are_the_textbook_sums(shared_data: Path, name: str) -> None:
    path = shared_data / "open_bandit" / f"golden_{name}.npz"
    scored = scored_from_columns(load_npz(path.read_bytes()))
    found = estimates_of(scored, reward_low=0.0, reward_high=1.0)
    assert {name: one.value for name, one in found.items()} == pytest.approx(textbook(scored), rel=1e-12)
    assert {one.verdict for one in found.values()} == {"refuse" if "women" in name else "answer"}


@given(st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_each_value_is_the_mean_of_its_rows(seed: int) -> None:
    scored = random_scored(200, seed=seed)
    sums = Sums.empty(clip=1.5).add(scored)
    for estimator in (WEIGHTED[0], ClippedIPS(clip=1.5), *CORRECTED):
        assert estimator.value(sums) == pytest.approx(estimator.rows(scored)[1].mean(), rel=1e-12, abs=1e-12)
    w, y = WEIGHTED[2].rows(scored)
    assert WEIGHTED[2].value(sums) == pytest.approx(y.sum() / w.sum(), rel=1e-12, abs=1e-12)


def test_clipping_cuts_weights_at_the_clip() -> None:
    scored = random_scored(200, seed=1)
    found = estimates_of(scored, clip=0.7)
    assert found["clipped_ips"].value == pytest.approx(np.mean(np.minimum(scored.weight, 0.7) * scored.reward))
    assert found["clipped_ips"].value != found["ips"].value


def by_jackknife(scored: Scored, name: str) -> float:
    units = np.arange(len(scored)) if scored.unit is None else np.unique(scored.unit, return_inverse=True)[1]
    count = units.max() + 1
    left_out = np.array([textbook(take(scored, units != unit))[name] for unit in range(count)])
    return math.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum())


@pytest.mark.parametrize("unit_count", [None, 60])
@pytest.mark.parametrize("name", ["ips", "clipped_ips", "snips", "dr"])
def test_standard_errors_are_those_of_leaving_units_out(name: str, unit_count: int | None) -> None:
    # The jackknife and the delta method agree to first order; 5 % is the size of the second at 60 units.
    scored = random_scored(300, seed=2, unit_count=unit_count)
    assert estimates_of(scored)[name].standard_error == pytest.approx(by_jackknife(scored, name), rel=0.05)


def test_the_denominator_of_snips_is_not_frozen() -> None:
    # With equal rewards the ratio never varies, however much weights do; with a frozen denominator it would.
    scored = take(random_scored(400, seed=3), slice(None))
    constant = Scored(reward=np.full(400, 3.0), propensity=scored.propensity, target=scored.target)
    snips = estimates_of(constant)["snips"]
    assert snips.value == pytest.approx(3.0)
    assert snips.standard_error == pytest.approx(0.0, abs=1e-7)
    assert by_frozen_denominator(constant) > 0.05


def by_frozen_denominator(scored: Scored) -> float:
    rows = scored.weight * scored.reward / scored.weight.mean()
    return float(rows.std() / math.sqrt(len(rows)))


def test_dm_never_has_an_interval_without_the_models_error() -> None:
    world, generator = GRID["good overlap"], np.random.default_rng(4)
    log = world.log(1_000, generator, prediction=np.full(world.reward.shape, 0.9))
    found = estimates_of(log, reward_low=0.0, reward_high=1.0, weight_bound=world.weight_bound)
    dm, dr = found["dm"], found["dr"]
    assert dm.value == pytest.approx(0.9)
    # The predictions do not vary, so that their own spread would claim certainty.
    assert (dm.low, dm.high, dm.standard_error) == (dr.low, dr.high, dr.standard_error)
    assert dm.low <= world.value <= dm.high < 0.9
    assert dm.standard_error is not None
    assert dm.standard_error > 0.01


def test_estimators_of_one_group_share_their_interval() -> None:
    found = estimates_of(random_scored(500, seed=5))
    assert len({(found[name].low, found[name].high) for name in ("ips", "clipped_ips", "snips")}) == 1
    assert len({(found[name].low, found[name].high) for name in ("dm", "dr")}) == 1
    assert found["ips"].low != found["dr"].low


def test_dm_and_dr_need_predictions() -> None:
    scored = random_scored(50, seed=6, model=False)
    assert tuple(estimates_of(scored)) == ("ips", "clipped_ips", "snips")
    with pytest.raises(UnableToEstimate, match="predictions"):
        CORRECTED[1].rows(scored)


def test_only_wanted_estimators_are_returned_in_canonical_order() -> None:
    sums = Sums.empty().add(random_scored(50, seed=7))
    assert tuple(estimate(sums, estimators=("dr", "ips"), reward_low=-10, reward_high=10)) == ("ips", "dr")
    assert tuple(estimate(sums, reward_low=-10, reward_high=10)) == NAMES


def test_an_unknown_estimator_is_a_usage_problem() -> None:
    with pytest.raises(UnableToEstimate, match=r"unknown estimator 'replay'; there are ips, clipped_ips") as caught:
        estimate(Sums.empty(), estimators=("replay",), reward_low=0, reward_high=1)
    assert isinstance(caught.value, UsageProblem)
    with pytest.raises(UnableToEstimate, match="confidence must lie between 0 and 1, found 95"):
        estimate(Sums.empty(), confidence=95, reward_low=0, reward_high=1)


def test_rewards_and_weights_beyond_their_bounds_are_refused() -> None:
    with pytest.raises(UnableToBound, match="rewards lie in"):
        estimates_of(random_scored(50, seed=8), reward_low=0.0, reward_high=1.0)
    with pytest.raises(UnableToBound, match=r"above the weight bound 1\.5"):
        estimates_of(random_scored(50, seed=8), weight_bound=1.5)


def test_diagnostics_are_those_of_the_units() -> None:
    scored = random_scored(300, seed=9, unit_count=12)
    assert scored.unit is not None
    unit = np.unique(scored.unit, return_inverse=True)[1]
    weight = np.bincount(unit, weights=scored.weight)
    ips = estimates_of(scored)["ips"]
    assert (ips.row_count, ips.unit_count) == (300, len(weight))
    assert ips.effective_units == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert ips.largest_share == pytest.approx(weight.max() / weight.sum())
    assert ips.largest_weight == scored.weight.max()
    assert ips.mean_weight == pytest.approx(scored.weight.mean())


def without_support(world: World) -> Scored:
    log = world.log(200, np.random.default_rng(10))
    propensity = log.propensity.copy()
    propensity[0] = 1e-6
    return Scored(reward=log.reward, propensity=propensity, target=log.target)


def test_a_refusal_keeps_its_value_and_its_interval_is_the_rewards_bounds() -> None:
    refused = estimates_of(without_support(GRID["good overlap"]), reward_low=0.0, reward_high=1.0)["snips"]
    assert refused.verdict == "refuse"
    assert (refused.low, refused.high) == (0.0, 1.0)
    assert refused.value is not None
    assert "effective units" in refused.reason


def test_no_weight_at_all_is_refused_without_a_value() -> None:
    zero = Scored(reward=np.ones(500), propensity=np.full(500, 0.5), target=np.zeros(500))
    found = estimates_of(zero, reward_low=0.0, reward_high=1.0)
    assert {(one.value, one.standard_error, one.verdict, one.low, one.high) for one in found.values()} == {
        (None, None, "refuse", 0.0, 1.0)
    }
    assert found["ips"].mean_weight == 0.0


def test_no_rows_are_refused_without_a_value() -> None:
    sums = Sums.empty().add(take(random_scored(1, seed=1, model=False), slice(0, 0)), pending=7)
    ips = estimate(sums, reward_low=0, reward_high=1)["ips"]
    assert (ips.value, ips.mean_weight, ips.verdict, ips.pending, ips.row_count) == (None, None, "refuse", 7, 0)
    assert ips.reason == "the log holds no row that can be weighted"


def test_an_estimate_is_plain_data() -> None:
    for one in estimates_of(random_scored(50, seed=16, unit_count=9)).values():
        assert msgspec.json.decode(msgspec.json.encode(one), type=Estimate) == one


def test_one_row_has_no_standard_error() -> None:
    assert estimates_of(random_scored(1, seed=11))["ips"].standard_error is None


def test_the_logging_policy_itself_is_answered() -> None:
    reward = (np.random.default_rng(12).random(2_000) < 0.006).astype(np.float64)
    one = np.full(2_000, 1 / 34)
    ips = estimates_of(Scored(reward=reward, propensity=one, target=one), reward_low=0.0, reward_high=1.0)["ips"]
    assert ips.verdict == "answer"
    assert ips.value == pytest.approx(reward.mean())
    assert ips.low < 0.006 < ips.high
    assert (ips.effective_units, ips.mean_weight) == (2_000, 1.0)


def test_unions_of_shards_in_any_order_give_the_same_estimates_to_the_bit() -> None:
    log = random_scored(2 * BLOCK_ROWS + 5, seed=13)
    starts = range(0, len(log), BLOCK_ROWS)
    parts = [Sums.empty().add(take(log, slice(at, at + BLOCK_ROWS)), first_row=at) for at in starts]
    backwards = parts[2].merge(parts[0]).merge(parts[1])
    assert estimate(backwards, reward_low=-10.0, reward_high=10.0) == estimates_of(log)
