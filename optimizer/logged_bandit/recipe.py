"""A policy of choices, learned from any log with propensities: `penstock train logged_bandit --log LOG --out DIR`."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import torch

from optimizer.export import export_policy
from optimizer.logged_bandit.network import uniform_network
from optimizer.logged_bandit.settings import Settings
from optimizer.training.checkpoint import remove_checkpoints
from optimizer.training.logged import Learned, LearnSettings, learn
from optimizer.training.loop import Budget, LoopSettings, choose_device, start_budget, torch_threads
from optimizer.training.progress import Progress
from optimizer.training.report import TrainReport, write_report
from policies.errors import UsageProblem
from policies.feedback import Feedback, read_feedback
from policies.spec import PolicySpec

RECIPE = "logged_bandit"


class UnableToStart(UsageProblem):
    """What was asked of the recipe is incomplete or contradicts the log."""


_NOT_OF_THE_POLICY = ("device", "threads", "wall_limit_s", "cpu_limit_s", "resume")
"""Settings that say where and for how long, not what: they are left out of the artifact's provenance."""


def train(
    log: Path | None,
    *,
    spec: PolicySpec | None,
    out: Path,
    settings: Settings,
    progress: Progress,
    wall_clock: Callable[[], float] = time.monotonic,
    cpu_clock: Callable[[], float] = time.process_time,
) -> TrainReport:
    """Learn from a log and write the artifact into `out`, with `evaluation.json` beside its files.

    Raises:
        UsageProblem: no log is given, it is not there, or the reward to maximize is not clear.
        ContentRefused: the log does not hold what learning needs.
        Unable: a loss is not finite, a checkpoint is of another run, or the artifact does not pass its gates.
    """
    if log is None:
        raise UnableToStart(f"the recipe {RECIPE!r} learns from a log: name one with --log LOG.parquet")
    budget = start_budget(
        wall_clock, cpu_clock=cpu_clock, wall_limit_s=settings.wall_limit_s, cpu_limit_s=settings.cpu_limit_s
    )
    checkpoints = out.with_name(f"{out.name}.checkpoint")
    with torch_threads(settings.threads):
        feedback = read_feedback(log, spec=spec)
        reward = rewards_of(settings.reward, feedback=feedback)
        learned = learn(
            feedback,
            spec=_with_floor(feedback.spec, settings.floor),
            reward=reward,
            make_network=lambda one: uniform_network(one, width=settings.width, depth=settings.depth),
            settings=learn_settings(settings),
            device=choose_device(settings.device),
            budget=budget,
            progress=progress,
            checkpoints=checkpoints if settings.resume else None,
        )
        identity = export_policy(
            learned.module, spec=learned.spec, folder=out, provenance=_provenance(learned, settings, reward)
        )
    report = _report(learned, identity, settings, reward, budget)
    write_report(report, folder=out)
    if settings.resume and budget.spent() is None:
        remove_checkpoints(checkpoints)
    return report


def learn_settings(settings: Settings) -> LearnSettings:
    """Return the part of the settings that `training.logged` goes by."""
    return LearnSettings(
        objective=settings.objective,
        pulls=settings.pulls,
        weight_clip=settings.weight_clip,
        variance_penalty=settings.variance_penalty,
        confidence=settings.confidence,
        loop=LoopSettings(
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            gradient_clip=settings.gradient_clip,
            check_every=settings.check_every,
            patience=settings.patience,
            seed=settings.seed,
        ),
    )


def rewards_of(named: tuple[str, ...], *, feedback: Feedback) -> dict[str, float]:
    """Return the weights of what is maximized: NAME counts once, NAME=WEIGHT by its weight.

    Raises:
        UnableToStart: nothing is named although the log has several rewards or none, or a weight is no number.
    """
    if not named and len(feedback.rewards) != 1:
        known = ", ".join(feedback.rewards) or "none"
        raise UnableToStart(f"expected the name of what to maximize, the log has the rewards {known}; set reward")
    weights = {}
    for text in named or tuple(feedback.rewards):
        name, _, weight = text.partition("=")
        try:
            weights[name] = float(weight) if weight else 1.0
        except ValueError as error:
            raise UnableToStart(f"expected NAME or NAME=WEIGHT as a reward, found {text!r}") from error
    return weights


def _with_floor(spec: PolicySpec, floor: float | None) -> PolicySpec:
    return spec if floor is None else msgspec.structs.replace(spec, floor=floor)


def _provenance(learned: Learned, settings: Settings, reward: Mapping[str, float]) -> dict[str, object]:
    shaping = {name: v for name, v in msgspec.to_builtins(settings).items() if name not in _NOT_OF_THE_POLICY}
    return {
        "recipe": RECIPE,
        "settings": shaping,
        "reward": dict(reward),
        "log": learned.log_digest,
        "rows": learned.rows_trained,
        "chosen": learned.chosen.name,
        "torch": str(torch.__version__),
    }


def _report(
    learned: Learned, identity: str, settings: Settings, reward: Mapping[str, float], budget: Budget
) -> TrainReport:
    return TrainReport(
        recipe=RECIPE,
        identity=identity,
        objective=settings.objective,
        reward=next(iter(reward)) if len(reward) == 1 else "sum",
        chosen=learned.chosen.name,
        held_out=learned.chosen.held_out,
        candidates=learned.candidates,
        epochs=sum(len(candidate.history) for candidate in learned.candidates),
        rows_trained=learned.rows_trained,
        rows_held_out=learned.rows_held_out,
        rows_excluded=learned.rows_excluded,
        device=str(choose_device(settings.device)),
        parameter_count=sum(parameter.numel() for parameter in learned.module.parameters()),
        cpu_s=budget.cpu_s,
        wall_s=budget.wall_s,
    )
