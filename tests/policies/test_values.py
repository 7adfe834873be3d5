"""Values of fields: the short way over sound lists and the long way value by value are one encoder."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.columns import UnableToEncode
from policies.spec import Field
from policies.values import Block, Tally, encode_sequence, of_request

FIELDS = (
    Field(name="x", lower=-5, upper=5, outside="clip", missing=1.0),
    Field(name="v", width=2, lower=(0.0, -1.0), upper=(1.0, 0.0), outside="clip", missing=(0.5, -0.5)),
    Field(name="c", vocabulary=("red", "blue"), missing="blue"),
)
NUMBER = st.integers(-9, 9) | st.floats(-9, 9)
ROWS = st.lists(
    st.tuples(NUMBER, st.lists(NUMBER, min_size=2, max_size=2), st.sampled_from(["red", "blue", "green", ""])),
    max_size=6,
)


@given(rows=ROWS)
def test_the_short_way_and_the_long_way_give_the_same_bits(rows: list[tuple[Any, ...]]) -> None:
    columns = {name: [row[place] for row in rows] for place, name in enumerate("xvc")}
    short, long = Tally(), Tally()
    packed = Block(FIELDS).encode(columns, len(rows), short)
    spelled = Block(FIELDS).encode({name: tuple(column) for name, column in columns.items()}, len(rows), long)
    assert packed.tobytes() == spelled.tobytes()
    assert packed.flags.c_contiguous
    assert packed.shape == (len(rows), 4)
    assert short == long


@given(rows=ROWS)
def test_what_is_encoded_lies_within_the_bounds_and_each_mended_value_is_counted(rows: list[tuple[Any, ...]]) -> None:
    tally = Tally()
    block = Block(FIELDS)
    matrix = block.encode({name: [row[place] for row in rows] for place, name in enumerate("xvc")}, len(rows), tally)
    flat = [[float(x), float(v[0]), float(v[1])] for x, v, _ in rows]
    outside = sum(
        not low <= value <= high for row in flat for low, value, high in zip((-5, 0, -1), row, (5, 1, 0), strict=True)
    )
    assert tally == Tally(clipped=outside)
    assert ((matrix >= block.lower) & (matrix <= block.upper)).all()


def test_nulls_are_filled_one_count_each_and_an_absent_column_is_all_null() -> None:
    tally = Tally()
    matrix = Block(FIELDS).encode({"v": [None, [0, 0]], "c": ["red", None]}, 2, tally)
    assert matrix.tolist() == [[1.0, 0.5, -0.5, 1.0], [1.0, 0.0, 0.0, 2.0]]
    assert tally == Tally(filled=4)


def test_a_single_fill_stands_for_every_component_of_a_vector() -> None:
    field = Field(name="v", width=3, lower=0, upper=1, missing=0.5)
    assert Block((field,)).encode({"v": [None]}, 1, Tally()).tolist() == [[0.5, 0.5, 0.5]]


def test_rows_of_nan_in_an_array_stand_for_null() -> None:
    tally = Tally()
    columns = {"x": np.array([np.nan, 2.0]), "v": np.array([[np.nan, np.nan], [0.5, 0.0]]), "c": np.array(["red", "x"])}
    assert Block(FIELDS).encode(columns, 2, tally).tolist() == [[1.0, 0.5, -0.5, 1.0], [2.0, 0.5, 0.0, 0.0]]
    assert tally == Tally(filled=2)


def test_an_array_is_left_as_it_was() -> None:
    sent = np.array([np.nan, 99.0])
    Block(FIELDS[:1]).encode({"x": sent}, 2, Tally())
    assert np.isnan(sent[0])
    assert sent[1] == 99.0


@pytest.mark.parametrize(
    "values", [np.array([True, False]), np.array(["1", "2"]), np.array([[1.0, 2.0]]), np.array([1j])]
)
def test_an_array_of_another_kind_or_shape_is_refused(values: Any) -> None:
    with pytest.raises(UnableToEncode, match=r"fields\.x must") as caught:
        Block(FIELDS[:1]).encode({"x": values}, len(values), Tally())
    assert caught.value.fault.reason == "wrong_type"


def test_half_a_vector_of_nan_is_not_finite() -> None:
    with pytest.raises(UnableToEncode) as caught:
        Block(FIELDS[1:2]).encode({"v": np.array([[0.0, 0.0], [0.5, np.nan]])}, 2, Tally())
    assert caught.value.fault == ("not_finite", "fields.v:1 must be a finite number in [-1, 0], found nan")
    assert caught.value.row == 1


@pytest.mark.parametrize("value", [True, "a", None, 10**400, [1]])
@pytest.mark.parametrize("count", [3, 600])
def test_a_bad_value_is_found_among_few_and_among_many(value: object, count: int) -> None:
    field = Field(name="x", lower=0, upper=10)
    values: list[Any] = [float(n % 3) for n in range(count)]
    values[count // 2] = value
    with pytest.raises(UnableToEncode, match=r"fields\.x") as caught:
        Block((field,)).encode({"x": values}, count, Tally())
    assert caught.value.row == count // 2


@pytest.mark.parametrize("count", [2, 500])
def test_a_bool_within_a_vector_is_found_among_few_and_among_many(count: int) -> None:
    block = Block((Field(name="x", width=3, lower=0, upper=1),))
    vectors: list[list[Any]] = [[0.5, 1, 0] for _ in range(count)]
    assert block.encode({"x": vectors}, count, Tally()).tolist() == vectors
    vectors[-1] = [0.5, 0.5, True]
    with pytest.raises(UnableToEncode, match="x must be a number, found True") as refused:
        block.encode({"x": vectors}, count, Tally())
    assert refused.value.row == count - 1


def test_a_fault_in_a_sequence_names_the_request() -> None:
    field = Field(name="x", steps=3, lower=0, upper=1)
    with pytest.raises(UnableToEncode) as caught:
        encode_sequence(field, Block((field,)), [[], [0.1, 0.2], [0.3, 7.0]], Tally())
    assert caught.value.row == 2


def test_steps_that_are_left_out_are_not_looked_at() -> None:
    field = Field(name="x", steps=2, lower=0, upper=1)
    steps, lengths = encode_sequence(field, Block((field,)), [[99.0, "a", 0.25, 0.5]], Tally())
    assert steps.tolist() == [[[0.25], [0.5]]]
    assert lengths.tolist() == [2.0]


@pytest.mark.parametrize(("place", "row"), [(0, 1), (1, 1), (2, 3), (4, 3), (None, None)])
def test_a_place_among_all_values_is_turned_into_its_request(place: int | None, row: int | None) -> None:
    error = of_request(UnableToEncode("wrong_type", "d", row=place), np.array([0, 2, 0, 3]))
    assert error.row == row
