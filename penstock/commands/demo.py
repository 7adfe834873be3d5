"""`penstock demo`: tell the whole story on real data, or on generated samples where there is none."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.output import Report

HELP = "tell the whole story: learn, judge, serve, join, judge again"
DESCRIPTION = """\
Tell the whole story without a broker or the network: a policy is learned from a log, judged before it runs, served,
and held against what it promised; then a log that cannot tell says so. Real data is read from PENSTOCK_DATA."""
EXAMPLE = "penstock demo --out demo"


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the folder, the data and the seed."""
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("demo"), help="where its files go (demo)")
    parser.add_argument("--data", metavar="DIR", type=Path, help="shared data (default: PENSTOCK_DATA, else samples)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="shuffles rows and seeds training (0)")


def run(arguments: argparse.Namespace) -> "Report":
    """Tell both stories."""
    import sys

    from optimizer.training.progress import progress_for
    from penstock.demo import earning, honesty
    from penstock.output import Report

    named = os.environ.get("PENSTOCK_DATA")
    data = arguments.data or (Path(named) if named else None)
    arguments.out.mkdir(parents=True, exist_ok=True)
    progress = progress_for(sys.stderr, is_silent=arguments.json or not sys.stderr.isatty())
    first = earning.tell(data=data, folder=arguments.out, seed=arguments.seed, progress=progress)
    second = honesty.tell(data=data, folder=arguments.out, seed=arguments.seed, progress=progress)
    left = "artifact/, requests.jsonl, outcomes.jsonl, decisions.jsonl, feedback.parquet and feedback.spec.json"
    ending = f"{arguments.out}/ now holds {left}."
    text = [*first.text, "", *second.text, "", ending]
    return Report(result={"earning": first.result, "honesty": second.result}, text=text, seed=arguments.seed)
