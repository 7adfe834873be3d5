import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from policies.recourse.contract import Applied, RecourseRefused
from policies.recourse.load import load_recourse
from policies.recourse.rounding import RoundingRecourse, load_rounding, rounding_arrays
from policies.spec import ActionSet, Field, Output, PolicySpec, RecourseSpec
from tests.contracts.recourse_suite import Arrays, Batch, RecourseSuite

Floats = NDArray[np.float64]


def order_spec(components: int, *, outputs: tuple[Output, ...] = ()) -> PolicySpec:
    names = tuple(f"item_{index}" for index in range(components))
    return PolicySpec(
        domain="inventory",
        fields=(Field(name="space", units="units", lower=0.0, upper=1e6),),
        actions=ActionSet(
            kind="quantity",
            names=names,
            units=("units",) * components,
            lower=(0.0,) * components,
            upper=(1e6,) * components,
        ),
        recourse=RecourseSpec(kind="rounding", outputs=outputs),
    )


def round_all(
    proposed: Floats,
    *,
    multiple: list[float],
    lower: list[float] | None = None,
    upper: list[float] | None = None,
    capacity: float | None = None,
) -> Applied:
    size = len(multiple)
    recourse = RoundingRecourse(
        multiple=np.array(multiple),
        lower=np.array(lower or [0.0] * size),
        upper=np.array(upper or [np.inf] * size),
        capacity=capacity,
        spec=order_spec(size),
    )
    return recourse.apply(proposed, parameters={})


def round_row(*proposed: float, **limits: list[float] | float) -> list[float]:
    applied = round_all(np.array([proposed]), **limits)  # type: ignore[arg-type]
    assert not applied.faults
    return [float(value) for value in applied.values[0]]


class TestSharedCapacityOfTheRequest(RecourseSuite):
    kind = "rounding"

    def arrays(self) -> Arrays:
        return rounding_arrays(
            multiple=np.array([1.0, 0.5, 12.0, 0.1]),
            lower=np.array([2.0, 0.0, 0.0, 0.0]),
            upper=np.array([40.0, 60.0, 120.0, np.inf]),
            capacity="request:space",
        )

    def spec(self) -> PolicySpec:
        return order_spec(4)

    def draw(self, count: int, *, seed: int) -> Batch:
        rng = np.random.default_rng(seed)
        return rng.uniform(-5.0, 80.0, (count, 4)), {"request": rng.uniform(5.0, 200.0, (count, 1))}

    def spoil(self, batch: Batch, row: int) -> None:
        batch[1]["request"][row] = 1.5


def load_with(**changes: float | str) -> RoundingRecourse:
    arrays = rounding_arrays(multiple=np.ones(2), lower=np.zeros(2), upper=np.full(2, 9.0))
    del arrays["capacity"]
    added = {name: np.array(value) for name, value in changes.items()}
    return load_rounding(arrays | added, spec=order_spec(2))


def test_a_fixed_capacity_is_read_from_the_arrays() -> None:
    applied = load_with(capacity=7.5).apply(np.array([[5.0, 5.0]]), parameters={})
    assert applied.values.tolist() == [[3.0, 4.0]]


def test_a_capacity_that_is_said_twice_or_not_at_all_is_refused() -> None:
    for changes in ({}, {"capacity": 7.5, "capacity_parameter": "request:space"}):
        with pytest.raises(RecourseRefused, match="either 'capacity'"):
            load_with(**changes)  # type: ignore[arg-type]


def test_halves_go_to_the_even_count() -> None:
    assert round_row(0.5, 1.5, 2.5, 3.5, multiple=[1.0] * 4) == [0.0, 2.0, 2.0, 4.0]


def test_halves_of_decimals_are_halves() -> None:
    assert round_row(0.15, 0.25, 0.35, multiple=[0.1] * 3) == [0.2, 0.2, 0.4]


def test_quantities_are_the_numbers_nearest_to_their_decimals() -> None:
    assert round_row(0.3, 0.7, 1.1, multiple=[0.1] * 3) == [0.3, 0.7, 1.1]  # 3 * 0.1 is 0.30000000000000004


def test_bounds_off_the_grid_count_only_the_multiples_within() -> None:
    assert round_row(0.0, 99.0, multiple=[5.0, 5.0], lower=[7.0, 0.0], upper=[20.0, 23.0]) == [10.0, 20.0]


def test_a_negative_proposal_is_no_order() -> None:
    assert round_row(-3.0, multiple=[1.0]) == [0.0]


def test_a_capacity_is_taken_from_the_component_that_stands_highest_above_its_proposal() -> None:
    assert round_row(2.6, 3.9, 1.0, multiple=[1.0] * 3, capacity=7.0) == [2.0, 4.0, 1.0]


def test_ties_are_taken_from_the_first_component() -> None:
    assert round_row(2.0, 2.0, 2.0, multiple=[1.0] * 3, capacity=4.0) == [1.0, 1.0, 2.0]


def test_a_large_excess_is_shared_alike_down_to_the_minima() -> None:
    found = round_row(1_000.0, 2_000.0, 3_000.0, multiple=[1.0] * 3, lower=[900.0, 0.0, 0.0], capacity=1_900.0)
    assert found == [900.0, 0.0, 1_000.0]


def test_what_a_large_multiple_frees_beyond_need_is_handed_back_where_it_fits() -> None:
    assert round_row(50.0, 24.0, multiple=[50.0, 1.0], capacity=40.0) == [0.0, 24.0]


def test_a_sum_of_decimals_meets_its_capacity_exactly() -> None:
    assert round_row(0.1, 0.2, multiple=[0.1] * 2, capacity=0.3) == [0.1, 0.2]  # 0.1 + 0.2 exceeds 0.3 as floats


def test_a_capacity_of_a_decimal_is_not_cut_by_its_binary_form() -> None:
    assert round_row(0.29, multiple=[0.01], capacity=0.29) == [0.29]  # 0.29 * 100 is 28.999999999999996


def test_the_status_says_what_was_done() -> None:
    proposed = np.array([[1.0, 2.0], [1.2, 2.0], [4.0, 4.0]])
    assert round_all(proposed, multiple=[1.0] * 2, capacity=6.0).status == ("kept", "rounded", "reduced")


def test_a_capacity_below_the_minima_is_a_fault_that_says_both() -> None:
    applied = round_all(np.array([[3.0, 3.0]]), multiple=[1.0] * 2, lower=[2.0, 2.5], capacity=4.0)
    assert applied.faults == {0: "expected a capacity of at least 5.0 for the smallest quantities, found 4.0"}


grids = st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0, 6.0, 12.0])
amounts = st.floats(min_value=-10.0, max_value=300.0)
rooms = st.floats(min_value=0.0, max_value=600.0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Floats, list[float], list[float], float]:
    size = draw(st.integers(min_value=1, max_value=4))
    multiple = draw(st.lists(grids, min_size=size, max_size=size))
    upper = [step * draw(st.integers(min_value=0, max_value=40)) for step in multiple]
    rows = draw(st.lists(st.lists(amounts, min_size=size, max_size=size), min_size=1, max_size=4))
    return np.array(rows), multiple, upper, draw(rooms)


def exact(value: float) -> Fraction:
    return Fraction(repr(float(value)))


@given(cases())
def test_quantities_are_whole_multiples_within_bounds_and_capacity(
    case: tuple[Floats, list[float], list[float], float],
) -> None:
    proposed, multiple, upper, capacity = case
    for row in round_all(proposed, multiple=multiple, upper=upper, capacity=capacity).values:
        assert all((exact(value) / exact(step)).denominator == 1 for value, step in zip(row, multiple, strict=True))
        assert all(0 <= exact(value) <= exact(bound) for value, bound in zip(row, upper, strict=True))
        assert float(sum(map(exact, row))) <= capacity


@given(cases())
def test_what_is_feasible_is_kept(case: tuple[Floats, list[float], list[float], float]) -> None:
    proposed, multiple, upper, capacity = case
    once = round_all(proposed, multiple=multiple, upper=upper, capacity=capacity)
    twice = round_all(once.values, multiple=multiple, upper=upper, capacity=capacity)
    assert np.array_equal(twice.values, once.values)
    assert set(twice.status) == {"kept"}


@given(cases())
def test_without_a_binding_capacity_no_component_moves_by_more_than_half_a_multiple(
    case: tuple[Floats, list[float], list[float], float],
) -> None:
    proposed, multiple, upper, _ = case
    values = round_all(proposed, multiple=multiple, upper=upper).values
    inside = np.clip(proposed, 0.0, upper)
    assert (np.abs(values - inside) <= 0.5 * np.array(multiple) * (1 + 1e-9)).all()


@given(cases())
def test_no_component_is_further_below_its_unlimited_quantity_than_the_room_left_forces(
    case: tuple[Floats, list[float], list[float], float],
) -> None:
    proposed, multiple, upper, capacity = case
    free = round_all(proposed, multiple=multiple, upper=upper).values
    tight = round_all(proposed, multiple=multiple, upper=upper, capacity=capacity).values
    for row in range(len(proposed)):
        for at, step in enumerate(multiple):
            if tight[row, at] < free[row, at]:
                assert float(sum(map(exact, tight[row])) + exact(step)) > capacity
            assert tight[row, at] <= free[row, at]


@given(
    st.lists(st.floats(min_value=0.0, max_value=4.0), min_size=3, max_size=3),
    st.integers(min_value=0, max_value=9),
)
def test_with_equal_multiples_no_feasible_order_is_nearer(proposed: list[float], capacity: int) -> None:
    found = round_all(np.array([proposed]), multiple=[1.0] * 3, upper=[4.0] * 3, capacity=float(capacity)).values[0]
    orders = [order for order in itertools.product(range(5), repeat=3) if sum(order) <= capacity]
    nearest = min(float(np.square(np.array(order) - proposed).sum()) for order in orders)
    assert float(np.square(found - proposed).sum()) <= nearest + 1e-9


@given(
    st.lists(st.integers(min_value=0, max_value=400), min_size=2, max_size=4),
    st.integers(min_value=0, max_value=1_600),
)
def test_taking_many_steps_at_once_is_taking_them_one_by_one(counts: list[int], capacity: int) -> None:
    multiple = [1.0, 3.0, 1.0, 6.0][: len(counts)]
    proposed = np.array([[count * step for count, step in zip(counts, multiple, strict=True)]])
    found = round_all(proposed, multiple=multiple, capacity=float(capacity)).values[0]
    assert found.tolist() == reduced_one_by_one(proposed[0].tolist(), multiple, capacity)


def reduced_one_by_one(proposed: list[float], multiple: list[float], capacity: float) -> list[float]:
    """The rule of the module's docstring, word by word, for proposals that are whole multiples."""
    left = list(proposed)

    def key(at: int) -> float:
        return left[at] - 0.5 * multiple[at] - proposed[at]

    while sum(left) > capacity:
        at = max((at for at in range(len(left)) if left[at] > 0), key=key)
        left[at] -= multiple[at]
    for at in sorted(range(len(left)), key=key):
        while left[at] < proposed[at] and sum(left) + multiple[at] <= capacity:
            left[at] += multiple[at]
    return left


@pytest.mark.parametrize("multiple", [[0.0], [-1.0], [1e-10], [np.inf]])
def test_multiples_that_are_no_positive_decimals_are_refused(multiple: list[float]) -> None:
    with pytest.raises(RecourseRefused, match="multiple"):
        round_all(np.array([[1.0]]), multiple=multiple)


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 5.0), (6.0, 9.0), (5.0, 0.0)])
def test_bounds_without_a_multiple_are_refused(lower: float, upper: float) -> None:
    with pytest.raises(RecourseRefused, match="bounds"):
        round_all(np.array([[1.0]]), multiple=[5.0], lower=[lower], upper=[upper])


def test_a_capacity_parameter_that_the_spec_lacks_is_refused() -> None:
    one = np.ones(1)
    arrays = rounding_arrays(multiple=one, lower=one, upper=one, capacity="request:shelf")
    with pytest.raises(RecourseRefused, match="request:shelf"):
        load_recourse("rounding", arrays, order_spec(1))


def test_outputs_that_rounding_does_not_report_are_refused() -> None:
    one = np.ones(1)
    arrays = rounding_arrays(multiple=one, lower=one, upper=one)
    with pytest.raises(RecourseRefused, match="price"):
        load_recourse("rounding", arrays, order_spec(1, outputs=(Output(name="price"),)))


def test_an_unknown_kind_is_refused_and_the_known_ones_are_named() -> None:
    spec = order_spec(1)
    unknown = PolicySpec(domain=spec.domain, actions=spec.actions, recourse=RecourseSpec(kind="magic"))
    with pytest.raises(RecourseRefused, match="linear, rounding"):
        load_recourse("magic", {"kind": np.array("magic")}, unknown)
