"""`penstock train`: learn a policy by a recipe and write its artifact."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.arguments import existing
from penstock.offered import add_offered, load_offered

if TYPE_CHECKING:
    from optimizer.contract import Recipe
    from optimizer.registry import Shelf
    from optimizer.training.report import SimulatedReport, TrainReport
    from penstock.output import Report, Table
    from policies.evaluation.estimators import Estimate
    from policies.spec import PolicySpec

HELP = "learn a policy and write its artifact"
DESCRIPTION = """\
Learn a policy by a recipe and write its artifact. Each setting of a recipe is a flag: name the recipe to see them."""
EXAMPLE = "penstock train logged_bandit --log demo/log.parquet --out successor --seed 7"


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the recipe, its log and its folder, and the recipe's settings when the command line names one."""
    meaning = "what to learn by: logged_bandit, ..."
    add_offered(parser, shelf=_shelf, verb="train", metavar="RECIPE", meaning=meaning, words=words)
    parser.add_argument("--log", metavar="LOG", type=Path, help="feedback Parquet to learn from")
    parser.add_argument("--spec", metavar="SPEC", type=Path, help="the spec (default: LOG.spec.json beside the log)")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="the artifact's folder, to be written")


def run(arguments: argparse.Namespace) -> "Report":
    """Train and say how it went."""
    recipe, settings, progress = load_offered(_shelf(), arguments)
    spec = None if arguments.spec is None else _read_spec(arguments.spec)
    log = None if arguments.log is None else existing(arguments.log, what="a log")
    report = recipe.train(log, spec=spec, out=arguments.out, settings=settings, progress=progress)
    return _report(report, out=arguments.out, seed=getattr(settings, "seed", None))


def _shelf() -> "Shelf[Recipe[Any]]":
    from optimizer.registry import RECIPES

    return RECIPES


def _read_spec(path: Path) -> "PolicySpec":
    from policies.spec import read_spec

    return read_spec(path)


def _report(report: "TrainReport | SimulatedReport", *, out: Path, seed: int | None) -> "Report":
    import msgspec

    from optimizer.training.report import SimulatedReport
    from penstock.output import Report

    text = _simulated_text(report) if isinstance(report, SimulatedReport) else _learned_text(report)
    result = {**msgspec.to_builtins(report), "out": str(out)}
    return Report(result=result, text=[*text, f"artifact {report.identity} in {out}"], seed=seed)


def _simulated_text(report: "SimulatedReport") -> "list[str | Table]":
    """Show the learning curve, about ten looks of it, and what the exported policy costs."""
    from penstock.output import Table, short

    every = max(len(report.looks) // 10, 1)
    shown = [*report.looks[:-1:every], report.looks[-1]]
    rows = [(str(look.step), f"{look.cpu_s:.1f}", short(look.cost, digits=7)) for look in shown]
    columns = ("step", "CPU-seconds", f"held-out cost, {report.cost_units}")
    mean, low, high = (short(value, digits=7) for value in (report.mean_cost, report.low, report.high))
    judged = f"exported policy: {mean} [{low}, {high}] {report.cost_units} in the mean of {report.scenarios} scenarios"
    return [Table(columns=columns, rows=rows, numbers=frozenset(columns)), judged]


def _learned_text(report: "TrainReport") -> "list[str | Table]":
    """Show the candidates and which one was chosen."""
    from penstock.output import Table, short

    rows = [
        (one.name, short(held.value), _interval(held), held.verdict, str(one.best_epoch), one.stopped)
        for one, held in ((one, one.held_out) for one in report.candidates)
    ]
    numbers = frozenset({"held-out value", "interval", "best epoch"})
    columns = ("candidate", "held-out value", "interval", "verdict", "best epoch", "stopped by")
    chosen = (
        f"chosen: {report.chosen}, {report.reward} {short(report.held_out.value)} {_interval(report.held_out)} on "
        f"{report.rows_held_out} held-out rows"
    )
    return [Table(columns=columns, rows=rows, numbers=numbers), chosen]


def _interval(held_out: "Estimate") -> str:
    from penstock.output import short

    return f"[{short(held_out.low)}, {short(held_out.high)}]"
