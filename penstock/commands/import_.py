"""`penstock import`: bring a foreign log into feedback Parquet and write its spec beside it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.arguments import existing, number, whole_number

if TYPE_CHECKING:
    from penstock.output import Report
    from policies.feedback import Feedback
    from policies.importers.importing import Imported

HELP = "bring a foreign log into feedback Parquet"
DESCRIPTION = """\
Bring a log into feedback Parquet and write LOG.spec.json beside it, with bounds and vocabularies from the training
part. With a training share, LOG.train.parquet and LOG.test.parquet are written too, split by time."""
EXAMPLE = "penstock import open_bandit/random/men/men.csv --format obd --out men.parquet --train-share 0.8"
FORMATS = ("obd", "npz", "table", "classification")
SEEDED = ("classification",)


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the source, its format, and where to write."""
    parser.add_argument("source", metavar="SRC", type=Path, help="the log to import")
    parser.add_argument("--format", choices=FORMATS, required=True, help="what SRC is")
    parser.add_argument("--out", metavar="LOG.parquet", type=Path, required=True, help="the feedback to write")
    parser.add_argument("--train-share", metavar="F", help="split by time: the first share F is for training")
    parser.add_argument(
        "--seed", metavar="N", default="0", help="shuffles a labelled set and draws its log (default: 0)"
    )


def run(arguments: argparse.Namespace) -> "Report":
    """Import and say what was written."""
    from penstock.output import Report
    from policies.importers.importing import import_log, write_import

    share = None if arguments.train_share is None else number(arguments.train_share, flag="--train-share")
    seed = whole_number(arguments.seed, flag="--seed", least=0)
    source = existing(arguments.source, what="a log to import")
    feedback = import_log(source, format=arguments.format, train_share=share, seed=seed)
    written = write_import(feedback, out=arguments.out, train_share=share)
    return Report(
        result=_result(written, feedback),
        text=_text(written, feedback),
        seed=seed if arguments.format in SEEDED else None,
    )


def _result(written: "Imported", feedback: "Feedback") -> dict[str, Any]:
    paths = {"log": written.log, "spec": written.spec, "train": written.train, "test": written.test}
    return {
        **{name: None if path is None else str(path) for name, path in paths.items()},
        "row_count": written.row_count,
        "train_row_count": written.train_row_count,
        "test_row_count": written.test_row_count,
        "unit_is_row": feedback.is_row_unit,
        "rewards": list(feedback.rewards),
    }


def _text(written: "Imported", feedback: "Feedback") -> list[str]:
    lines = [f"{written.row_count} rows: {written.log}", f"spec: {written.spec}"]
    if written.train is not None and written.test is not None:
        lines.append(f"for training, the first by time: {written.train_row_count} rows: {written.train}")
        lines.append(f"for evaluation, the last: {written.test_row_count} rows: {written.test}")
    if feedback.is_row_unit:
        lines.append("the unit is the row: nothing in the log says which rows belong together")
    return lines
