"""Quantities read as people write them, and stay within their bounds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policies.quantities import decimals, settle_quantities
from policies.spec import ActionSet, PolicySpec


def _spec(lower: float, upper: float) -> PolicySpec:
    actions = ActionSet(kind="quantity", names=("a",), units=("hm3",), lower=(lower,), upper=(upper,))
    return PolicySpec(domain="water", actions=actions)


def test_a_float32_is_rounded_to_what_it_means() -> None:
    found, sound = settle_quantities(np.array([[12.3]], dtype=np.float32), spec=_spec(0, 100))
    assert found.tolist() == [[12.3]]
    assert sound.tolist() == [True]


def test_the_grid_is_coarser_than_float32_and_follows_the_largest_bound() -> None:
    assert [decimals(_spec(0, top))[0] for top in (0.5, 1.0, 9.0, 100.0, 5e6)] == [6, 6, 5, 4, -1]


def test_quantities_are_clipped_to_their_bounds() -> None:
    found, _ = settle_quantities(np.array([[-5.0], [250.0]]), spec=_spec(0, 100))
    assert found.tolist() == [[0.0], [100.0]]


def test_a_row_that_is_not_finite_is_told_and_its_neighbor_kept() -> None:
    found, sound = settle_quantities(np.array([[np.nan], [7.0], [np.inf]]), spec=_spec(0, 100))
    assert sound.tolist() == [False, True, False]
    assert found[1].tolist() == [7.0]
    assert np.isfinite(found).all()


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8), st.integers(1, 1000))
def test_settling_again_changes_nothing(values: list[float], top: int) -> None:
    spec = _spec(-top, top)
    once, _ = settle_quantities(np.array(values, dtype=np.float32)[:, None], spec=spec)
    twice, _ = settle_quantities(once, spec=spec)
    np.testing.assert_array_equal(once, twice)


@given(
    st.lists(st.sampled_from([1e-30, 2e-9, 0.5, 1.0, 9.72, 138.0, 9_999.5, 5e6, 3e7, 1e12]), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_all_components_at_once_get_the_bits_of_rounding_each(tops: list[float], seed: int) -> None:
    lower, upper = tuple(-0.5 * top for top in tops), tuple(tops)
    names = tuple(map(str, range(len(tops))))
    actions = ActionSet(kind="quantity", names=names, units=names, lower=lower, upper=upper)
    spec = PolicySpec(domain="water", actions=actions)
    proposal = np.random.default_rng(seed).uniform(-0.6, 1.1, (50, len(tops))) * tops
    proposal[:2] = [[0.0], [-1e-40]]
    expected = np.stack([np.round(proposal[:, n], digits) for n, digits in enumerate(decimals(spec))], axis=1)
    found, _ = settle_quantities(proposal, spec=spec)
    assert found.tobytes() == np.clip(expected, lower, upper).tobytes()
