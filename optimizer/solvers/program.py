"""A linear program as plain arrays, with a name for each row and column.

    minimize    offset + cost · x
    subject to  row_lower ≤ matrix x ≤ row_upper,  column_lower ≤ x ≤ column_upper

Rows and columns come in blocks, one for each component of the model they were compiled from: the block `water` holds
the rows `water[COR]`, `water[SIS]`, …, one after the other. The matrix is kept by compressed rows, in the form that
`policies.recourse.program` keeps it, so that a program can be exported as recourse without being turned around.
"""

# n column, m row, z nonzero

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from policies.recourse.program import Sparse

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearProgram:
    """Hold a program of n columns and m rows; bounds may be infinite, everything else is finite.

    Attributes:
        cost: float64 [n], of the objective, which is minimized.
        offset: constant of the objective.
        column_lower, column_upper: float64 [n].
        row_lower, row_upper: float64 [m]; equal where the row is an equation.
        matrix: [m, n] by compressed rows.
        column_names, row_names: n and m texts, `block` or `block[index]`.
    """

    cost: Floats
    offset: float
    column_lower: Floats
    column_upper: Floats
    row_lower: Floats
    row_upper: Floats
    matrix: Sparse
    column_names: tuple[str, ...]
    row_names: tuple[str, ...]

    def columns_of(self, block: str) -> Integers:
        """Return the places of a block's columns, int32, in the order of its indices; none where there is no block."""
        return _places(block, self.column_names)

    def rows_of(self, block: str) -> Integers:
        """Return the places of a block's rows, int32, in the order of its indices; none where there is no block."""
        return _places(block, self.row_names)

    def dense(self) -> Floats:
        """Return the matrix with its zeros, float64 [m, n]."""
        dense = np.zeros((self.row_lower.size, self.cost.size))
        dense[rows_of_entries(self.matrix), self.matrix.indices] = self.matrix.data
        return dense

    def with_rows(self, lower: Floats, upper: Floats) -> "LinearProgram":
        """Return the program with other row bounds, float64 [m] each."""
        return replace(self, row_lower=lower, row_upper=upper)

    def with_column(self, name: str, *, cost: float, lower: float, upper: float) -> "LinearProgram":
        """Return the program with one more column at the end, in no row yet: a cost to go before its first cut."""
        return replace(
            self,
            cost=np.append(self.cost, cost),
            column_lower=np.append(self.column_lower, lower),
            column_upper=np.append(self.column_upper, upper),
            column_names=(*self.column_names, name),
        )


def rows_of_entries(matrix: Sparse) -> Integers:
    """Return the row of each nonzero, int32 [z].

    >>> rows_of_entries(Sparse.from_entries(3, [(0, 1, 5.0), (2, 0, 1.0), (2, 1, 1.0)])).tolist()
    [0, 2, 2]
    """
    return np.repeat(np.arange(matrix.indptr.size - 1, dtype=np.int32), np.diff(matrix.indptr))


def _places(block: str, names: tuple[str, ...]) -> Integers:
    start = f"{block}["
    return np.array([at for at, name in enumerate(names) if name == block or name.startswith(start)], dtype=np.int32)
