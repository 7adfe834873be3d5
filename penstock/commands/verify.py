"""`penstock verify`: recompute every decision of a log and name the first that differs."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.arguments import add_serving, existing
from policies.errors import ContentRefused

if TYPE_CHECKING:
    from penstock.output import Report

HELP = "recompute the decisions of a log, name the first that differs"
DESCRIPTION = """\
Recompute every decision of a log from the request that it echoes: bit for bit on the platform that decided, else within
1e-6. Exit 3 and the first difference when one differs."""
EXAMPLE = "penstock verify demo/decisions.jsonl --artifact demo/artifact"

EXIT_DIFFERENT = ContentRefused.exit_code


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the log and the artifacts that decided."""
    parser.add_argument("decisions", metavar="DECISIONS", type=Path, help="decisions as JSON lines")
    parser.add_argument(
        "--artifact", metavar="DIR", type=Path, nargs="+", default=[], help="the artifacts that took the decisions"
    )
    add_serving(parser)


def run(arguments: argparse.Namespace) -> "Report":
    """Verify and report."""
    import msgspec

    from penstock.lineup import load_lineups
    from penstock.output import Report
    from serving.verify import read_lines, verify

    path = existing(arguments.decisions, what="a log of decisions")
    lineups = load_lineups(arguments.artifact, catalogue=arguments.catalogue, salt_file=arguments.salt_file)
    found = verify(read_lines(path), lineups=lineups)
    counts = f"{found.bitwise} bit for bit, {found.within_tolerance} within 1e-6, {found.different} different"
    text = [f"{found.decisions} decisions recomputed: {counts} ({found.fallbacks} fallbacks)"]
    first = found.first_difference
    if first is not None:
        text.append(
            f"first difference: line {first.line}, request {first.request_id}, {first.field}: "
            f"logged {first.logged}, recomputed {first.recomputed}"
        )
    code = 0 if first is None else EXIT_DIFFERENT
    return Report(result=msgspec.to_builtins(found), text=text, exit_code=code)
