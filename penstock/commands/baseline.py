"""`penstock baseline`: solve a domain's problem by the method that a learned policy is held against."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.offered import add_offered, load_offered

if TYPE_CHECKING:
    from optimizer.baseline_report import BaselineReport
    from optimizer.contract import Baseline
    from optimizer.registry import Shelf
    from penstock.output import Report

HELP = "solve a domain's problem by its baseline"
DESCRIPTION = """\
Solve a domain's problem by the method that a learned policy is held against, and say what it costs and what bounds it.
Each setting of a baseline is a flag: name the domain to see them."""
EXAMPLE = "penstock baseline hydrothermal --case case3deterministic --stages 12 --stage-hours 1 --json"


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the domain, and the settings of its baseline when the command line names one."""
    meaning = "what to solve: hydrothermal, ..."
    add_offered(parser, shelf=_shelf, verb="baseline", metavar="DOMAIN", meaning=meaning, words=words)


def run(arguments: argparse.Namespace) -> "Report":
    """Solve and report."""
    baseline, settings, progress = load_offered(_shelf(), arguments)
    return _report(baseline.solve(settings, progress=progress), seed=getattr(settings, "seed", None))


def _shelf() -> "Shelf[Baseline[Any]]":
    from optimizer.registry import BASELINES

    return BASELINES


def _report(report: "BaselineReport", *, seed: int | None) -> "Report":
    import msgspec

    from penstock.output import Report, Table, short

    figures = ("objective", "lower_bound", "simulated_mean", "standard_error")
    known = [(name, getattr(report, name)) for name in figures]
    table = Table(
        columns=("figure", report.cost_units),
        rows=[(name.replace("_", " "), short(value, digits=9)) for name, value in known if value is not None],
        numbers=frozenset({report.cost_units}),
    )
    head = f"{report.domain} by {report.method}, {report.stages} stages"
    return Report(result=msgspec.to_builtins(report), text=[*report.log, head, table], seed=seed)
