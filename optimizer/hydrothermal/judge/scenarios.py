"""The common scenarios that policies are judged on: by a table of scenario numbers, or drawn."""

# B scenario, T stage, R reservoir

from pathlib import Path
from typing import Final

import numpy as np

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.inflow import InflowTable, read_scenario_indices
from policies.errors import UsageProblem

_JUDGED: Final = 0x6A756467
"""Goes into the seed of every draw here, so that no training run with the same seed has seen these scenarios."""


class UnableToDraw(UsageProblem):
    """The scenarios cannot be had in the way they were asked for."""


def judged_inflow(case: Case, *, stages: int, indices: Path | None = None, count: int = 100, seed: int = 0) -> Floats:
    """Return the inflows of common scenarios, float64 [B, T, R], in the case's flow.

    Args:
        case: whose inflows they are.
        stages: T of them.
        indices: CSV of scenario numbers, where given; it is read for its first T rows.
        count: number of scenarios that are drawn otherwise.
        seed: of that draw. The same scenarios begin alike for any number of stages.

    Raises:
        UnableToDraw: the table is not there, or the case has no numbered scenarios.
        CaseRefused: the table is too short, or a number is not one of a scenario.
    """
    inflow = case.inflow
    if indices is None:
        generators = [np.random.default_rng([_JUDGED, seed, path]) for path in range(count)]
        return np.concatenate([_draw(case, stages, generator) for generator in generators])
    if not isinstance(inflow, InflowTable):
        raise UnableToDraw(f"the inflows of {case.name!r} have no numbered scenarios: let them be drawn, by a seed")
    if not indices.is_file():
        raise UnableToDraw(f"expected a table of scenario numbers at {indices}, found no file there")
    return inflow.paths(read_scenario_indices(indices, stages=stages, scenarios=inflow.scenarios))


def _draw(case: Case, stages: int, generator: np.random.Generator) -> Floats:
    if isinstance(case.inflow, InflowTable):
        return case.inflow.paths(case.inflow.draw(1, stages=stages, generator=generator))
    return case.inflow.draw(1, stages=stages, generator=generator)
