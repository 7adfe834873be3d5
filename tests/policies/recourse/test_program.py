from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from policies.npz import save_npz
from policies.recourse.contract import RecourseRefused
from policies.recourse.program import Affine, ParametricProgram, Sparse, touched
from tests.helpers.small_program import small_program

Entries = list[tuple[int, int, float]]


@st.composite
def entries(draw: st.DrawFn) -> Entries:
    places = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), unique=True))
    return [(row, column, draw(st.floats(min_value=-9.0, max_value=9.0))) for row, column in places]


def dense(found: Entries) -> NDArray[np.float64]:
    matrix = np.zeros((5, 3))
    for row, column, value in found:
        matrix[row, column] = value
    return matrix


@settings(max_examples=40)
@given(entries(), st.integers(min_value=0, max_value=2**32 - 1))
def test_an_affine_map_is_the_base_and_the_matrix_product(found: Entries, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base, values = rng.normal(size=5), rng.normal(size=(4, 3))
    sparse = Sparse.from_entries(5, found)
    rows = touched(sparse)
    expected = (base + values @ dense(found).T)[:, rows]
    assert Affine(base, sparse, entries=rows).evaluate(values) == pytest.approx(expected, abs=1e-12)
    assert set(rows.tolist()) == {row for row, _, _ in found}


def test_an_infinite_bound_stays_infinite_wherever_it_is_moved() -> None:
    affine = Affine(np.array([np.inf]), Sparse.from_entries(1, [(0, 0, 1.0)]), entries=np.zeros(1, np.int32))
    assert affine.evaluate(np.array([[-5.0]])).tolist() == [[np.inf]]


def test_a_place_given_twice_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        Sparse.from_entries(2, [(0, 1, 1.0), (0, 1, 2.0)])


def test_writing_what_was_read_gives_the_same_bytes() -> None:
    arrays = small_program().to_arrays()
    assert save_npz(ParametricProgram.from_arrays(arrays).to_arrays()) == save_npz(arrays)


def test_maps_without_entries_are_left_out() -> None:
    program = small_program()
    arrays = program.to_arrays()
    assert "cost_map_data" in arrays
    rest = {name: values for name, values in arrays.items() if not name.startswith("cost_map")}
    assert not any(name.startswith("cost_map") for name in ParametricProgram.from_arrays(rest).to_arrays())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cost", np.array([1.0, np.inf, 0.0, 0.0]), "'cost': expected finite"),
        ("cost", np.array([1.0, np.nan, 0.0, 0.0]), "'cost': expected numbers, found NaN at 1"),
        ("cost", np.zeros((2, 2)), "'cost': expected a vector"),
        ("cost", np.array(["a", "b", "c", "d"]), "'cost': expected a vector"),
        ("column_upper", np.array([4.0, 9.0, 0.0]), "'column_upper': expected a vector of 4"),
        ("column_upper", np.array([4.0, -9.0, 0.0, 5.0]), "column 1: lower 0.0 exceeds upper -9.0"),
        ("row_upper", np.array([0.0, -1.0]), "row 1: lower 0.0 exceeds upper -1.0"),
        ("matrix_indices", np.array([0, 1, 4, 2, 3]), r"'matrix_indices': expected integers in \[0, 4\)"),
        ("matrix_indptr", np.array([0, 4, 3]), "'matrix_indptr': expected to rise from 0 to 5"),
        ("matrix_indptr", np.array([0, 3, 4]), "'matrix_indptr': expected to rise from 0 to 5"),
        ("matrix_data", np.array([1.0, 1.0, np.inf, 1.0, 1.0]), "'matrix_data': expected finite"),
        ("row_map_indices", np.array([1, 4]), r"'row_map_indices': expected integers in \[0, 4\)"),
        ("basis_columns", np.array([0, 0, 0, 5]), r"'basis_columns': expected integers in \[0, 5\)"),
        ("applied_columns", np.array([-1]), r"'applied_columns': expected integers in \[0, 4\)"),
        ("output_sources", np.array(["slack"] * 4), "expected a source of .*, found 'slack'"),
        ("output_indices", np.array([0, 0, 1, 2, 2]), "'price': row_dual has 2 entries"),
        ("parameters", np.zeros(4), "'parameters': expected a vector"),
    ],
)
def test_an_array_that_does_not_fit_is_refused_by_name(name: str, value: NDArray[Any], message: str) -> None:
    with pytest.raises(RecourseRefused, match=message):
        ParametricProgram.from_arrays(small_program().to_arrays() | {name: value})
