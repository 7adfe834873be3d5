"""A linear model in MathOptFormat, solved as it stands: an oracle that shares no code with our own models."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import highspy
import numpy as np

_BOUNDS = {
    "EqualTo": ("value", "value"),
    "GreaterThan": ("lower", None),
    "LessThan": (None, "upper"),
    "Interval": ("lower", "upper"),
}


class MofModel:
    """Solve the model for other values of the variables that it fixes."""

    def __init__(self, path: Path) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        names = [variable["name"] for variable in document["variables"]]
        self._places = {name: at for at, name in enumerate(names)}
        self._model = highspy.Highs()
        self._model.setOptionValue("output_flag", False)
        self._lower, self._upper = np.full(len(names), -np.inf), np.full(len(names), np.inf)
        self._add_columns(document)
        for constraint in document["constraints"]:
            if constraint["function"]["type"] == "ScalarAffineFunction":
                self._add_row(constraint["function"], constraint["set"])

    def cost_of(self, variable: str) -> float:
        return float(self._cost[self._places[variable]])

    def solve(self, fixed: Mapping[str, float]) -> float:
        """Return the least cost with variables fixed at other values."""
        for name, value in fixed.items():
            self._model.changeColBounds(self._places[name], value, value)
        self._model.run()
        assert self._model.getModelStatus() == highspy.HighsModelStatus.kOptimal
        return float(self._model.getObjectiveValue())

    def set_cost(self, variable: str, cost: float) -> None:
        self._model.changeColCost(self._places[variable], cost)

    def _add_columns(self, document: Mapping[str, Any]) -> None:
        for constraint in document["constraints"]:
            if constraint["function"]["type"] == "Variable":
                at = self._places[constraint["function"]["name"]]
                lower, upper = _bounds(constraint["set"])
                self._lower[at], self._upper[at] = max(lower, self._lower[at]), min(upper, self._upper[at])
        self._cost = np.zeros(len(self._places))
        for term in document["objective"]["function"]["terms"]:
            self._cost[self._places[term["variable"]]] += term["coefficient"]
        self._model.addVars(len(self._places), self._lower, self._upper)
        self._model.changeColsCost(len(self._places), np.arange(len(self._places), dtype=np.int32), self._cost)

    def _add_row(self, function: Mapping[str, Any], within: Mapping[str, Any]) -> None:
        lower, upper = _bounds(within)
        terms = function["terms"]
        places = np.array([self._places[term["variable"]] for term in terms], dtype=np.int32)
        values = np.array([term["coefficient"] for term in terms], dtype=np.float64)
        constant = function["constant"]
        self._model.addRow(lower - constant, upper - constant, len(terms), places, values)


def _bounds(within: Mapping[str, Any]) -> tuple[float, float]:
    low, high = _BOUNDS[within["type"]]
    return (within[low] if low else -np.inf), (within[high] if high else np.inf)
