"""`penstock serve`: decide requests as they come, and join decisions to their outcomes."""

import argparse
from collections.abc import Sequence
from pathlib import Path

HELP = "decide requests as they come"
DESCRIPTION = "x"
EXAMPLE = "penstock serve --artifact demo/artifact --transport file --dir queue --metrics-port 0"


def run(arguments: argparse.Namespace) -> "Report":
    raise NotImplementedError


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add x."""
    parser.add_argument("--settings", metavar="FILE", type=Path, help="settings")
