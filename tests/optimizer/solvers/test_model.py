from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

from optimizer.solvers.model import compile_model


def _model() -> Any:
    model = pyo.ConcreteModel()
    model.limit = pyo.Param(initialize=7.0, mutable=True)
    model.x = pyo.Var(["a", "b"], bounds=(0, None))
    model.y = pyo.Var(bounds=(-1, 2))
    model.cost = pyo.Objective(expr=3 * model.x["a"] + model.y + 10, sense=pyo.minimize)
    model.ranged = pyo.Constraint(expr=(1, model.x["a"] - 2 * model.y + 0.5, model.limit))
    model.equal = pyo.Constraint(expr=model.x["a"] + model.x["b"] == 4 + model.x["a"] + model.y)
    return model


def test_columns_rows_bounds_and_constants_are_those_of_the_model() -> None:
    program = compile_model(_model())
    assert program.column_names == ("x[a]", "x[b]", "y")
    assert program.row_names == ("ranged", "equal")
    assert (program.cost.tolist(), program.offset) == ([3.0, 0.0, 1.0], 10.0)
    assert program.column_lower.tolist() == [0.0, 0.0, -1.0]
    assert program.column_upper.tolist() == [np.inf, np.inf, 2.0]
    assert program.dense().tolist() == [[1.0, 0.0, -2.0], [0.0, 1.0, -1.0]]
    assert program.row_lower.tolist() == [0.5, 4.0]
    assert program.row_upper.tolist() == [6.5, 4.0]


def test_parameters_are_read_at_their_present_values() -> None:
    model = _model()
    model.limit = 20.0
    assert compile_model(model).row_upper[0] == 19.5


def test_what_is_switched_off_is_left_out() -> None:
    model = _model()
    model.ranged.deactivate()
    assert compile_model(model).row_names == ("equal",)


def test_a_product_of_variables_is_refused_by_name() -> None:
    model = _model()
    model.curve = pyo.Constraint(expr=model.x["a"] * model.y <= 1)
    with pytest.raises(ValueError, match="curve: expected a linear expression"):
        compile_model(model)


def test_a_whole_number_and_a_fixed_variable_are_refused_by_name() -> None:
    model = _model()
    model.y.fix(1.0)
    with pytest.raises(ValueError, match="y: expected a free continuous variable"):
        compile_model(model)
    model = _model()
    model.count = pyo.Var(domain=pyo.Integers)
    with pytest.raises(ValueError, match="count: expected a free continuous variable"):
        compile_model(model)


def test_a_reward_or_a_second_objective_is_refused() -> None:
    model = _model()
    model.cost.sense = pyo.maximize
    with pytest.raises(ValueError, match="one objective to be minimized"):
        compile_model(model)
    model = _model()
    model.second = pyo.Objective(expr=model.y)
    with pytest.raises(ValueError, match="found \\['cost', 'second'\\]"):
        compile_model(model)
