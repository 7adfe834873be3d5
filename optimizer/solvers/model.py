"""A readable Pyomo model becomes arrays, once; every solve after that is the solver's own.

The names of rows and columns are those of the model's components. Parameters are read at their present values: what
changes from solve to solve is a bound of a row or column, which the caller finds by its block.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from pyomo.core import Constraint, Objective, Var, minimize, value
from pyomo.repn import generate_standard_repn

from optimizer.solvers.program import Floats, LinearProgram
from policies.recourse.program import Sparse

Entry = tuple[int, int, float]


def compile_model(model: Any) -> LinearProgram:
    """Return a linear Pyomo model as arrays: columns and rows in the order in which the model declares them.

    `model` is a `pyomo.environ.ConcreteModel` of continuous variables with one objective to be minimized. Rows with
    two bounds stay one row; constants move to the right-hand side.

    Raises:
        ValueError: the model is not linear, a variable is fixed or not continuous, or there is not exactly one
            objective to be minimized.
    """
    variables = list(model.component_data_objects(Var, active=True))
    places = {id(variable): at for at, variable in enumerate(variables)}
    for variable in variables:
        _check_variable(variable)
    cost, offset = _objective(model, places)
    rows = list(model.component_data_objects(Constraint, active=True))
    entries, bounds = _rows(rows, places)
    return LinearProgram(
        cost=cost,
        offset=offset,
        column_lower=np.array([_bound(variable.lb, -np.inf) for variable in variables]),
        column_upper=np.array([_bound(variable.ub, np.inf) for variable in variables]),
        row_lower=bounds[:, 0].copy(),
        row_upper=bounds[:, 1].copy(),
        matrix=Sparse.from_entries(len(rows), entries),
        column_names=tuple(variable.name for variable in variables),
        row_names=tuple(row.name for row in rows),
    )


def _check_variable(variable: Any) -> None:
    if variable.fixed or not variable.is_continuous():
        raise ValueError(f"{variable.name}: expected a free continuous variable; give it bounds instead of fixing it")


def _objective(model: Any, places: dict[int, int]) -> tuple[Floats, float]:
    objectives = list(model.component_data_objects(Objective, active=True))
    if len(objectives) != 1 or objectives[0].sense != minimize:
        raise ValueError(f"expected one objective to be minimized, found {[one.name for one in objectives]}")
    cost = np.zeros(len(places))
    offset, terms = _linear(objectives[0].expr, objectives[0].name, places)
    for place, coefficient in terms:
        cost[place] += coefficient
    return cost, offset


def _rows(rows: list[Any], places: dict[int, int]) -> tuple[list[Entry], Floats]:
    entries: list[Entry] = []
    bounds = np.empty((len(rows), 2))
    for at, row in enumerate(rows):
        constant, terms = _linear(row.body, row.name, places)
        entries += [(at, place, coefficient) for place, coefficient in terms]
        bounds[at] = _bound(row.lower, -np.inf) - constant, _bound(row.upper, np.inf) - constant
    return entries, bounds


def _linear(expression: Any, name: str, places: dict[int, int]) -> tuple[float, Iterator[tuple[int, float]]]:
    representation = generate_standard_repn(expression, compute_values=True, quadratic=False)
    if not representation.is_linear():
        raise ValueError(f"{name}: expected a linear expression, found {expression}")
    terms = zip(representation.linear_vars, representation.linear_coefs, strict=True)
    return float(representation.constant), (
        (places[id(variable)], float(coefficient)) for variable, coefficient in terms if coefficient != 0.0
    )


def _bound(bound: Any, missing: float) -> float:
    return missing if bound is None else float(value(bound))
