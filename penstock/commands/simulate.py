"""`penstock simulate`: run policies on common scenarios and say what each costs beside the others."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.arguments import words_after
from penstock.setting_flags import add_settings, given_settings, named_first

if TYPE_CHECKING:
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
    parser.add_argument("domain", metavar="DOMAIN", type=_known_domain, help="what to simulate: hydrothermal, ...")
    domain = _domain_named(words_after("simulate", words))
    if domain is not None:
        from optimizer.registry import load_simulation_settings

        add_settings(parser, load_simulation_settings(domain), title=f"settings of {domain}")


def run(arguments: argparse.Namespace) -> "Report":
    """Simulate and report."""
    from optimizer.registry import load_simulation, load_simulation_settings, make_settings

    settings = make_settings(load_simulation_settings(arguments.domain), given_settings(arguments))
    simulation = load_simulation(arguments.domain)
    from optimizer.training.progress import progress_for

    progress = progress_for(sys.stderr, is_silent=arguments.json)
    return _report(simulation.simulate(settings, progress=progress), seed=getattr(settings, "seed", None))


def _known_domain(name: str) -> str:
    """Take a domain's name; an unknown one is named before any flag of it is."""
    from optimizer.registry import SIMULATIONS, load_simulation_settings

    if name not in SIMULATIONS:
        load_simulation_settings(name)  # raises UnknownSimulation with the nearest known name
    return name


def _domain_named(words: Sequence[str]) -> str | None:
    if not words:
        return None
    from optimizer.registry import SIMULATIONS

    return named_first(words, SIMULATIONS)


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
