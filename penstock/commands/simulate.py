"""`penstock simulate`: run policies on common scenarios and say what each costs beside the others."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.offered import add_offered, load_offered

if TYPE_CHECKING:
    from optimizer.contract import Simulation
    from optimizer.registry import Shelf
    from optimizer.simulation_report import SimulatedPolicy, SimulationReport
    from penstock.output import Report, Table

HELP = "run policies on common scenarios and compare them"
DESCRIPTION = """\
Run a trained policy, its baseline and perfect foresight on common scenarios, and say what each costs, with paired
intervals. What is left at the end is credited to all by the same value function.
Each setting of a simulation is a flag: name the domain to see them."""
EXAMPLE = (
    "penstock simulate hydrothermal --artifact out/artifact --cuts cuts.json --case bolivia --stages 126 "
    "--stage-hours 168 --load-scale 0.6 --report-stages 96 --scenarios 500 --report report.html"
)


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the domain, and the settings of its simulation when the command line names one."""
    meaning = "what to simulate: hydrothermal, ..."
    add_offered(parser, shelf=_shelf, verb="simulate", metavar="DOMAIN", meaning=meaning, words=words)


def run(arguments: argparse.Namespace) -> "Report":
    """Simulate and report."""
    simulation, settings, progress = load_offered(_shelf(), arguments)
    return _report(simulation.simulate(settings, progress=progress), seed=getattr(settings, "seed", None))


def _shelf() -> "Shelf[Simulation[Any]]":
    from optimizer.registry import SIMULATIONS

    return SIMULATIONS


def _report(report: "SimulationReport", *, seed: int | None) -> "Report":
    import msgspec

    from penstock.output import Report, Table

    head = (
        f"{report.domain}: {report.scenarios} common scenarios, first {report.report_stages} of {report.stages} "
        f"stages, costs in {report.cost_units}, intervals of {100 * report.confidence:g} %"
    )
    text: list[str | Table] = [head, _table(report), *_closing(report)]
    return Report(result=msgspec.to_builtins(report), text=text, seed=seed)


def _table(report: "SimulationReport") -> "Table":
    from penstock.output import Table

    against = f"to {report.reference}, %"
    columns = ("policy", "mean", "credit", "with credit", against, "interval, %", "gap, %", "deficit", "fallbacks")
    rows = [_row(policy) for policy in report.policies]
    return Table(columns=columns, rows=rows, numbers=frozenset(columns[1:]))


def _row(policy: "SimulatedPolicy") -> tuple[str, ...]:
    from penstock.output import short

    low, high = policy.paired_percent_low, policy.paired_percent_high
    return (
        policy.name,
        *(short(value, digits=8) for value in (policy.mean, policy.terminal_credit, policy.mean_with_credit)),
        "-" if policy.paired_percent is None else f"{policy.paired_percent:+.3f}",
        "-" if low is None or high is None else f"{low:+.3f} .. {high:+.3f}",
        "-" if policy.gap_percent is None else f"{policy.gap_percent:.3f}",
        short(policy.deficit),
        str(policy.fallbacks),
    )


def _closing(report: "SimulationReport") -> list[str]:
    from penstock.output import short

    lines = []
    if report.lower_bound is not None:
        lines.append(f"lower bound {short(report.lower_bound, digits=9)} ({report.lower_bound_source})")
    lines += [f"{name}: {path}" for name, path in report.details.get("written", {}).items()]
    return lines
