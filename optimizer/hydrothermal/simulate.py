"""Policies of hydrothermal dispatch on common scenarios: `penstock simulate hydrothermal --cuts FILE --case DIR …`.

Every policy meets the same inflows, and the water it leaves is credited by one value function, SDDP's cost to go after
the last reported stage. A trained policy is run as it is served: graph and recourse of the artifact decide, HiGHS
prices.
"""

# B scenario, T reported stage, R reservoir

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.judge.artifact import ServedPolicy
from optimizer.hydrothermal.judge.course import Course
from optimizer.hydrothermal.judge.foresight import lower_bound, no_costs_to_go
from optimizer.hydrothermal.judge.judged import Judged
from optimizer.hydrothermal.judge.requests import write_requests
from optimizer.hydrothermal.judge.scenarios import judged_inflow
from optimizer.hydrothermal.judge.standing import standing_of
from optimizer.hydrothermal.sddp.cuts import CostToGo
from optimizer.hydrothermal.sddp.cuts_file import read_cuts
from optimizer.hydrothermal.sddp.train import cost_floors
from optimizer.hydrothermal.simulate_settings import Settings
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.simulation_report import SimulationReport
from optimizer.training.progress import Progress
from policies.artifact import load_artifact
from policies.errors import UsageProblem

DOMAIN: Final = "hydrothermal"
TS_DDR, SDDP, GREEDY = "ts_ddr", "sddp", "greedy"
BOUND_SOURCE: Final = "SDDP's first stage with its cuts"
REDUCED_BOUND_SOURCE: Final = "SDDP's first stage with its cuts, of inflows reduced to choices: an estimate"


class UnableToSimulate(UsageProblem):
    """What is to be compared is not there, or does not fit together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Policies:
    """Hold the policies that are compared: SDDP's by name, the reference first, and the artifact's, if there is one."""

    by_cuts: Mapping[str, Sequence[CostToGo]]
    served: ServedPolicy | None


def simulate(settings: Settings, *, progress: Progress) -> SimulationReport:
    """Run the policies and say what each costs beside SDDP.

    Raises:
        UsageProblem: a file is missing, or the files are of different horizons or cases.
        ContentRefused: a file does not hold what it must; the message names it.
        Unable: the artifact is refused, or a solver finds no optimum.
    """
    if settings.report is not None:
        import optimizer.hydrothermal.simulate_report  # noqa: F401  # a missing library is told before any work
    case = load_case(
        Path(settings.case),
        stage_hours=settings.stage_hours,
        load_scale=settings.load_scale,
        initial_storage=settings.initial_storage,
    )
    arrays = compile_stage(case)
    policies = _load_policies(settings, arrays)
    judged = _judged(settings, arrays, credit=policies.by_cuts[SDDP][settings.reported - 1], progress=progress)
    courses = list(_run(judged, policies))
    bound = lower_bound(arrays, policies.by_cuts[SDDP])
    report = _report(settings, courses, case=case, scenarios=len(judged.inflow), bound=bound)
    return _with_files(report, settings, judged, courses, policies)


def _load_policies(settings: Settings, arrays: StageArrays) -> Policies:
    """Read what is compared; the artifact first, since it is checked the soonest."""
    case, served = arrays.case, None
    if settings.artifact is not None:
        served = ServedPolicy(load_artifact(Path(settings.artifact)), case=case, stages=settings.stages)
    files = {SDDP: settings.cuts, **dict(_named(text) for text in settings.other_cuts)}
    by_cuts: dict[str, Sequence[CostToGo]] = {
        name: _read_cuts(Path(path), arrays=arrays, stages=settings.stages) for name, path in files.items()
    }
    if settings.greedy:
        by_cuts[GREEDY] = no_costs_to_go(stages=settings.stages, reservoirs=arrays.reservoirs)
    return Policies(by_cuts=by_cuts, served=served)


def _named(text: str) -> tuple[str, str]:
    name, is_there, path = text.partition("=")
    if not (name and is_there and path) or name in (TS_DDR, SDDP, GREEDY):
        raise UnableToSimulate(f"--other-cuts must be NAME=FILE with a name of its own, found {text!r}")
    return name, path


def _read_cuts(path: Path, *, arrays: StageArrays, stages: int) -> Sequence[CostToGo]:
    floors = cost_floors(arrays, stages=stages)
    return read_cuts(path, stages=stages, reservoirs=arrays.reservoirs, floors=floors)


def _judged(settings: Settings, arrays: StageArrays, *, credit: CostToGo, progress: Progress) -> Judged:
    inflow_BTR = judged_inflow(
        arrays.case,
        stages=settings.reported,
        indices=None if settings.scenario_indices is None else Path(settings.scenario_indices),
        inflows=None if settings.scenario_inflows is None else Path(settings.scenario_inflows),
        count=settings.scenarios,
        seed=settings.seed,
    )
    return Judged(arrays=arrays, inflow=inflow_BTR, horizon=settings.stages, credit=credit, progress=progress)


def _run(judged: Judged, policies: Policies) -> Iterator[Course]:
    if policies.served is not None:
        yield judged.served(TS_DDR, policies.served)
    for name, costs_to_go in policies.by_cuts.items():
        yield judged.by_cuts(name, costs_to_go)
    yield judged.foresight()


def _report(
    settings: Settings, courses: Sequence[Course], *, case: Case, scenarios: int, bound: float
) -> SimulationReport:
    reference = _reference(courses)
    return SimulationReport(
        domain=DOMAIN,
        stages=settings.stages,
        report_stages=settings.reported,
        scenarios=scenarios,
        cost_units=case.units.cost,
        deficit_units="MWh",
        confidence=settings.confidence,
        reference=reference.name,
        lower_bound=bound,
        lower_bound_source=BOUND_SOURCE if isinstance(case.inflow, InflowTable) else REDUCED_BOUND_SOURCE,
        policies=tuple(
            standing_of(course, reference=reference, case=case, confidence=settings.confidence, lower_bound=bound)
            for course in courses
        ),
        details={"case": case.name, "stage_hours": case.stage_hours, "load_scale": case.load_scale},
    )


def _reference(courses: Sequence[Course]) -> Course:
    return next(course for course in courses if course.name == SDDP)


def _with_files(
    report: SimulationReport, settings: Settings, judged: Judged, courses: Sequence[Course], policies: Policies
) -> SimulationReport:
    """Write what was asked for beside the figures, and say where."""
    written = {}
    if settings.requests_out is not None and policies.served is not None:
        case, volume_TR = judged.arrays.case, courses[0].volume[0]
        write_requests(
            Path(settings.requests_out),
            spec=policies.served.spec,
            case=case,
            volume_before_TR=np.vstack([case.volume_initial, volume_TR[:-1]]),
            inflow_TR=judged.inflow[0],
        )
        written["requests"] = settings.requests_out
    if settings.report is not None:
        from optimizer.hydrothermal.simulate_report import make_page
        from optimizer.report.page import write_page

        page = make_page(report, case=judged.arrays.case, courses=courses, reference=_reference(courses))
        write_page(page, Path(settings.report))
        written["report"] = settings.report
    return msgspec.structs.replace(report, details={**report.details, "written": written})
