"""The sign of every dual, said once: a dual is the derivative of the least cost.

* `row_duals[i]` = d(least cost) / d(right-hand side of row i): positive where a larger right-hand side costs more. Of a
  row a ≤ b that binds it is ≤ 0, of a ≥ b it is ≥ 0. Multiplying a row by −1 multiplies its dual by −1.
* `column_duals[j]` = d(least cost) / d(the bound that holds column j): ≥ 0 at a lower bound, ≤ 0 at an upper one. For a
  column that is held at a target it is the derivative by the target.
* At an optimum  column_duals = cost − matrixᵀ row_duals.

HiGHS answers in these signs, and so does Pyomo's suffix `dual` over it. A dual of a degenerate program is one of many;
each of them is a subgradient and satisfies strong duality, which is what the functions below compute.
"""

# n column, m row

import numpy as np

from optimizer.solvers.program import Floats, LinearProgram, rows_of_entries


def reduced_costs(program: LinearProgram, row_duals: Floats) -> Floats:
    """Return cost − matrixᵀ row_duals, float64 [n]: the column duals that belong to row duals float64 [m]."""
    products = program.matrix.data * row_duals[rows_of_entries(program.matrix)]
    return program.cost - np.bincount(program.matrix.indices, weights=products, minlength=program.cost.size)


def dual_objective(
    program: LinearProgram, row_duals: Floats, *, column_duals: Floats | None = None, tolerance: float = 1e-9
) -> float:
    """Return the bound on the least cost that row duals float64 [m] prove; at an optimum it is the least cost.

    Each dual takes the bound that its sign points to; −inf where that bound is infinite, for such duals prove nothing,
    unless the dual is rounding error: at most `tolerance`, in the program's cost per unit. Column duals that are not
    given follow from the row duals.
    """
    columns = reduced_costs(program, row_duals) if column_duals is None else column_duals
    held_rows = _held(row_duals, program.row_lower, program.row_upper, tolerance)
    held_columns = _held(columns, program.column_lower, program.column_upper, tolerance)
    return program.offset + held_rows + held_columns


def _held(duals: Floats, lower: Floats, upper: Floats, tolerance: float) -> float:
    bounds = np.where(duals > 0, lower, upper)
    counts = (duals != 0) & (np.isfinite(bounds) | (np.abs(duals) > tolerance))
    return float(np.sum(np.multiply(duals, bounds, where=counts, out=np.zeros_like(duals))))
