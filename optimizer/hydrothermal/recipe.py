"""A policy of target volumes, learned by duals: `penstock train hydrothermal --case DIR --stages N --stage-hours H`.

What is written is an artifact: targets by ONNX with the reachable map inside, and the stage's program as recourse,
which makes of them a dispatch with prices and water values.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec
import torch

from optimizer.export import export_policy
from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.encoder import Encoder, RecurrentEncoder, WindowEncoder
from optimizer.hydrothermal.exactness import exactness
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.network import ServedTargets, TargetNetwork
from optimizer.hydrothermal.operate import operate
from optimizer.hydrothermal.problem import HydrothermalProblem
from optimizer.hydrothermal.recourse import stage_recourse
from optimizer.hydrothermal.rollout import roll_out, served_margin
from optimizer.hydrothermal.settings import STEPS_KEPT, Settings
from optimizer.hydrothermal.spec import DOMAIN, policy_spec
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.mean_interval import mean_interval
from optimizer.training.checkpoint import remove_checkpoints
from optimizer.training.dual import DualSettings, Trained, check_gradient
from optimizer.training.dual import train as train_by_duals
from optimizer.training.loop import Budget, choose_device, start_budget, torch_threads
from optimizer.training.progress import Progress
from optimizer.training.report import SimulatedReport, write_report
from policies.artifact import load_artifact
from policies.errors import UsageProblem
from policies.spec import PolicySpec

RECIPE: Final = DOMAIN
CONFIDENCE: Final = 0.95

_GATE_PATHS: Final = 3
_SEEDING_PATHS: Final = 2
_JUDGED_PATHS: Final = 32
_NOT_OF_THE_POLICY: Final = ("case", "device", "threads", "cpu_minutes", "resume")
"""Settings that say where and for how long, not what: they are left out of the artifact's provenance."""


class UnableToStart(UsageProblem):
    """What was asked of the recipe contradicts what it is."""


def train(
    log: Path | None,
    *,
    spec: PolicySpec | None,
    out: Path,
    settings: Settings,
    progress: Progress,
    wall_clock: Callable[[], float] = time.monotonic,
    cpu_clock: Callable[[], float] = time.process_time,
) -> SimulatedReport:
    """Train for a case and write the artifact into `out`, with `evaluation.json` beside its files.

    The budget counts everything from reading the case to the last step, the proof of the gradient included; judging
    and exporting come after it.

    Raises:
        UsageProblem: the case is not there, or a log or a spec is given.
        ContentRefused: the files of the case are not what they must be; the message names file and field.
        Unable: the gradient is not proven, a stage has no optimum, a checkpoint is of another run, or the artifact
            does not pass its gates.
    """
    if log is not None or spec is not None:
        raise UnableToStart(f"the recipe {RECIPE!r} simulates a case: it takes neither a log nor a spec")
    limit = None if settings.cpu_minutes is None else 60.0 * settings.cpu_minutes
    budget = start_budget(wall_clock, cpu_clock=cpu_clock, cpu_limit_s=limit)
    with torch_threads(settings.threads):
        arrays = compile_stage(_case(settings))
        trained, network, problem = _fit(arrays, settings, budget, progress, checkpoints=_checkpoints(out))
        spent_s = budget.cpu_s
        identity = export_network(network, arrays=arrays, settings=settings, folder=out)
        report = _report(trained, network, problem, identity, settings, budget, spent_s, folder=out)
    write_report(report, folder=out)
    if settings.resume and trained.stopped == "steps":
        remove_checkpoints(_checkpoints(out))
    return report


def export_network(network: TargetNetwork, *, arrays: StageArrays, settings: Settings, folder: Path) -> str:
    """Write the artifact of a trained network and return its identity.

    Raises:
        Unable: the graph or the recourse does not pass a gate.
    """
    case = arrays.case
    spec = policy_spec(case, stages=network.stages, history=steps_kept_of(settings, case))
    served = ServedTargets(network.cpu(), case=case, margin=served_margin(case, spec=spec))
    recourse = stage_recourse(arrays).to_arrays()
    return export_policy(served, spec=spec, folder=folder, provenance=_provenance(case, settings), recourse=recourse)


def encoder_of(settings: Settings, case: Case) -> Encoder | None:
    """Return what tells the policy of inflows, with its first weights; by itself none where they are independent."""
    kind, stages = _kind_of(settings, case), settings.stages
    if kind == "none":
        return None
    if kind == "window":
        return WindowEncoder(case, stages=stages, history=settings.history or 1)
    return RecurrentEncoder(case, stages=stages, width=settings.encoder_width, steps=steps_kept_of(settings, case))


def steps_kept_of(settings: Settings, case: Case) -> int:
    """Return how many inflows a request may bring.

    A recurrent summary is told of the whole horizon unless said otherwise: then one pass over a path trains all stages.
    """
    if settings.steps_kept is not None:
        return settings.steps_kept
    if _kind_of(settings, case) == "recurrent":
        return settings.stages
    return max(STEPS_KEPT, settings.history or 0)


def _kind_of(settings: Settings, case: Case) -> str:
    if settings.encoder != "auto":
        return settings.encoder
    if settings.history is not None:
        return "window" if settings.history else "none"
    return "none" if isinstance(case.inflow, InflowTable) else "recurrent"


def _case(settings: Settings) -> Case:
    return load_case(
        Path(settings.case),
        stage_hours=settings.stage_hours,
        load_scale=settings.load_scale,
        initial_storage=settings.initial_storage,
    )


def _checkpoints(out: Path) -> Path:
    return out.with_name(f"{out.name}.checkpoint")


def _fit(
    arrays: StageArrays, settings: Settings, budget: Budget, progress: Progress, *, checkpoints: Path
) -> tuple[Trained, TargetNetwork, HydrothermalProblem]:
    """Fill the cache, prove the gradient, train."""
    device = choose_device(settings.device)
    problem = HydrothermalProblem(arrays, stages=settings.stages, device=device)
    problem.seed_vertices(paths=_SEEDING_PATHS, seed=settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        encoder = encoder_of(settings, arrays.case)
        network = TargetNetwork(arrays.case, stages=settings.stages, width=settings.width, encoder=encoder)
    cosine = prove_gradient(network, problem, seed=settings.seed)
    network.to(device)
    trained = train_by_duals(
        network,
        problem=problem,
        settings=_dual_settings(settings),
        budget=budget,
        progress=progress,
        cosine=cosine,
        checkpoint=checkpoints / f"{RECIPE}.pt" if settings.resume else None,
        fingerprint=msgspec.json.encode(_provenance(arrays.case, settings)).decode(),
    )
    return trained, network, problem


def prove_gradient(network: TargetNetwork, problem: HydrothermalProblem, *, seed: int) -> float:
    """Return the cosine of the gradient with finite differences, in float64 on the CPU, at random weights.

    The network as it begins is flat in its last layer; there the proof would say nothing of the layers below.

    Raises:
        UnableToTrust: the gradient is not proven.
    """
    double = HydrothermalProblem(problem.arrays, stages=problem.stages, dtype=torch.float64)
    double.vertices.restore(problem.vertices.duals)
    moved = deepcopy(network).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        moved.to_score.copy_(0.1 * torch.randn(moved.to_score.shape, generator=generator, dtype=torch.float64))
    return check_gradient(
        moved, double, double.scenarios(_GATE_PATHS, split="validation", seed=seed), seed=seed, step=1e-7
    )


def _dual_settings(settings: Settings) -> DualSettings:
    return DualSettings(
        steps=settings.steps,
        batch_size=settings.batch_size,
        late_batch_size=settings.late_batch_size,
        learning_rate=settings.learning_rate,
        check_every=settings.check_every,
        held_out=settings.held_out,
        seed=settings.seed,
    )


def _provenance(case: Case, settings: Settings) -> dict[str, Any]:
    shaping = {name: v for name, v in msgspec.to_builtins(settings).items() if name not in _NOT_OF_THE_POLICY}
    return {"recipe": RECIPE, "case": case.name, "settings": shaping, "torch": str(torch.__version__)}


def _report(
    trained: Trained,
    network: TargetNetwork,
    problem: HydrothermalProblem,
    identity: str,
    settings: Settings,
    budget: Budget,
    spent_s: float,
    *,
    folder: Path,
) -> SimulatedReport:
    """Judge the exported policy on paths that neither training nor its looks saw, every stage by HiGHS."""
    arrays, case = problem.arrays, problem.case
    paths = problem.scenarios(_JUDGED_PATHS, split="test", seed=settings.seed).inflow.cpu().double().numpy()
    volumes = roll_out(load_artifact(folder).policy, arrays, paths)
    operation = operate(arrays, volumes, inflow_BTR=paths)
    cost = mean_interval(operation.cost.sum(axis=1), confidence=CONFIDENCE)
    details = {
        "case": case.name,
        "stages": settings.stages,
        "stage_hours": case.stage_hours,
        "gradient_cosine": trained.cosine,
        "training_cpu_s": spent_s,
        "vertices": problem.vertices.size,
        "bases": problem.vertices.bases.size,
        **{f"audited_{name}": count for name, count in asdict(problem.vertices.counts).items()},
        **asdict(exactness(problem.vertices, operation, volume_BTR=volumes, inflow_BTR=paths)),
        "deficit_mw": float(operation.deficit.sum(axis=1).mean()),
    }
    return SimulatedReport(
        recipe=RECIPE,
        identity=identity,
        cost_units=case.units.cost,
        mean_cost=cost.mean,
        low=cost.low,
        high=cost.high,
        confidence=CONFIDENCE,
        scenarios=len(paths),
        looks=trained.looks,
        steps=trained.steps,
        stopped=trained.stopped,
        device=str(problem.device),
        parameter_count=sum(parameter.numel() for parameter in network.parameters()),
        cpu_s=budget.cpu_s,
        wall_s=budget.wall_s,
        details=details,
    )
