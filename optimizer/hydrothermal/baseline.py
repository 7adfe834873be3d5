"""The baseline of hydrothermal dispatch: `penstock baseline hydrothermal --case DIR --stages N --stage-hours H`.

Where nature has one choice at every stage, the deterministic equivalent is the exact answer.
"""

from pathlib import Path

import numpy as np

from optimizer.baseline_report import BaselineReport
from optimizer.hydrothermal.baseline_settings import Settings
from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.stage import compile_stage
from optimizer.training.progress import Progress
from policies.errors import UsageProblem

DOMAIN = "hydrothermal"


class UnableToBaseline(UsageProblem):
    """The case is not one that the baseline can solve as it was asked to."""


def solve(settings: Settings, *, progress: Progress) -> BaselineReport:
    """Solve a case over a horizon.

    Raises:
        UsageProblem: the case is not there, or nature has a choice in it.
        ContentRefused: the files of the case are not what they must be; the message names file and field.
        Unable: the solver finds no optimum.
    """
    case = load_case(
        Path(settings.case),
        stage_hours=settings.stage_hours,
        load_scale=settings.load_scale,
        initial_storage=settings.initial_storage,
    )
    return _deterministic(case, stages=settings.stages, progress=progress)


def _deterministic(case: Case, *, stages: int, progress: Progress) -> BaselineReport:
    if not (case.is_deterministic and isinstance(case.inflow, InflowTable)):
        raise UnableToBaseline(
            f"expected a case with one inflow scenario for each stage, found several in {case.name!r}: its cost "
            "depends on a policy"
        )
    progress.start("deterministic equivalent", total=1)
    arrays = compile_stage(case)
    inflow = case.inflow.paths(np.zeros((stages, 1), dtype=np.int64))
    found = DeterministicEquivalent(arrays, stages=stages).solve(inflow)
    objective = float(found.objective[0])
    progress.finish(f"cost {objective:.6g} {case.units.cost}")
    volume = found.columns[0, -1, arrays.volume_columns]
    return BaselineReport(
        domain=DOMAIN,
        method="deterministic equivalent",
        stages=stages,
        cost_units=case.units.cost,
        objective=objective,
        lower_bound=objective,
        simulated_mean=objective,
        standard_error=0.0,
        stage_costs=tuple(found.stage_costs[0].tolist()),
        details={
            "case": case.name,
            "stage_hours": case.stage_hours,
            "load_scale": case.load_scale,
            "volume_units": case.units.volume,
            "final_volumes": dict(zip(case.hydro_names, volume.tolist(), strict=True)),
        },
    )
