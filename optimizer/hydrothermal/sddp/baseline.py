"""SDDP as a case's baseline: train, simulate on paths that training did not see, and report."""

# B path, T stage, R reservoir

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from optimizer.baseline_report import BaselineReport
from optimizer.hydrothermal.baseline_settings import Settings
from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.inflow import InflowTable, read_scenario_indices, read_scenario_inflows
from optimizer.hydrothermal.sddp.cuts_file import read_cuts, write_cuts
from optimizer.hydrothermal.sddp.noise import InflowNoise, forgetful_noise, remembering_noise, table_noise
from optimizer.hydrothermal.sddp.numerical import numerical_report
from optimizer.hydrothermal.sddp.policy import CutPolicy, Simulation
from optimizer.hydrothermal.sddp.risk import Risk
from optimizer.hydrothermal.sddp.run import Limits, Run, run
from optimizer.hydrothermal.sddp.table import foot_lines, head_lines, iteration_lines
from optimizer.hydrothermal.sddp.train import Trainer, Training
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.mean_interval import MeanInterval, mean_interval
from optimizer.training.progress import Progress
from policies.errors import UsageProblem

FRESH: Final = 1
"""Key that sets the draws of simulated paths apart from those of training (`fresh_paths`)."""

CHOICES: Final = 2
"""Key of the draws of paths that are made of training's own choices (`_cost_of_choices`)."""


class UnableToSimulate(UsageProblem):
    """The paths that were asked for do not go with the case."""


def solve_by_sddp(
    case: Case, *, settings: Settings, progress: Progress, cpu_clock: Callable[[], float]
) -> BaselineReport:
    """Train cuts, write them where asked, simulate the policy, and report.

    Raises:
        UsageProblem: files are missing, or paths are asked for that the case cannot have.
        ContentRefused: scenario numbers or cuts are not of this case.
        Unable: the solver finds no optimum, or the checkpoint is of another training.
    """
    flow_BTR = reported_paths(case, settings=settings)  # before hours of training, as it may be refused
    arrays = compile_stage(case)
    trainer = _trainer(arrays, settings)
    done = run(
        trainer,
        limits=_limits(settings),
        cpu_clock=cpu_clock,
        progress=progress,
        checkpoint=None if settings.checkpoint is None else Path(settings.checkpoint),
    )
    policy = CutPolicy(arrays, cuts=trainer.costs_to_go())
    if settings.cuts_out is not None:
        write_cuts(Path(settings.cuts_out), policy.cuts)
    simulation = policy.simulate(flow_BTR)
    foresight = _foresight(policy, flow_BTR) if settings.foresight else None
    choices = _cost_of_choices(policy, trainer, settings)
    bound = max(done.bound, policy.bound(trainer.noise.stages[0], risk=trainer.training.risk))
    return _report(trainer, replace(done, bound=bound), simulation, foresight, choices, settings)


def noise_of(case: Case, *, stages: int, inflow_model: str, noises: int, seed: int) -> InflowNoise:
    """Return what nature may do at each stage: the case's scenarios, or a reduction of its autoregression."""
    if isinstance(case.inflow, InflowTable):
        return table_noise(case.inflow, stages=stages)
    reduced = remembering_noise if inflow_model == "autoregressive" else forgetful_noise
    return reduced(case.inflow, stages=stages, choices=noises, seed=seed)


def fresh_paths(case: Case, *, count: int, stages: int, seed: int) -> Floats:
    """Draw paths of inflow of the case's own law, float64 [B, T, R], apart from all draws of training."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(FRESH,)))
    if isinstance(case.inflow, InflowTable):
        return case.inflow.paths(case.inflow.draw(count, stages=stages, generator=generator))
    return case.inflow.draw(count, stages=stages, generator=generator)


def reported_paths(case: Case, *, settings: Settings) -> Floats:
    """Return the paths that are simulated, float64 [B, T, R] of the reported stages: of a file, or fresh ones.

    Raises:
        UnableToSimulate: scenarios are chosen by number in a case that has none.
        CaseRefused: the numbers or inflows do not fit the case.
    """
    stages = settings.report_stages or settings.stages
    if settings.scenario_inflows is not None:
        return read_scenario_inflows(Path(settings.scenario_inflows), stages=stages, reservoirs=len(case.hydros))
    if settings.scenario_indices is None:
        return fresh_paths(case, count=settings.simulations, stages=stages, seed=settings.seed)
    if not isinstance(case.inflow, InflowTable):
        raise UnableToSimulate(
            f"scenario_indices: expected a case with numbered scenarios, the inflows of {case.name!r} follow an "
            "autoregression; set simulations instead, or bring the paths by scenario_inflows"
        )
    path = Path(settings.scenario_indices)
    return case.inflow.paths(read_scenario_indices(path, stages=stages, scenarios=case.inflow.scenarios))


def _trainer(arrays: StageArrays, settings: Settings) -> Trainer:
    noise = noise_of(
        arrays.case,
        stages=settings.stages,
        inflow_model=settings.inflow_model,
        noises=settings.noises,
        seed=settings.seed,
    )
    risk = Risk(expectation_weight=settings.expectation_weight, tail_share=settings.tail_share)
    trainer = Trainer(arrays, noise=noise, training=Training(seed=settings.seed, paths=settings.paths, risk=risk))
    if settings.cuts is not None:
        cuts = read_cuts(
            Path(settings.cuts),
            stages=settings.stages,
            reservoirs=arrays.reservoirs,
            has_memory=noise.has_memory,
            floors=trainer.floors,
        )
        trainer.take(cuts)
    return trainer


def _limits(settings: Settings) -> Limits:
    return Limits(
        iterations=settings.iterations,
        cpu_s=None if settings.cpu_minutes is None else 60.0 * settings.cpu_minutes,
        stall_iterations=settings.stall_iterations,
        stall_change=settings.stall_change,
    )


def _foresight(policy: CutPolicy, flow_BTR: Floats) -> Floats:
    """Return the cost of each path with perfect foresight, float64 [B]; water left has the policy's own value.

    Raises:
        UnableToSimulate: the reported stages end early where that value depends on each path's inflow.
    """
    stages = flow_BTR.shape[1]
    is_whole, after = stages == policy.stages, policy.cost_to_go(stages - 1)
    if not is_whole and after.has_memory:
        raise UnableToSimulate("foresight: with inflows as states all stages must be reported; leave out report_stages")
    value = None if is_whole else after.given()
    model = DeterministicEquivalent(policy.arrays, stages=stages, value=value, is_end=is_whole)
    return model.solve(flow_BTR).objective


def _cost_of_choices(policy: CutPolicy, trainer: Trainer, settings: Settings) -> MeanInterval | None:
    """Return what the policy costs where nature does what training took it to do; None where that is the case's law.

    The bound is of that reduced law, so this is the cost that it converges to. What is paid on paths of the true law is
    another number, however long one trains.
    """
    if isinstance(trainer.arrays.case.inflow, InflowTable):
        return None
    generator = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(CHOICES,)))
    flow_BTR = trainer.noise.paths(trainer.noise.draw(settings.simulations, generator=generator))
    return mean_interval(policy.simulate(flow_BTR).costs.sum(axis=1))


def _report(
    trainer: Trainer,
    done: Run,
    simulation: Simulation,
    foresight: Floats | None,
    choices: MeanInterval | None,
    settings: Settings,
) -> BaselineReport:
    case, costs_B = trainer.arrays.case, simulation.costs.sum(axis=1)
    found, ranges = mean_interval(costs_B), numerical_report(trainer.arrays, noise=trainer.noise)
    told = _told(found, simulation.costs.shape[1], trainer.stages, is_given=_is_given(settings))
    return BaselineReport(
        domain="hydrothermal",
        method=_method(trainer),
        stages=trainer.stages,
        cost_units=case.units.cost,
        lower_bound=done.bound,
        simulated_mean=found.mean,
        standard_error=found.standard_error,
        stage_costs=tuple(simulation.costs.mean(axis=0).tolist()),
        log=(
            *head_lines(trainer, ranges=ranges),
            *iteration_lines(done.rows),
            *foot_lines(
                done,
                trainer,
                ranges=ranges,
                simulation=told,
                choices=_told_choices(choices),
                foresight=_told_foresight(foresight),
            ),
        ),
        details={
            "case": case.name,
            "stage_hours": case.stage_hours,
            "load_scale": case.load_scale,
            "volume_units": case.units.volume,
            **_training_details(trainer, done),
            **_simulation_details(simulation, found),
            **_choices_details(choices),
            **_foresight_details(simulation, foresight),
            "numerical_report": msgspec.to_builtins(ranges),
        },
    )


def _is_given(settings: Settings) -> bool:
    return settings.scenario_indices is not None or settings.scenario_inflows is not None


def _method(trainer: Trainer) -> str:
    inflows = "inflows as states" if trainer.noise.has_memory else "independent inflows"
    risk = "" if trainer.training.risk.is_neutral else ", risk-adjusted"
    return f"SDDP with {inflows}{risk}"


def _told(found: MeanInterval, stages: int, horizon: int, *, is_given: bool) -> str:
    which = f" of the first {stages} stages" if stages < horizon else ""
    paths = "given paths" if is_given else "fresh paths"
    return f"{found.mean:.8e} [{found.low:.6e}, {found.high:.6e}]{which}, 95 % t-interval of {found.count} {paths}"


def _told_choices(choices: MeanInterval | None) -> str | None:
    if choices is None:
        return None
    return f"{choices.mean:.8e} [{choices.low:.6e}, {choices.high:.6e}] on {choices.count} paths of training's choices"


def _told_foresight(foresight: Floats | None) -> str | None:
    if foresight is None:
        return None
    found = mean_interval(foresight)
    return f"{found.mean:.8e} [{found.low:.6e}, {found.high:.6e}], the same paths, water left at the policy's value"


def _training_details(trainer: Trainer, done: Run) -> dict[str, Any]:
    risk = trainer.training.risk
    return {
        "status": done.status,
        "is_bound_of_the_mean": risk.is_neutral,
        "expectation_weight": risk.expectation_weight,
        "tail_share": risk.tail_share,
        "solves": done.rows[-1].solves,
        "training_cpu_s": done.rows[-1].cpu_s,
        "cuts_held": trainer.cuts_held,
        "recoveries": dict(trainer.recoveries),
        "iterations": msgspec.to_builtins(done.rows),
    }


def _simulation_details(simulation: Simulation, found: MeanInterval) -> dict[str, Any]:
    return {
        "report_stages": simulation.costs.shape[1],
        "paths": found.count,
        "interval": [found.low, found.high],
        "terminal_mean": float(simulation.trajectories.terminal.mean()),
        "deficit_mean_mw_stages": float(simulation.deficit.sum(axis=1).mean()),
        "simulation_recoveries": simulation.recoveries,
    }


def _choices_details(choices: MeanInterval | None) -> dict[str, Any]:
    if choices is None:
        return {}
    return {
        "choices_mean": choices.mean,
        "choices_standard_error": choices.standard_error,
        "choices_interval": [choices.low, choices.high],
    }


def _foresight_details(simulation: Simulation, foresight: Floats | None) -> dict[str, Any]:
    if foresight is None:
        return {}
    found, gap = mean_interval(foresight), mean_interval(simulation.trajectories.objective - foresight)
    return {
        "foresight_mean": found.mean,
        "foresight_standard_error": found.standard_error,
        "gap_to_foresight": gap.mean,
        "gap_to_foresight_interval": [gap.low, gap.high],
    }
