"""The smallest program that uses everything a parametric program has; its optimum is known by hand.

Columns: first and second generator (at most 4 and 9), water kept (held at the proposal), water released (at most 5).
Rows: generation + release = load; kept + released = volume. The first generator costs 1 + fuel, the second 30.
"""

import numpy as np

from policies.recourse.program import ParametricProgram, Readout, Sparse
from policies.spec import ActionSet, Field, Output, PolicySpec, RecourseSpec

FIRST, SECOND, KEPT, RELEASED = range(4)
BALANCE, WATER = range(2)


def small_program() -> ParametricProgram:
    """Return the program; parameters: volume, load, fuel, proposal. Its stored basis is the slack basis."""
    matrix = [(BALANCE, FIRST, 1.0), (BALANCE, SECOND, 1.0), (BALANCE, RELEASED, 1.0)]
    matrix += [(WATER, KEPT, 1.0), (WATER, RELEASED, 1.0)]
    kept = Sparse.from_entries(4, [(KEPT, 3, 1.0)])
    return ParametricProgram(
        cost=np.array([1.0, 30.0, 0.0, 0.0]),
        column_lower=np.zeros(4),
        column_upper=np.array([4.0, 9.0, 0.0, 5.0]),
        row_lower=np.zeros(2),
        row_upper=np.zeros(2),
        matrix=Sparse.from_entries(2, matrix),
        row_map=Sparse.from_entries(2, [(BALANCE, 1, 1.0), (WATER, 0, 1.0)]),
        column_lower_map=kept,
        column_upper_map=kept,
        cost_map=Sparse.from_entries(4, [(FIRST, 2, 1.0)]),
        parameters=("request:volume", "request:load", "request:fuel", "proposed:0"),
        readouts=(
            Readout(name="cost", source="objective", indices=np.zeros(1, np.int32), scale=np.ones(1)),
            Readout(name="power", source="column", indices=np.array([0, 1], np.int32), scale=np.full(2, 100.0)),
            Readout(name="price", source="row_dual", indices=np.array([BALANCE], np.int32), scale=np.ones(1)),
            Readout(name="target_value", source="column_dual", indices=np.array([KEPT], np.int32), scale=np.ones(1)),
        ),
        applied_columns=np.zeros(0, np.int32),
        basis_columns=np.zeros(4, np.int32),
        basis_rows=np.ones(2, np.int32),
    )


def small_spec() -> PolicySpec:
    """Return the spec of the small program."""
    names = ("fuel", "load", "volume")
    return PolicySpec(
        domain="small",
        fields=tuple(Field(name=name, lower=0.0, upper=100.0) for name in names),
        actions=ActionSet(kind="quantity", names=("kept",), units=("hm3",), lower=(0.0,), upper=(100.0,)),
        recourse=RecourseSpec(
            kind="linear",
            outputs=(
                Output(name="cost", units="USD"),
                Output(name="power", units="MW", names=("first", "second")),
                Output(name="price", units="USD/MW"),
                Output(name="target_value", units="USD/hm3"),
            ),
        ),
    )
