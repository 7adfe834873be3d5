"""`penstock import`: bring a foreign log into feedback Parquet and write its spec beside it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.arguments import existing, number
from policies.errors import UsageProblem

if TYPE_CHECKING:
    from penstock.output import Report
    from policies.feedback import Feedback

HELP = "bring a foreign log into feedback Parquet"
DESCRIPTION = """\
Bring a log into feedback Parquet and write LOG.spec.json beside it, with bounds and vocabularies from the training
part. With a training share, LOG.train.parquet and LOG.test.parquet are written too, split by time."""
EXAMPLE = "penstock import open_bandit/random/men/men.csv --format obd --out men.parquet --train-share 0.8"
FORMATS = ("obd", "npz", "table", "classification")

_SUFFIX = ".parquet"


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the source, its format, and where to write."""
    parser.add_argument("source", metavar="SRC", type=Path, help="the log to import")
    parser.add_argument("--format", choices=FORMATS, required=True, help="what SRC is")
    parser.add_argument("--out", metavar="LOG.parquet", type=Path, required=True, help="the feedback to write")
    parser.add_argument("--train-share", metavar="F", help="split by time: the first share F is for training")


def run(arguments: argparse.Namespace) -> "Report":
    """Import and say what was written."""
    from penstock.output import Report, Table
    from policies.importers.log import import_log
    from policies.importers.log import write_parts

    source = existing(arguments.source, what="a log to import")
    share = _share(arguments.train_share)
    return Report(result={})


def _share(text: str | None) -> float | None:
    if text is None:
        return None
    share = number(text, flag="--train-share")
    if not 0.0 < share < 1.0:
        raise UsageProblem(f"--train-share must lie between 0 and 1, found {text}")
    return share
