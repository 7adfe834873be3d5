from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.evaluation.estimators import CORRECTED, WEIGHTED, ClippedIPS, estimate
from policies.evaluation.scored import Scored
from policies.evaluation.sums import BLOCK_ROWS, Sums, Totals, UnableToAdd
from tests.helpers.bandit_logs import random_scored, take

SEEDS = st.integers(0, 2**31)


def summed(scored: Scored, **more: int) -> Sums:
    return Sums.empty().add(scored, **more)


def same_bits(one: Sums, other: Sums) -> bool:
    return (
        np.array_equal(one.shards, other.shards)
        and one.moments.tobytes() == other.moments.tobytes()
        and one.totals == other.totals
        and one.extremes == other.extremes
        and np.array_equal(one.unit_ranges, other.unit_ranges)
        and (one.excluded, one.pending) == (other.excluded, other.pending)
    )


def assert_close(one: Sums, other: Sums) -> None:
    # Sums of signed terms may cancel, so that 1e-12 is meant of the size of what is summed.
    size = max(abs(moment) for moment in one.totals)
    assert np.asarray(one.totals) == pytest.approx(np.asarray(other.totals), rel=1e-12, abs=1e-12 * size)
    assert np.asarray(one.extremes) == pytest.approx(np.asarray(other.extremes), rel=1e-12)


def sums_by_unit(seed: int) -> Sums:
    return summed(random_scored(50, seed=seed, unit_count=20), excluded=seed % 3, pending=seed % 2)


@given(SEEDS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_merge_is_commutative_to_the_bit(one: int, other: int) -> None:
    a, b = sums_by_unit(one), sums_by_unit(other)
    assert same_bits(a.merge(b), b.merge(a))


@given(SEEDS, SEEDS, SEEDS)
@settings(max_examples=25, deadline=None)
def test_merge_is_associative(one: int, two: int, three: int) -> None:
    a, b, c = sums_by_unit(one), sums_by_unit(two), sums_by_unit(three)
    assert_close(a.merge(b).merge(c), a.merge(b.merge(c)))


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_empty_sums_change_nothing(seed: int) -> None:
    sums = sums_by_unit(seed)
    assert same_bits(Sums.empty().merge(sums), sums)
    assert same_bits(sums.merge(Sums.empty()), sums)


@given(SEEDS, st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_parts_that_are_unions_of_unit_shards_merge_to_the_same_bits(seed: int, parts: int) -> None:
    log = random_scored(2_000, seed=seed, unit_count=300)
    assert log.unit is not None
    generator = np.random.default_rng(seed)
    part_of_shard = generator.integers(parts, size=256)[log.unit >> np.uint64(56)]
    sums = [summed(take(log, part_of_shard == part)) for part in generator.permutation(parts)]
    assert same_bits(reduce(Sums.merge, sums), summed(log))


ROW_LOG = random_scored(3 * BLOCK_ROWS + 777, seed=11)
ROW_SUMS = summed(ROW_LOG)
BLOCKS = [
    summed(take(ROW_LOG, slice(start, start + BLOCK_ROWS)), first_row=start)
    for start in range(0, len(ROW_LOG), BLOCK_ROWS)
]


@given(st.permutations(range(len(BLOCKS))), st.integers(1, len(BLOCKS) - 1))
@settings(max_examples=20, deadline=None)
def test_blocks_of_rows_merge_to_the_same_bits_in_any_order_and_grouping(order: list[int], cut: int) -> None:
    parts = [BLOCKS[index] for index in order]
    assert same_bits(reduce(Sums.merge, parts), ROW_SUMS)
    assert same_bits(reduce(Sums.merge, parts[:cut]).merge(reduce(Sums.merge, parts[cut:])), ROW_SUMS)


def test_rows_that_are_added_in_turn_follow_each_other() -> None:
    sums = Sums.empty()
    for start in range(0, len(ROW_LOG), BLOCK_ROWS):
        sums = sums.add(take(ROW_LOG, slice(start, start + BLOCK_ROWS)))
    assert same_bits(sums, ROW_SUMS)


@pytest.mark.parametrize("part_rows", [1_000, 50_001])
def test_any_other_cut_of_rows_gives_the_same_values(part_rows: int) -> None:
    sums = Sums.empty()
    for start in range(0, len(ROW_LOG), part_rows):
        sums = sums.add(take(ROW_LOG, slice(start, start + part_rows)))
    assert_close(sums, ROW_SUMS)
    assert sums.shards.tolist() == ROW_SUMS.shards.tolist()


@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_any_order_of_rows_gives_the_same_values(seed: int) -> None:
    log = random_scored(500, seed=seed, unit_count=60)
    shuffled = take(log, np.random.default_rng(seed).permutation(len(log)))
    assert_close(summed(log), summed(shuffled))


def test_sorted_and_unsorted_logs_give_the_same_bits() -> None:
    log = random_scored(5_000, seed=3, unit_count=400)
    assert log.unit is not None
    assert same_bits(summed(log), summed(take(log, np.argsort(log.unit, kind="stable"))))


@pytest.mark.parametrize("unit_count", [None, 70])
def test_moments_are_those_of_the_units_by_the_rows_of_the_estimators(unit_count: int | None) -> None:
    log = random_scored(900, seed=4, unit_count=unit_count)
    unit = np.arange(900) if log.unit is None else np.unique(log.unit, return_inverse=True)[1]
    t = Sums.empty(clip=1.5).add(log).totals
    columns = {one.name: one.rows(log)[1] for one in (*WEIGHTED, *CORRECTED)}
    columns |= {"clipped": ClippedIPS(clip=1.5).rows(log)[1], "weight": log.weight, "rows": np.ones(900)}
    by_unit = {name: np.bincount(unit, weights=column) for name, column in columns.items()}
    by_unit["units"] = np.ones(unit.max() + 1)
    for name, moment in t._asdict().items():
        factors = [by_unit[factor] for factor in name.split("_")]
        expected = np.prod(factors, axis=0).sum()
        assert moment == pytest.approx(expected, rel=1e-12, abs=1e-9), name


def test_extremes_are_those_of_rows_and_units() -> None:
    log = random_scored(900, seed=5, unit_count=70)
    assert log.unit is not None
    assert log.q_logged is not None
    assert log.q_target is not None
    sizes = np.unique(log.unit, return_counts=True)[1]
    extremes = summed(log).extremes
    assert extremes.weight == log.weight.max()
    assert (extremes.unit_rows, -extremes.negated_unit_rows) == (sizes.max(), sizes.min())
    assert (extremes.reward, -extremes.negated_reward) == (log.reward.max(), log.reward.min())
    assert extremes.prediction == max(log.q_logged.max(), log.q_target.max())


def test_adding_leaves_the_sums_as_they_are() -> None:
    sums = summed(random_scored(100, seed=6, unit_count=9))
    before = sums.moments.tobytes()
    sums.add(random_scored(100, seed=7, unit_count=9))
    assert sums.moments.tobytes() == before
    with pytest.raises(ValueError, match="read-only"):
        sums.moments[0, 0] = 1.0


def test_excluded_and_pending_rows_are_counted_even_without_any_other() -> None:
    none = take(random_scored(10, seed=1), slice(0, 0))
    sums = summed(none, excluded=2, pending=3).merge(summed(none, excluded=5))
    assert (sums.row_count, sums.excluded, sums.pending) == (0, 7, 3)


def test_a_file_that_is_cut_inside_a_unit_is_refused() -> None:
    log = random_scored(4_000, seed=8, unit_count=500)
    assert log.unit is not None
    log = take(log, np.argsort(log.unit, kind="stable"))
    assert log.unit is not None
    inside = 1 + int(np.flatnonzero(log.unit[1:] == log.unit[:-1])[1_000])
    first = summed(take(log, slice(0, inside)))
    with pytest.raises(UnableToAdd, match=f"unit with hash {log.unit[inside]:016x}"):
        first.add(take(log, slice(inside, None)))


def test_a_file_that_is_cut_between_units_is_added_up() -> None:
    log = random_scored(4_000, seed=8, unit_count=500)
    assert log.unit is not None
    log = take(log, np.argsort(log.unit, kind="stable"))
    assert log.unit is not None
    between = 1 + int(np.flatnonzero(log.unit[1:] != log.unit[:-1])[200])
    sums = summed(take(log, slice(0, between))).add(take(log, slice(between, None)))
    assert_close(sums, summed(log))
    assert sums.unit_count == len(np.unique(log.unit))


def test_units_make_the_interval_wider_than_their_rows_taken_apart() -> None:
    generator = np.random.default_rng(9)
    unit = np.repeat(generator.integers(2**64, size=200, dtype=np.uint64), 20)
    reward = np.repeat((generator.random(200) < 0.3).astype(np.float64), 20)
    half = np.full(4_000, 0.5)
    by_unit = summed(Scored(reward=reward, propensity=half, target=half, unit=unit))
    by_row = summed(Scored(reward=reward, propensity=half, target=half))
    wide, narrow = (estimate(sums, reward_low=0, reward_high=1, weight_bound=2)["ips"] for sums in (by_unit, by_row))
    assert wide.value == pytest.approx(narrow.value)
    # Rewards are equal within a unit, so that 20 rows say as much as one: √20 = 4.5.
    assert wide.high - wide.low > 4.0 * (narrow.high - narrow.low)
    assert wide.standard_error == pytest.approx(np.std(reward[::20], ddof=1) / np.sqrt(200))


def test_sums_of_different_kinds_do_not_merge() -> None:
    by_row, by_unit = summed(random_scored(9, seed=1)), summed(random_scored(9, seed=1, unit_count=3))
    with pytest.raises(ValueError, match="with units"):
        by_row.merge(by_unit)
    with pytest.raises(ValueError, match="with predictions"):
        by_row.add(random_scored(9, seed=1, model=False))
    with pytest.raises(ValueError, match="clipped"):
        by_row.merge(Sums.empty(clip=5.0))
    with pytest.raises(ValueError, match="clip must be positive"):
        Sums.empty(clip=0.0)


def test_totals_of_nothing_are_zero() -> None:
    assert Sums.empty().totals == Totals()
