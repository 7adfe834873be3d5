"""`penstock baseline`: solve a domain's problem by the method that a learned policy is held against."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.arguments import words_after
from penstock.setting_flags import add_settings, given_settings, named_first

if TYPE_CHECKING:
    from optimizer.baseline_report import BaselineReport
    from penstock.output import Report

HELP = "solve a domain's problem by its baseline"
DESCRIPTION = """\
Solve a domain's problem by the method that a learned policy is held against, and say what it costs and what bounds it.
Each setting of a baseline is a flag: name the domain to see them."""
EXAMPLE = "penstock baseline hydrothermal --case case3deterministic --stages 12 --stage-hours 1 --json"


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the domain, and the settings of its baseline when the command line names one."""
    parser.add_argument("domain", metavar="DOMAIN", type=_known_domain, help="what to solve: hydrothermal, ...")
    domain = _domain_named(words_after("baseline", words))
    if domain is not None:
        from optimizer.registry import load_baseline_settings

        add_settings(parser, load_baseline_settings(domain), title=f"settings of {domain}")


def run(arguments: argparse.Namespace) -> "Report":
    """Solve and report."""
    from optimizer.registry import load_baseline, load_baseline_settings, make_settings

    settings = make_settings(load_baseline_settings(arguments.domain), given_settings(arguments))
    baseline = load_baseline(arguments.domain)
    from optimizer.training.progress import progress_for

    progress = progress_for(sys.stderr, is_silent=arguments.json)
    return _report(baseline.solve(settings, progress=progress), seed=getattr(settings, "seed", None))


def _known_domain(name: str) -> str:
    """Take a domain's name; an unknown one is named before any flag of it is."""
    from optimizer.registry import BASELINES, load_baseline_settings

    if name not in BASELINES:
        load_baseline_settings(name)  # raises UnknownBaseline with the nearest known name
    return name


def _domain_named(words: Sequence[str]) -> str | None:
    if not words:
        return None
    from optimizer.registry import BASELINES

    return named_first(words, BASELINES)


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
