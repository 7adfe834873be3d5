"""A linear program as recourse, solved by HiGHS: the only importer of highspy on this floor.

Every solve forgets the last one and starts from the stored basis (`clearSolver`, then `setBasis`): in a degenerate
program a warm start ends in another vertex, and a decision would depend on its neighbors. An objective, a value or a
dual is read only after the status says optimal. A row that is not optimal at first is solved again by fresh models
(presolve, then interior point); the model that failed is thrown away, so that no later row can tell.

Words of the status: `optimal`, `optimal_after_presolve`, `optimal_after_interior_point`, `infeasible`, `not_finite`.
"""

# B batch, P parameter, n column, m row, N component of the quantity, E touched entry

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import highspy
import numpy as np
from numpy.typing import NDArray

from policies.recourse.contract import Applied, Parameters, RecourseRefused
from policies.recourse.parameters import ParameterReader
from policies.recourse.program import Affine, Floats, Integers, ParametricProgram, Source, touched
from policies.spec import PolicySpec

_DEVEX = 1
# Steepest edge prices every row anew from a given basis, which costs more than the few iterations that follow.
_FIRST: Mapping[str, str | int] = {
    "presolve": "off",
    "solver": "simplex",
    "simplex_dual_edge_weight_strategy": _DEVEX,
}
_RECOVERIES: tuple[tuple[str, Mapping[str, str | int]], ...] = (
    ("optimal_after_presolve", {"presolve": "on", "solver": "simplex"}),
    ("optimal_after_interior_point", {"presolve": "on", "solver": "ipx"}),
)
_ITERATION_LIMIT = 100_000  # a bound that no clock moves; stage programs take tens
_OPTIMAL = highspy.HighsModelStatus.kOptimal
_SOURCES: dict[str, Callable[[highspy.Highs, highspy.HighsSolution], Any]] = {
    "column": lambda model, solution: solution.col_value,
    "row_dual": lambda model, solution: solution.row_dual,
    "column_dual": lambda model, solution: solution.col_dual,
    "objective": lambda model, solution: model.getObjectiveValue(),
}
_STATUSES = tuple(highspy.HighsBasisStatus(code) for code in range(5))


class LinearRecourse:
    """Solve the program of each row and read the applied action and the outputs from its optimum.

    It keeps one HiGHS model: not to be shared between threads.
    """

    kind = "linear"

    def __init__(self, program: ParametricProgram, *, spec: PolicySpec) -> None:
        """Prepare the model; the spec says what the parameters and outputs are called.

        Raises:
            RecourseRefused: the program and the spec name different things, or HiGHS does not take the program.
        """
        _check_outputs(program, spec)
        self.outputs = spec.recourse.outputs if spec.recourse else ()
        self._layout = _Layout(program)
        self._reader = ParameterReader(program.parameters, spec=spec)
        self._changes = _Changes(program)
        self._solver = _Solver(program)

    def apply(
        self, proposed: NDArray[np.float64], *, parameters: Parameters, seeds: NDArray[np.uint64] | None = None
    ) -> Applied:
        """Solve one program per row (see `Recourse.apply`); `seeds` are not used."""
        z_BP, faults = self._reader.read_sound(proposed, parameters=parameters)
        status = ["not_finite" if row in faults else "" for row in range(z_BP.shape[0])]
        changes = self._changes.evaluate(z_BP)
        optima = _Optima(self._layout, rows=z_BP.shape[0])
        for row in range(z_BP.shape[0]):
            if row not in faults:
                status[row], detail = self._solver.solve(changes, row, optima)
                faults |= {row: detail} if detail else {}
        return self._read(proposed, optima, tuple(status), faults)

    def _read(self, proposed: Floats, optima: "_Optima", status: tuple[str, ...], faults: Mapping[int, str]) -> Applied:
        """Read values and outputs of all rows at once."""
        *found, applied = self._layout.read(optima)
        outputs = {
            output.name: values if output.names else values[:, 0]
            for output, values in zip(self.outputs, found, strict=True)
        }
        applied = applied if applied.shape[1] else proposed.copy()
        applied[list(faults)] = np.nan
        return Applied(values=applied, status=status, outputs=outputs, faults=faults)


def load_linear(arrays: Mapping[str, NDArray[Any]], *, spec: PolicySpec) -> LinearRecourse:
    """Return the recourse that `ParametricProgram.to_arrays` describes.

    Raises:
        RecourseRefused: an array is absent or wrong, or does not fit the spec.
    """
    return LinearRecourse(ParametricProgram.from_arrays(arrays), spec=spec)


def with_stored_basis(program: ParametricProgram, *, reference: Floats) -> ParametricProgram:
    """Return the program with the basis that is optimal at the parameters `reference` [P], where each solve will start.

    The basis changes speed and, among equally good vertices, which one is taken; it is part of the artifact.

    Raises:
        RecourseRefused: the program has no optimum at the reference.
    """
    changes = _Changes(program).evaluate(np.asarray(reference, dtype=np.float64)[None, :])
    model = _build(program, _FIRST)
    changes.push(model, 0)
    found = _run(model)
    if found != _OPTIMAL:
        raise RecourseRefused(f"no optimum at the reference parameters: HiGHS says {model.modelStatusToString(found)}")
    basis = model.getBasis()
    columns = np.array([int(status) for status in basis.col_status], dtype=np.int32)
    return replace(
        program, basis_columns=columns, basis_rows=np.array([int(s) for s in basis.row_status], dtype=np.int32)
    )


class _Move(NamedTuple):
    """A method of HiGHS that changes its program, the entries that it changes, and what they become."""

    method: str
    entries: Integers
    values: tuple[Affine, ...]


class _Changes:
    """The bounds and costs that parameters move; `evaluate` for a batch, then `push` row by row."""

    def __init__(self, program: ParametricProgram) -> None:
        rows = touched(program.row_map)
        columns = touched(program.column_lower_map, program.column_upper_map)
        costs = touched(program.cost_map)
        lower = Affine(program.row_lower, program.row_map, entries=rows)
        is_equal = np.array_equal(program.row_lower[rows], program.row_upper[rows])
        upper = lower if is_equal else Affine(program.row_upper, program.row_map, entries=rows)
        column_lower = Affine(program.column_lower, program.column_lower_map, entries=columns)
        column_upper = Affine(program.column_upper, program.column_upper_map, entries=columns)
        moves = (
            _Move("changeRowsBounds", rows, (lower, upper)),
            _Move("changeColsBounds", columns, (column_lower, column_upper)),
            _Move("changeColsCost", costs, (Affine(program.cost, program.cost_map, entries=costs),)),
        )
        self._moves = [move for move in moves if move.entries.size]

    def evaluate(self, z_BP: Floats) -> "_Batch":
        """Evaluate what parameters move, once where both bounds of all rows are the same."""
        batch = _Batch()
        for method, entries, affines in self._moves:
            found = {affine: affine.evaluate(z_BP) for affine in set(affines)}
            batch.add(method, entries, [found[affine] for affine in affines])
        return batch


class _Batch:
    """The moved bounds and costs of each row of a batch, [B, E] each."""

    def __init__(self) -> None:
        self._moves: list[tuple[str, Integers, list[Floats]]] = []

    def add(self, method: str, entries: Integers, values_BE: list[Floats]) -> None:
        """Add entries that a method of HiGHS sets to the values of a row."""
        self._moves.append((method, entries, values_BE))

    def push(self, model: highspy.Highs, row: int) -> None:
        """Set every bound and cost that parameters move to those of one row; nothing of an earlier row remains."""
        for method, entries, values_BE in self._moves:
            getattr(model, method)(entries.size, entries, *[values[row] for values in values_BE])


class _Layout:
    """Where an optimum's vectors stand side by side in one row, and where in it stands what is reported."""

    def __init__(self, program: ParametricProgram) -> None:
        sizes = {"column": program.cost.size, "column_dual": program.cost.size, "row_dual": program.row_lower.size}
        parts = [(one.source, one.indices, one.scale) for one in program.readouts]
        parts.append(("column", program.applied_columns, np.ones(program.applied_columns.size)))
        self.segments: dict[Source, slice] = {}
        self.width = 0
        for source in dict.fromkeys(source for source, indices, _ in parts if indices.size):
            self.segments[source] = slice(self.width, self.width + sizes.get(source, 1))
            self.width = self.segments[source].stop
        places = [self.segments[source].start + indices for source, indices, _ in parts if indices.size]
        self._places = np.concatenate([np.zeros(0, np.int32), *places])
        self._scale = np.concatenate([scale for _, _, scale in parts])
        ends = np.cumsum([scale.size for _, _, scale in parts]).tolist()
        self._cuts = [slice(end - scale.size, end) for end, (_, _, scale) in zip(ends, parts, strict=True)]

    def read(self, optima: "_Optima") -> list[Floats]:
        """Return the values of each readout and of the applied columns, [B, K] each.

        Every operation is elementwise, so no row sees another. Adding 0.0 after the scale, which may be negative,
        leaves no negative zero.
        """
        found = optima.values[:, self._places] * self._scale + 0.0
        return [found[:, cut] for cut in self._cuts]


class _Optima:
    """What is read of each row's optimum: whole vectors for the sources that are needed, NaN until solved."""

    def __init__(self, layout: _Layout, *, rows: int) -> None:
        self._segments = layout.segments
        self.values = np.full((rows, layout.width), np.nan)

    def take(self, model: highspy.Highs, row: int) -> None:
        """Read the optimum of a model into a row."""
        solution, values = model.getSolution(), self.values[row]
        for source, segment in self._segments.items():
            values[segment] = _SOURCES[source](model, solution)


class _Solver:
    """One HiGHS model that is set to a row, solved from the stored basis and read."""

    def __init__(self, program: ParametricProgram) -> None:
        self._program = program
        self._model = _build(self._program, _FIRST)
        self._basis = _own_basis(self._model, program)

    def solve(self, changes: _Batch, row: int, optima: _Optima) -> tuple[str, str]:
        """Solve one row; return its status and, when there is no optimum, what was found instead."""
        model = self._model
        changes.push(model, row)
        model.clearSolver()
        model.setBasis(self._basis)
        found = _run(model)
        if found == _OPTIMAL:
            optima.take(model, row)
            return "optimal", ""
        self._model = _build(self._program, _FIRST)
        return self._recover(changes, row, optima, first=model.modelStatusToString(found))

    def _recover(self, changes: _Batch, row: int, optima: _Optima, *, first: str) -> tuple[str, str]:
        findings = [first]
        for status, options in _RECOVERIES:
            model = _build(self._program, options)
            changes.push(model, row)
            found = _run(model)
            if found == _OPTIMAL:
                optima.take(model, row)
                return status, ""
            findings.append(model.modelStatusToString(found))
        tried = "from the stored basis, after presolve, by interior point"
        return "infeasible", f"expected an optimum of the linear recourse, HiGHS found {', '.join(findings)} ({tried})"


def _own_basis(model: highspy.Highs, program: ParametricProgram) -> highspy.HighsBasis:
    """Return the stored basis as one of HiGHS's own, which is no longer checked whenever it is set.

    HiGHS factorizes a foreign basis to see whether it is one, and exchanges what is singular. That looks at the matrix
    alone, so it is done once here; the solve, which factorizes it again, starts from the same basis and ends in the
    same bits as if it were foreign each time.
    """
    foreign = highspy.HighsBasis()
    foreign.col_status = [_STATUSES[code] for code in program.basis_columns]
    foreign.row_status = [_STATUSES[code] for code in program.basis_rows]
    foreign.valid = True
    model.setBasis(foreign)
    found, own = model.getBasis(), highspy.HighsBasis()
    own.col_status, own.row_status = list(found.col_status), list(found.row_status)
    own.valid, own.alien = True, False
    return own


def _run(model: highspy.Highs) -> highspy.HighsModelStatus:
    """Run and return the model's status; a run that fails outright has none."""
    return model.getModelStatus() if model.run() != highspy.HighsStatus.kError else highspy.HighsModelStatus.kNotset


def _build(program: ParametricProgram, options: Mapping[str, str | int]) -> highspy.Highs:
    model = quiet_model()
    for name, value in options.items():
        model.setOptionValue(name, value)
    if model.passModel(_to_highs(program)) == highspy.HighsStatus.kError:
        raise RecourseRefused("HiGHS does not take the linear program of recourse.npz; build it again")
    return model


def quiet_model() -> highspy.Highs:
    """Return an empty model that prints nothing and solves serially.

    HiGHS keeps one pool of threads per process and fails any run that asks for another size than the pool has. So the
    empty run asks for one thread, which sizes the pool if nobody has; after that any size will do, for a serial
    simplex uses none of it.
    """
    model = highspy.Highs()
    for name, value in (("output_flag", False), ("parallel", "off"), ("threads", 1)):
        model.setOptionValue(name, value)
    model.run()
    model.setOptionValue("threads", 0)
    model.setOptionValue("simplex_iteration_limit", _ITERATION_LIMIT)
    return model


def _to_highs(program: ParametricProgram) -> highspy.HighsLp:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = program.cost.size, program.row_lower.size
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = program.cost, program.column_lower, program.column_upper
    lp.row_lower_, lp.row_upper_ = program.row_lower, program.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = lp.num_col_, lp.num_row_
    lp.a_matrix_.start_, lp.a_matrix_.index_ = program.matrix.indptr, program.matrix.indices
    lp.a_matrix_.value_ = program.matrix.data
    return lp


def _check_outputs(program: ParametricProgram, spec: PolicySpec) -> None:
    said = [(output.name, max(1, len(output.names))) for output in spec.recourse.outputs] if spec.recourse else []
    found = [(readout.name, readout.scale.size) for readout in program.readouts]
    if said != found:
        raise RecourseRefused(f"recourse outputs (name, size): the spec says {said}, recourse.npz has {found}")
    size, quantity = program.applied_columns.size, len(spec.actions.names)
    if size not in (0, quantity):
        raise RecourseRefused(f"recourse array 'applied_columns': expected none or {quantity} columns, found {size}")
