"""`penstock decide`: decide a file of requests, without any broker."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from penstock.arguments import add_serving, existing, whole_number
from policies.errors import ContentRefused, UsageProblem

if TYPE_CHECKING:
    from penstock.output import Report
    from serving.catalogue import Lineup
    from serving.once import Sink

HELP = "decide a file of requests, without any broker"
DESCRIPTION = """\
Decide a file of requests. Decisions are JSON lines on stdout or in OUT, or a long table (request_id, slot, name, index,
value, units) when OUT ends in .csv. What cannot be decided is a dead letter: on stderr, or beside OUT in a file that
ends in .dead.jsonl; the exit code is then 3."""
EXAMPLE = "penstock decide --artifact demo/artifact demo/requests.jsonl --out decisions.jsonl"


class UnableToWrite(UsageProblem):
    """The decisions cannot be written where they were asked for."""


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the requests, what decides, and where decisions go."""
    parser.add_argument("requests", metavar="REQUESTS", type=Path, help="requests as JSON lines")
    parser.add_argument("--artifact", metavar="DIR", type=Path, help="the artifact that decides")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where decisions go (default: stdout)")
    parser.add_argument("--batch-size", metavar="N", default="256", help="requests decided at once (default: 256)")
    add_serving(parser)


def run(arguments: argparse.Namespace) -> "Report":
    """Decide and say how many decisions there were."""
    from penstock.lineup import load_one
    from penstock.output import Report
    from serving.once import decide_file

    if arguments.json and arguments.out is None:
        raise UsageProblem("--json prints one document on stdout, so decisions need a file: add --out FILE")
    batch_size = whole_number(arguments.batch_size, flag="--batch-size", least=1)
    _check_paths(arguments.requests, arguments.out)
    lineup = load_one(arguments.artifact, catalogue=arguments.catalogue, salt_file=arguments.salt_file)
    with ExitStack() as files:
        counts = decide_file(
            arguments.requests,
            lineup=lineup,
            sink=_sink(arguments.out, lineup=lineup, files=files),
            now=lambda: time.time_ns() // 1000,
            seconds=time.monotonic,
            batch_size=batch_size,
        )
    summary = f"{counts.decisions} decisions ({counts.fallbacks} fallbacks), {counts.dead_letters} dead letters"
    text = [] if arguments.out is None else [f"{summary}: {arguments.out}"]
    code = ContentRefused.exit_code if counts.dead_letters else 0
    return Report(result=counts._asdict(), text=text, exit_code=code)


def _check_paths(requests: Path, out: Path | None) -> None:
    """Refuse, before anything is written, what cannot be read or written, and what would write over the requests."""
    if not existing(requests, what="requests as JSON lines").is_file():
        raise UsageProblem(f"expected requests as JSON lines at {requests}, found no file there")
    if out is None:
        return
    if out.is_dir():
        raise UnableToWrite(f"cannot write to {out}: it is a folder; name a file in it")
    for path in (out, dead_letters_beside(out)):
        if path.exists() and path.samefile(requests):
            raise UnableToWrite(f"{path} holds the requests and would be written over; name another --out")


def dead_letters_beside(out: Path) -> Path:
    """Return where dead letters go: `decisions.dead.jsonl` for `decisions.jsonl` or `decisions.csv`.

    >>> dead_letters_beside(Path("out/decisions.jsonl")).name
    'decisions.dead.jsonl'
    """
    name = out.name.removesuffix(".jsonl").removesuffix(".csv")
    return out.with_name(f"{name}.dead.jsonl")


def _sink(out: Path | None, *, lineup: "Lineup", files: ExitStack) -> "Sink":
    from serving.once import LineSink

    if out is None:
        return LineSink(sys.stdout.buffer, dead_letters=lambda: sys.stderr.buffer)
    dead = dead_letters_beside(out)
    dead.unlink(missing_ok=True)  # those of an earlier run would be taken for this one's
    open_dead: Callable[[], BinaryIO] = partial(_open, dead, files)
    if out.suffix != ".csv":
        return LineSink(_open(out, files), dead_letters=open_dead)
    return _csv_sink(out, lineup=lineup, files=files, open_dead=open_dead)


def _csv_sink(out: Path, *, lineup: "Lineup", files: ExitStack, open_dead: Callable[[], BinaryIO]) -> "Sink":
    from io import TextIOWrapper

    from serving.decision_csv import CsvSink
    from serving.once import LineSink
    from serving.verify import seats_by_policy

    binary = _open(out, files)
    stream = files.enter_context(TextIOWrapper(binary, encoding="utf-8", newline=""))
    specs = {policy: seat.artifact.spec for policy, seat in seats_by_policy([lineup]).items()}
    return CsvSink(stream, specs=specs, others=LineSink(binary, dead_letters=open_dead))


def _open(path: Path, files: ExitStack) -> BinaryIO:
    try:
        return files.enter_context(path.open("wb"))
    except OSError as error:
        raise UnableToWrite(f"cannot write to {path}: {error.strerror}") from error
