"""Arrow columns as arrays: kinds that mean the same read the same, others are refused by name."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from policies.arrow import UnableToReadColumn, coded_texts, integers, list_array, lists, number_array, numbers, texts


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b", None, "a"]),
        pa.array(["a", "b", None, "a"], pa.large_string()),
        pa.array(["a", "b", None, "a"]).dictionary_encode(),
        pa.chunked_array([["a", "b"], [None, "a"]]),
        pa.chunked_array(
            [pa.array(["a", "b"]).dictionary_encode(), pa.array([None, "a"], pa.string()).dictionary_encode()]
        ),
    ],
)
def test_texts_read_alike_however_they_are_kept(column: Any) -> None:
    assert texts(column, name="x").tolist() == ["a", "b", None, "a"]
    coded = coded_texts(column, name="x")
    assert coded.words[coded.places].tolist() == ["a", "b", None, "a"]


def test_whole_numbers_are_ids() -> None:
    assert texts(pa.array([10, 9]), name="x").tolist() == ["10", "9"]


def test_null_and_nan_are_one_in_numbers() -> None:
    values = np.array([1.0, np.nan])
    column = number_array(values)
    assert column.null_count == 1
    np.testing.assert_array_equal(numbers(column, name="x"), values)


def test_lists_come_apart_and_together_again() -> None:
    column = pa.chunked_array([[[1.0, 2.0], None], [[], [3.0]]], type=pa.list_(pa.float64()))
    parts = lists(column, name="x")
    assert (parts.lengths.tolist(), parts.is_null.tolist()) == ([2, 0, 0, 1], [False, True, False, False])
    assert list_array(parts.lengths, parts.values, is_null=parts.is_null).to_pylist() == column.to_pylist()


@pytest.mark.parametrize(
    ("read", "column", "message"),
    [
        (texts, pa.array([0.5]), "x must hold texts, found double"),
        (numbers, pa.array(["a"]), "x must hold numbers, found string"),
        (integers, pa.array([1, None]), "found 1 nulls"),
        (integers, pa.array([0.5]), "found double"),
        (lists, pa.array([1]), "x must hold lists, found int64"),
    ],
)
def test_a_column_of_another_kind_is_refused_by_name(read: Any, column: Any, message: str) -> None:
    with pytest.raises(UnableToReadColumn, match=message):
        read(column, name="x")
