"""The common scenarios that policies are judged on: of a table of numbers or of inflows, or drawn."""

# B scenario, T stage, R reservoir

from pathlib import Path
from typing import Final

import numpy as np

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.inflow import InflowTable, read_scenario_indices, read_scenario_inflows
from policies.errors import UsageProblem

_JUDGED: Final = 0x6A756467
"""Goes into the seed of every draw here, so that no training run with the same seed has seen these scenarios."""


class UnableToDraw(UsageProblem):
    """The scenarios cannot be had in the way they were asked for."""


def judged_inflow(
    case: Case,
    *,
    stages: int,
    indices: Path | None = None,
    inflows: Path | None = None,
    count: int = 100,
    seed: int = 0,
) -> Floats:
    """Return the inflows of common scenarios, float64 [B, T, R], in the case's flow.

    Args:
        case: whose inflows they are.
        stages: T of them.
        indices: CSV of scenario numbers, where given; it is read for its first T rows.
        inflows: CSV of the inflows themselves, where given; likewise.
        count: number of scenarios that are drawn otherwise.
        seed: of that draw. The same scenarios begin alike for any number of stages.

    Raises:
        UnableToDraw: the table is not there, or the case has no numbered scenarios.
        CaseRefused: the table is too short or too wide, or a cell is no scenario's number or no inflow.
    """
    inflow = case.inflow
    if inflows is not None:
        return read_scenario_inflows(_there(inflows, "inflows"), stages=stages, reservoirs=len(case.hydros))
    if indices is None:
        generators = [np.random.default_rng([_JUDGED, seed, path]) for path in range(count)]
        return np.concatenate([_draw(case, stages, generator) for generator in generators])
    if not isinstance(inflow, InflowTable):
        raise UnableToDraw(
            f"the inflows of {case.name!r} have no numbered scenarios: let them be drawn, by a seed, or bring them by "
            "scenario_inflows"
        )
    table = _there(indices, "scenario numbers")
    return inflow.paths(read_scenario_indices(table, stages=stages, scenarios=inflow.scenarios))


def _there(path: Path, what: str) -> Path:
    if not path.is_file():
        raise UnableToDraw(f"expected a table of {what} at {path}, found no file there")
    return path


def _draw(case: Case, stages: int, generator: np.random.Generator) -> Floats:
    if isinstance(case.inflow, InflowTable):
        return case.inflow.paths(case.inflow.draw(1, stages=stages, generator=generator))
    return case.inflow.draw(1, stages=stages, generator=generator)
