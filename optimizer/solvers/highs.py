"""One HiGHS model that is solved again and again: only right-hand sides, bounds, costs and cut rows change.

A solve starts from the basis of the last one, which is what makes it fast and also what decides between equally good
vertices: the objective is a function of the program alone, a dual only up to degeneracy. Serving, where a decision must
not depend on its neighbors, starts from a stored basis instead (`policies.recourse.linear`).

Nothing is read from a solve whose status is not *optimal*. Where the warm solve ends otherwise, the rungs of a ladder
are climbed: without the basis, with presolve, by interior point with and without presolve. Each rung that helped is
counted; when none helps, the error says which program it was and what each rung said.

A warm basis gathers rounding error, and *optimal* does not tell: in 2 % of the warm solves of a stage with hundreds of
cuts, columns missed an equation by more than 1e-6, and by up to 4e-4, while HiGHS reported an infeasibility of 4e-8.
So columns are multiplied out before they are handed over, and solved for anew from scratch where they do not add up.
"""

# n column, m row, M moved row, B batch

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import highspy
import numpy as np
from numpy.typing import NDArray

from optimizer.solvers.program import Floats, Integers, LinearProgram, rows_of_entries
from policies.errors import Unable
from policies.recourse.linear import quiet_model
from policies.recourse.program import Sparse

WARM: Final[Mapping[str, str]] = {"presolve": "off", "solver": "simplex"}
RUNGS: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("cleared", WARM),
    ("presolved", {"presolve": "on", "solver": "simplex"}),
    ("interior_point_presolved", {"presolve": "on", "solver": "ipx"}),
    ("interior_point", {"presolve": "off", "solver": "ipx"}),
)
"""What is tried, in this order, after a warm solve that did not end in an optimum; each forgets basis and solution."""

REFRESHED: Final = "refreshed"
"""Counted among the recoveries: columns of a warm optimum that missed a row, solved for anew from scratch."""

RESIDUAL: Final = 1e-6
"""How far columns may miss a row's value, as a share of it where it is above one: ten times HiGHS's own tolerance."""

_OPTIMAL: Final = highspy.HighsModelStatus.kOptimal
_NO_LIMIT: Final = 2**31 - 1


class UnableToSolve(Unable):
    """A program has no optimum, or the solver does not find it on any rung."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Optima:
    """Hold what was read of B solves: objective [B], columns [B, n], row_duals [B, m], column_duals [B, n]."""

    objective: Floats
    columns: Floats
    row_duals: Floats
    column_duals: Floats


class WarmSolver:
    """Solve one program for many right-hand sides; not to be shared between threads.

    Attributes:
        solves: how often `solve` was called.
        recoveries: how often each rung of `RUNGS` helped, by its name, and how often columns were `REFRESHED`.
    """

    def __init__(
        self,
        program: LinearProgram,
        *,
        moved_rows: Integers | None = None,
        options: Mapping[str, str | int | float | bool] | None = None,
        presolve_first: bool = False,
    ) -> None:
        """Pass the program once; `moved_rows` [M] are the equations whose right-hand sides `solve` takes.

        `options` are HiGHS's, on top of `WARM`; solves run on one thread whatever they say. `presolve_first` presolves
        the first solve, which has no basis to start from: worth it for large programs.

        Raises:
            ValueError: HiGHS does not take the program or an option.
        """
        self.program = program
        self.solves = 0
        self.recoveries: Counter[str] = Counter()
        self._moved = np.zeros(0, np.int32) if moved_rows is None else np.asarray(moved_rows, dtype=np.int32)
        self._warm = {**WARM, **(options or {})}
        self._is_to_presolve = presolve_first
        self._model = quiet_model()
        self._model.setOptionValue("simplex_iteration_limit", _NO_LIMIT)
        self._set(self._warm)
        if self._model.passModel(to_highs(program)) == highspy.HighsStatus.kError:
            raise ValueError("HiGHS does not take the program")
        self._is_read_safe = False
        self._row_of_entry = rows_of_entries(program.matrix)
        self._multiplied_rows = program.row_lower.size

    @property
    def rows(self) -> int:
        """Return the number m of rows, added ones included."""
        return int(self._model.getNumRow())

    @property
    def iterations(self) -> int:
        """Return the simplex iterations of the last solve."""
        return int(self._model.getInfo().simplex_iteration_count)

    def solve(self, rhs: Floats | None = None, *, where: str | Callable[[], str] = "the program") -> float:
        """Set the right-hand sides [M] of the moved rows, solve, and return the objective.

        `where` names the program in an error: stage, noise and state. A function is only called then.

        Raises:
            UnableToSolve: no rung found an optimum.
        """
        if rhs is not None:
            self._model.changeRowsBounds(self._moved.size, self._moved, rhs, rhs)
        self.solves += 1
        self._run()
        status = self._model.getModelStatus()
        if status != _OPTIMAL:
            self._climb(status, where)
        self._is_read_safe = True
        return float(self._model.getObjectiveValue())

    def solve_many(self, rhs_BM: Floats, *, where: Callable[[int], str] = "program {}".format) -> Optima:
        """Solve for each row of `rhs_BM` float64 [B, M], in their order, and return what was found.

        Raises:
            UnableToSolve: no rung found an optimum for a row; `where` of its number names it.
        """
        count, n, m = rhs_BM.shape[0], self.program.cost.size, self.rows
        objective, columns = np.empty(count), np.empty((count, n))
        row_duals, column_duals = np.empty((count, m)), np.empty((count, n))
        for at in range(count):
            self.solve(rhs_BM[at], where=lambda at=at: where(at))  # type: ignore[misc]
            columns[at] = self.columns()
            objective[at] = self._model.getObjectiveValue()
            row_duals[at], column_duals[at] = self.row_duals(), self.column_duals()
        return Optima(objective=objective, columns=columns, row_duals=row_duals, column_duals=column_duals)

    def columns(self) -> Floats:
        """Return the columns' values at the last optimum, float64 [n], solved for anew where they miss a row.

        What is read after it, duals included, belongs to the same optimum.

        Raises:
            UnableToSolve: they miss a row, and no rung found the optimum again.
        """
        columns = np.array(self._solution().col_value)
        if self._residual(columns) <= RESIDUAL:
            return columns
        self._refresh()
        return np.array(self._solution().col_value)

    def row_duals(self) -> Floats:
        """Return the derivative of the objective by each row's right-hand side, float64 [m] (see `signs`)."""
        return np.array(self._solution().row_dual)

    def column_duals(self) -> Floats:
        """Return the derivative of the objective by the bound that holds each column, float64 [n] (see `signs`)."""
        return np.array(self._solution().col_dual)

    def set_row_bounds(self, rows: Integers, *, lower: Floats, upper: Floats) -> None:
        """Change the bounds of some rows; arrays of one length."""
        self._is_read_safe = False
        self._model.changeRowsBounds(rows.size, rows, lower, upper)

    def set_column_bounds(self, columns: Integers, *, lower: Floats, upper: Floats) -> None:
        """Change the bounds of some columns; arrays of one length."""
        self._is_read_safe = False
        self._model.changeColsBounds(columns.size, columns, lower, upper)

    def set_costs(self, columns: Integers, *, costs: Floats) -> None:
        """Change the costs of some columns; arrays of one length."""
        self._is_read_safe = False
        self._model.changeColsCost(columns.size, columns, costs)

    def add_rows(self, matrix: Sparse, *, lower: Floats, upper: Floats) -> Integers:
        """Add rows at the end (cuts, for one), keep the basis, and return their places, int32."""
        self._is_read_safe = False
        before = self.rows
        self._model.addRows(lower.size, lower, upper, matrix.data.size, matrix.indptr[:-1], matrix.indices, matrix.data)
        return np.arange(before, self.rows, dtype=np.int32)

    def delete_rows(self, rows: Integers) -> None:
        """Delete rows; those behind move up. Deleting a row that holds costs the basis, so delete in batches."""
        self._is_read_safe = False
        self._model.deleteRows(rows.size, np.asarray(rows, dtype=np.int32))
        self._multiplied_rows = min(self._multiplied_rows, int(rows.min(initial=self._multiplied_rows)))

    @property
    def basis(self) -> highspy.HighsBasis:
        """Return the basis of the last solve, to be set again later."""
        basis: highspy.HighsBasis = self._model.getBasis()
        return basis

    @basis.setter
    def basis(self, basis: highspy.HighsBasis) -> None:
        """Let the next solve start from a basis and from nothing else."""
        self.clear()
        self._model.setBasis(basis)

    def statuses(self) -> NDArray[np.int8]:
        """Return where the basis of the last solve puts each column and then each row, int8 [n + m], in HiGHS's codes.

        Source: HiGHS, `HighsBasisStatus`: 0 at the lower bound, 1 basic, 2 at the upper bound, 3 free at zero.
        """
        basis = self.basis
        return np.array([status.value for status in basis.col_status + basis.row_status], dtype=np.int8)

    def clear(self) -> None:
        """Forget basis and solution: the next solve is cold."""
        self._is_read_safe = False
        self._model.clearSolver()

    def _run(self) -> None:
        if not self._is_to_presolve:
            self._model.run()
            return
        self._is_to_presolve = False
        self._set({"presolve": "on"})
        self._model.run()
        self._set(self._warm)

    def _climb(self, first: highspy.HighsModelStatus, where: str | Callable[[], str]) -> None:
        self._is_read_safe = False
        said = [f"warm: {self._model.modelStatusToString(first)}"]
        for name, options in RUNGS:
            self._model.clearSolver()
            self._set(options)
            self._model.run()
            status = self._model.getModelStatus()
            self._set(self._warm)
            if status == _OPTIMAL:
                self.recoveries[name] += 1
                return
            said.append(f"{name}: {self._model.modelStatusToString(status)}")
        self._model.clearSolver()
        named = where if isinstance(where, str) else where()
        raise UnableToSolve(f"expected an optimum of {named}, HiGHS says {'; '.join(said)}")

    def _residual(self, columns: Floats) -> float:
        """Return by how much columns miss the program's rows at most, up to the first row that was deleted."""
        matrix, count = self.program.matrix, self._multiplied_rows
        products = matrix.data * columns[matrix.indices]
        found = np.bincount(self._row_of_entry, weights=products, minlength=self.program.row_lower.size)[:count]
        told = np.array(self._solution().row_value)[:count]
        return float((np.abs(found - told) / np.maximum(np.abs(told), 1.0)).max(initial=0.0))

    def _refresh(self) -> None:
        self._is_read_safe = False
        self._model.clearSolver()
        self._model.run()
        status = self._model.getModelStatus()
        if status != _OPTIMAL:
            self._climb(status, "a program that was optimal before")
        self.recoveries[REFRESHED] += 1
        self._is_read_safe = True

    def _solution(self) -> highspy.HighsSolution:
        if not self._is_read_safe:
            raise ValueError("nothing may be read before a solve that ended in an optimum")
        solution: highspy.HighsSolution = self._model.getSolution()
        return solution

    def _set(self, options: Mapping[str, str | int | float | bool]) -> None:
        for name, value in options.items():
            if self._model.setOptionValue(name, value) != highspy.HighsStatus.kOk:
                raise ValueError(f"HiGHS does not take the option {name} = {value!r}")


def to_highs(program: LinearProgram) -> highspy.HighsLp:
    """Return the program in HiGHS's own form."""
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = program.cost.size, program.row_lower.size
    lp.offset_ = program.offset
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = program.cost, program.column_lower, program.column_upper
    lp.row_lower_, lp.row_upper_ = program.row_lower, program.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = lp.num_col_, lp.num_row_
    lp.a_matrix_.start_, lp.a_matrix_.index_ = program.matrix.indptr, program.matrix.indices
    lp.a_matrix_.value_ = program.matrix.data
    return lp
