"""Probabilities become an integer lattice, an exact propensity, and draws that depend on the request alone."""

from fractions import Fraction
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from policies.choose import (
    FOLD_COUNT,
    MAX_SALT_BYTES,
    ONE,
    SUM_TOLERANCE,
    Purpose,
    draw,
    draw_uniforms,
    is_distribution,
    is_in_share,
    keyed,
    to_lattice,
    unit_hashes,
)

PURPOSES: tuple[Purpose, ...] = ("draw", "canary", "fold", "shard")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def masked_rows(pick: st.DrawFn, *, floor: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return float32 rows as a graph makes them: a masked softmax, the floor mixed in, sums of 1 ± 2e-7."""
    shape = (pick(st.integers(1, 5)), pick(st.integers(1, 70)))
    logits = pick(hnp.arrays(np.float32, shape, elements=st.floats(-20, 20, width=32)))
    mask = pick(hnp.arrays(np.bool_, shape))
    mask[:, pick(st.integers(0, shape[1] - 1))] = True
    weights = np.exp(logits - logits.max(axis=1, keepdims=True)) * mask + np.float32(1e-30) * mask
    softmax = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    eps = np.float32(floor)
    return ((1 - eps) * softmax + eps * mask / mask.sum(axis=1, keepdims=True)).astype(np.float32), mask


# Hashes


@pytest.mark.parametrize(
    ("purpose", "salt", "text", "expected"),
    [
        ("draw", b"", "request-1\x00", 5179614519705326664),
        ("canary", b"salt", "unit-1", 14489958449061367894),
        ("fold", b"", "unit-1", 3785022832860744347),
        ("shard", b"", "é", 1783409466116976871),
    ],
)
def test_keyed_is_the_documented_hash(purpose: Purpose, salt: bytes, text: str, expected: int) -> None:
    digest = blake2b(text.encode("utf-8"), digest_size=8, key=salt, person=purpose.encode("ascii")).digest()
    assert int.from_bytes(digest, byteorder="little", signed=False) == expected
    assert keyed(purpose, salt, text) == expected


@given(text=TEXTS, salt=st.binary(max_size=MAX_SALT_BYTES))
def test_no_two_purposes_share_a_hash(text: str, salt: bytes) -> None:
    assert len({keyed(purpose, salt, text) for purpose in PURPOSES}) == len(PURPOSES)


def test_another_salt_gives_another_hash() -> None:
    assert len({keyed("draw", salt, "r") for salt in (b"", b"a", b"b", b"a" * MAX_SALT_BYTES)}) == 4


def test_a_salt_too_long_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="64 bytes, found 65"):
        keyed("draw", b"x" * 65, "r")


@given(ids=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5), salt=st.binary(max_size=8))
def test_a_uniform_is_the_lower_half_of_the_hash_of_request_and_slot(ids: list[tuple[str, str]], salt: bytes) -> None:
    uniforms = draw_uniforms([r for r, _ in ids], [s for _, s in ids], salt=salt)
    assert uniforms.dtype == np.int64
    assert uniforms.tolist() == [keyed("draw", salt, f"{r}\x00{s}") % 2**32 for r, s in ids]


@given(units=st.lists(TEXTS, max_size=6))
def test_unit_hashes_are_unsalted_and_follow_their_purpose(units: list[str]) -> None:
    assert unit_hashes(units).tolist() == [keyed("shard", b"", unit) for unit in units]
    assert unit_hashes(units, purpose="fold").tolist() == [keyed("fold", b"", unit) for unit in units]
    assert unit_hashes(units).dtype == np.uint64


def test_shards_and_folds_are_filled_evenly() -> None:
    units = [f"unit-{n}" for n in range(20_000)]
    shards = np.bincount((unit_hashes(units) >> np.uint64(56)).astype(np.int64), minlength=256)
    folds = np.bincount((unit_hashes(units, purpose="fold") % np.uint64(FOLD_COUNT)).astype(np.int64))
    # 99.9 % quantiles of chi-square with 255 and 4 degrees of freedom.
    assert _chi_square(shards, np.full(256, 20_000 / 256)) < 330.5
    assert _chi_square(folds, np.full(5, 4_000.0)) < 18.5


@given(unit=TEXTS, salt=st.binary(max_size=8))
def test_a_share_of_none_has_no_unit_and_a_share_of_all_has_each(unit: str, salt: bytes) -> None:
    assert not is_in_share(unit, share=0.0, salt=salt)
    assert is_in_share(unit, share=1.0, salt=salt)


@given(unit=TEXTS, share=st.floats(0, 1))
def test_a_canarys_share_is_compared_exactly(unit: str, share: float) -> None:
    assert is_in_share(unit, share=share, salt=b"s") == (Fraction(keyed("canary", b"s", unit), 2**64) < Fraction(share))


def test_a_canary_takes_its_share_of_the_units() -> None:
    taken = sum(is_in_share(f"unit-{n}", share=0.1, salt=b"s") for n in range(10_000))
    assert abs(taken - 1_000) < 3.3 * 30  # 99.9 % of a binomial with standard deviation 30


# Lattice


@given(drawn=masked_rows())
def test_a_lattice_sums_to_one_exactly_and_never_moves_a_masked_cell(
    drawn: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    probabilities, mask = drawn
    lattice = to_lattice(probabilities)
    assert lattice.dtype == np.int64
    assert (lattice.sum(axis=1) == ONE).all()
    assert (lattice[~mask] == 0).all()
    assert (lattice >= 0).all()


@given(drawn=masked_rows())
def test_a_lattice_is_the_floor_but_for_the_first_largest_cell(
    drawn: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    probabilities, _ = drawn
    for row, cells in zip(probabilities.tolist(), to_lattice(probabilities).tolist(), strict=True):
        floors = [int(Fraction(p) * ONE) for p in row]
        first = floors.index(max(floors))
        floors[first] += ONE - sum(floors)
        assert cells == floors


@given(drawn=masked_rows(floor=0.2))
def test_the_exploration_floor_survives(drawn: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    probabilities, mask = drawn
    lattice, count = to_lattice(probabilities), mask.sum(axis=1, keepdims=True)
    least = np.broadcast_to(0.2 / count, mask.shape)
    # Float32 rounds each probability by at most 2^-24 of itself and the sum by 2e-7, which the largest cell bears.
    assert (
        lattice[mask] / ONE >= least[mask] * (1 - 2**-22) - 2e-6 * (lattice == lattice.max(axis=1, keepdims=True))[mask]
    ).all()
    assert (lattice[mask] > 0).all()


def test_the_remainder_goes_to_the_first_of_the_largest_either_way() -> None:
    short = np.array([[0.1, 0.3, 0.3, 0.3]])
    assert (to_lattice(short) - np.floor(short * ONE)).tolist() == [[0, 3, 0, 0]]
    over = np.array([[0.25, 0.25, 0.25, 0.25000001]], dtype=np.float64) * (1 + 2e-7)
    moved = to_lattice(over) - np.floor(over * ONE).astype(np.int64)
    assert moved[0, :3].tolist() == [0, 0, 0]
    assert moved[0, 3] < 0


def test_a_certain_action_has_the_whole_lattice() -> None:
    assert to_lattice(np.array([[0.0, 1.0]], dtype=np.float32)).tolist() == [[0, ONE]]


@given(drawn=masked_rows(), seed=st.integers(0, 2**32))
def test_permuting_the_actions_permutes_all_cells_but_ties_of_the_largest(
    drawn: tuple[NDArray[np.float32], NDArray[np.bool_]], seed: int
) -> None:
    probabilities, _ = drawn
    order = np.random.default_rng(seed).permutation(probabilities.shape[1])
    lattice, permuted = to_lattice(probabilities), to_lattice(probabilities[:, order])
    is_tie = (probabilities == probabilities.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert (permuted[~is_tie] == lattice[:, order][~is_tie]).all()
    assert (np.sort(permuted, axis=1) == np.sort(lattice, axis=1)).all()


def test_even_a_row_at_the_edge_of_the_tolerance_leaves_every_cell_positive() -> None:
    for total in (1 - 0.99 * SUM_TOLERANCE, 1 + 0.99 * SUM_TOLERANCE):
        rows = np.full((1, 50_000), total / 50_000)
        assert is_distribution(rows, np.ones_like(rows, dtype=bool)).all()
        lattice = to_lattice(rows)
        assert lattice.min() > 0
        assert lattice.sum() == ONE


# Distributions


@given(drawn=masked_rows(floor=0.1))
def test_rows_that_a_graph_makes_are_distributions(drawn: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    assert is_distribution(*drawn).all()


@pytest.mark.parametrize(
    "row",
    [
        [np.nan, 0.5, 0.5],
        [np.inf, 0.0, 0.0],
        [np.inf, -np.inf, 0.0],
        [0.5, 0.6, -0.1],
        [0.5, 0.4, 0.0],
        [0.5, 0.25, 0.25],
    ],
)
def test_a_row_that_is_no_distribution_is_told_and_its_neighbor_is_not(row: list[float]) -> None:
    probabilities = np.array([[0.5, 0.5, 0.0], row], dtype=np.float32)
    mask = np.array([[True, True, False]] * 2)
    assert is_distribution(probabilities, mask).tolist() == [True, False]


# Draws


@given(drawn=masked_rows(), data=st.data())
def test_a_draw_is_the_first_cumulative_cell_above_the_uniform(
    drawn: tuple[NDArray[np.float32], NDArray[np.bool_]], data: st.DataObject
) -> None:
    lattice = to_lattice(drawn[0])
    uniforms = data.draw(hnp.arrays(np.int64, len(lattice), elements=st.integers(0, ONE - 1)))
    chosen = draw(lattice, uniforms)
    assert chosen.tolist() == [_slow_draw(row, u) for row, u in zip(lattice.tolist(), uniforms.tolist(), strict=True)]
    assert (lattice[np.arange(len(lattice)), chosen] > 0).all()


def test_a_draw_at_the_edges_of_a_cell_is_exact() -> None:
    quarter = ONE // 4
    lattice = np.array([[0, quarter, 0, 3 * quarter]] * 4)
    assert draw(lattice, np.array([0, quarter - 1, quarter, ONE - 1])).tolist() == [1, 1, 3, 3]


def test_actions_are_drawn_as_often_as_their_propensities_say() -> None:
    lattice = to_lattice(np.array([[0.5, 0.3, 0.0, 0.15, 0.05]], dtype=np.float32))
    uniforms = draw_uniforms((f"request-{n}" for n in range(20_000)), [""] * 20_000, salt=b"seed")
    counts = np.bincount(draw(np.repeat(lattice, 20_000, axis=0), uniforms), minlength=5)
    assert counts[2] == 0
    seen = lattice[0] > 0
    # The 99.9 % quantile of chi-square with 3 degrees of freedom; the salt is the seed.
    assert _chi_square(counts[seen], lattice[0][seen] / ONE * 20_000) < 16.3


def test_slots_of_one_request_are_drawn_independently() -> None:
    first = draw_uniforms([f"r{n}" for n in range(20_000)], ["a"] * 20_000, salt=b"") >> 31
    second = draw_uniforms([f"r{n}" for n in range(20_000)], ["b"] * 20_000, salt=b"") >> 31
    table = np.bincount(first * 2 + second, minlength=4)
    assert _chi_square(table, np.full(4, 5_000.0)) < 16.3


def _slow_draw(row: list[int], uniform: int) -> int:
    total = 0
    for place, cell in enumerate(row):
        total += cell
        if total > uniform:
            return place
    raise AssertionError("the lattice does not reach the uniform")


def _chi_square(counts: NDArray[Any], expected: NDArray[np.float64]) -> float:
    return float(((counts - expected) ** 2 / expected).sum())
