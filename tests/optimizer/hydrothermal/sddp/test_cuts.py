import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.hydrothermal.sddp.cuts import CostToGo, CutPool, without_tiny

finite, volume = st.floats(-1e4, 1e4), st.floats(0, 9)


def _pool(cuts: list[tuple[float, list[float], list[float]]]) -> CutPool:
    pool = CutPool(dimension=2)
    for value, slope, state in cuts:
        pool.add(value, slope=np.array(slope), state=np.array(state))
    return pool


def test_a_cut_passes_through_its_value_at_its_state() -> None:
    theta = _pool([(10.0, [-2.0, 0.5], [3.0, 4.0])]).cost_to_go(reservoirs=2, floor=0.0)
    assert theta.evaluate(np.array([[3.0, 4.0], [4.0, 4.0], [100.0, 0.0]])).tolist() == [10.0, 8.0, 0.0]
    assert theta.intercept.tolist() == [14.0]


def test_inflows_count_beside_volumes() -> None:
    theta = CostToGo(
        value=np.array([10.0, 1.0]),
        slope=np.array([[-2.0, -1.0], [0.0, 0.0]]),
        state=np.array([[3.0, 4.0], [0.0, 0.0]]),
        reservoirs=1,
    )
    assert theta.has_memory
    volume, inflow = np.array([[3.0], [3.0], [20.0]]), np.array([[4.0], [6.0], [4.0]])
    assert theta.evaluate(volume, inflow_BR=inflow).tolist() == [10.0, 8.0, 1.0]
    assert [theta.given(x).evaluate(v[None])[0] for v, x in zip(volume, inflow, strict=True)] == [10.0, 8.0, 1.0]
    with pytest.raises(ValueError, match="depends on the stage's inflow"):
        theta.evaluate(volume)
    with pytest.raises(ValueError, match="depends on the stage's inflow"):
        theta.given()


def test_a_cut_like_another_is_not_kept_twice() -> None:
    pool = _pool([(10.0, [-2.0, 0.5], [3.0, 4.0]), (8.0, [-2.0, 0.5], [4.0, 4.0]), (8.5, [-2.0, 0.5], [4.0, 4.0])])
    assert pool.value.tolist() == [10.0, 8.5]  # the second is the first seen from elsewhere, the third lies higher
    assert pool.visited.shape == (3, 2)


def test_only_cuts_that_are_highest_somewhere_are_selected() -> None:
    """At 0 the steep cut is highest, at 10 the flat one; the low one is nowhere."""
    pool = _pool([(1.0, [-0.1, 0.0], [0.0, 0.0]), (10.0, [-2.0, 0.0], [0.0, 0.0]), (3.0, [-0.05, 0.0], [10.0, 0.0])])
    assert pool.selected().tolist() == [1, 2]
    assert pool.cost_to_go(reservoirs=2, floor=0.0).highest_at_states().tolist() == [1, 2]


@given(
    st.lists(
        st.tuples(finite, st.tuples(finite, finite), st.tuples(st.floats(0, 9), st.floats(0, 9))),
        min_size=1,
        max_size=12,
    )
)
def test_selection_never_lowers_the_cost_to_go_at_a_visited_state(
    cuts: list[tuple[float, tuple[float, float], tuple[float, float]]],
) -> None:
    pool = _pool([(value, list(slope), list(state)) for value, slope, state in cuts])
    kept = pool.cost_to_go(reservoirs=2, floor=-1e9).part(pool.selected())
    every = (pool.intercept[:, None] + pool.slope @ pool.visited.T).max(axis=0)
    np.testing.assert_allclose(kept.evaluate(pool.visited), every, rtol=1e-8, atol=1e-4)  # of heights up to 2e5


def test_a_pool_that_is_stored_and_read_goes_on_alike() -> None:
    generator = np.random.default_rng(1)
    values, slopes, states = generator.random(50), generator.random((50, 2)), generator.random((50, 2))
    drawn = list(zip(values.tolist(), slopes.tolist(), states.tolist(), strict=True))
    whole, first = _pool(drawn), _pool(drawn[:40])
    again = CutPool.from_arrays(first.to_arrays())
    for value, slope, state in drawn[40:]:
        again.add(value, slope=np.array(slope), state=np.array(state))
    assert all((a == b).all() for a, b in zip(again.to_arrays().values(), whole.to_arrays().values(), strict=True))


@given(st.lists(st.floats(-1e-7, 1e-7), min_size=3, max_size=3), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_dropping_tiny_coefficients_never_raises_a_cut(tiny: list[float], share: list[float]) -> None:
    upper, generator = np.array([5.0, 50.0, 0.0]), np.random.default_rng(2)
    slope, state = np.array([*tiny[:2], -40.0]), upper * np.array(share)
    slope[2] = tiny[2]
    value, kept = without_tiny(1e5, slope=slope, state=state, upper=upper)
    volumes = np.vstack([generator.uniform(0, 1, (20, 3)) * upper, np.zeros(3), upper])
    assert (value + (volumes - state) @ kept <= 1e5 + (volumes - state) @ slope + 1e-10).all()
    assert value > 1e5 - 1e-4


def test_what_is_not_tiny_stays_and_so_do_slopes_of_inflows() -> None:
    slope = np.array([-3.0, 1e-12, 1e-12])
    value, kept = without_tiny(1e5, slope=slope, state=np.array([1.0, 2.0, 3.0]), upper=np.array([5.0, 50.0]))
    assert kept.tolist() == [-3.0, 0.0, 1e-12]
    assert value == pytest.approx(1e5 - 2e-12)
