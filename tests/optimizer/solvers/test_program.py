import numpy as np

from optimizer.solvers.program import LinearProgram
from policies.recourse.program import Sparse


def _program() -> LinearProgram:
    return LinearProgram(
        cost=np.array([1.0, 2.0, 3.0]),
        offset=4.0,
        column_lower=np.zeros(3),
        column_upper=np.full(3, np.inf),
        row_lower=np.zeros(2),
        row_upper=np.ones(2),
        matrix=Sparse.from_entries(2, [(0, 0, 5.0), (1, 0, 6.0), (1, 2, 7.0)]),
        column_names=("water[a]", "water[b]", "waterfall"),
        row_names=("water[a]", "total"),
    )


def test_a_block_is_what_bears_its_name_and_not_what_begins_like_it() -> None:
    program = _program()
    assert program.columns_of("water").tolist() == [0, 1]
    assert program.columns_of("waterfall").tolist() == [2]
    assert program.rows_of("total").tolist() == [1]
    assert program.rows_of("absent").tolist() == []


def test_the_dense_matrix_has_every_entry_in_its_place() -> None:
    assert _program().dense().tolist() == [[5.0, 0.0, 0.0], [6.0, 0.0, 7.0]]


def test_other_row_bounds_leave_everything_else() -> None:
    program = _program()
    moved = program.with_rows(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert (moved.row_lower.tolist(), moved.row_upper.tolist()) == ([1.0, 2.0], [3.0, 4.0])
    assert moved.matrix is program.matrix


def test_one_more_column_stands_last_and_in_no_row() -> None:
    program = _program().with_column("cost_to_go", cost=1.0, lower=-2.0, upper=np.inf)
    assert program.columns_of("cost_to_go").tolist() == [3]
    assert (program.cost[3], program.column_lower[3], program.column_upper[3]) == (1.0, -2.0, np.inf)
    assert program.dense()[:, 3].tolist() == [0.0, 0.0]
