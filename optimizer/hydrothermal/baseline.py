"""The baseline of hydrothermal dispatch: `penstock baseline hydrothermal --case DIR --stages N --stage-hours H`.

Where nature has one choice at every stage, the deterministic equivalent is the exact answer. Elsewhere SDDP trains a
policy, whose bound and simulated cost are reported (`sddp`).
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from optimizer.baseline_report import BaselineReport
from optimizer.hydrothermal.baseline_settings import Settings
from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.sddp.baseline import solve_by_sddp
from optimizer.hydrothermal.stage import compile_stage
from optimizer.training.progress import Progress
from policies.errors import UsageProblem

DOMAIN = "hydrothermal"


class UnableToBaseline(UsageProblem):
    """The case is not one that the baseline can solve as it was asked to."""


def solve(
    settings: Settings, *, progress: Progress, cpu_clock: Callable[[], float] = time.process_time
) -> BaselineReport:
    """Solve a case over a horizon.

    Raises:
        UsageProblem: the case is not there, or what is asked does not go with it.
        ContentRefused: the files of the case, of cuts or of scenario numbers are not what they must be; the message
            names file and field.
        Unable: the solver finds no optimum, or a checkpoint is of another training.
    """
    case = load_case(
        Path(settings.case),
        stage_hours=settings.stage_hours,
        load_scale=settings.load_scale,
        initial_storage=settings.initial_storage,
    )
    if case.is_deterministic:
        _check_certain(settings)
        return _deterministic(case, settings=settings, progress=progress)
    return solve_by_sddp(case, settings=settings, progress=progress, cpu_clock=cpu_clock)


def _check_certain(settings: Settings) -> None:
    """Refuse what only a policy can have: the cost of a certain case is found without one."""
    for name in ("cuts", "cuts_out", "checkpoint", "scenario_inflows"):
        if getattr(settings, name) is not None:
            raise UnableToBaseline(
                f"{name}: expected a case in which nature has a choice; {settings.case} has one inflow scenario for "
                "each stage, so its cost is found at once, without cuts"
            )


def _deterministic(case: Case, *, settings: Settings, progress: Progress) -> BaselineReport:
    assert isinstance(case.inflow, InflowTable)  # what `is_deterministic` says
    stages = settings.stages
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
        stage_costs=tuple(found.stage_costs[0, : settings.report_stages].tolist()),
        details={
            "case": case.name,
            "stage_hours": case.stage_hours,
            "load_scale": case.load_scale,
            "volume_units": case.units.volume,
            "final_volumes": dict(zip(case.hydro_names, volume.tolist(), strict=True)),
        },
    )
