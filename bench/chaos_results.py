"""What chaos runs came to: one row per seed, kept in a file so that a long run can be taken up again."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from policies.errors import UsageProblem
from tests.helpers.kafka_judge import Verdict

ROOT: Final = Path(__file__).parent.parent

HEADING: Final = (
    "| seed | requests | results | missing | double | SIGKILLs | SIGSTOPs | broker SIGKILLs | proxy faults | exits "
    "| hanging | s |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


class ResultsRefused(UsageProblem):
    """A file of results has a line that is none."""


class Run(msgspec.Struct, kw_only=True, frozen=True):
    """What one seed came to: under which flags of the workers, and at which revision of the code."""

    seed: int
    verdict: Verdict
    kills: int
    pauses: int
    broker_kills: int
    faults: int
    exits: int
    hanging: int
    seconds: float
    hits: dict[str, int] = msgspec.field(default_factory=dict)
    worker_flags: str = ""
    revision: str = ""


def line(run: Run) -> str:
    """Return a run as a row of the table."""
    seen = run.verdict
    cells = [run.seed, seen.requests, seen.results, seen.missing, seen.double, run.kills, run.pauses]
    cells += [run.broker_kills, run.faults, run.exits, run.hanging]
    return "| " + " | ".join(map(str, [*cells, run.seconds])) + " |"


def summary(runs: Sequence[Run]) -> str:
    """Return what all runs came to, in one line."""
    total = {name: sum(getattr(run.verdict, name) for run in runs) for name in ("requests", "missing", "double")}
    return f"{len(runs)} seeds, {total['requests']} requests: {total['missing']} missing, {total['double']} double"


def read_runs(path: Path | None) -> list[Run]:
    """Read the runs that a file holds; none where there is no file.

    Raises:
        ResultsRefused: a line is no run.
    """
    if path is None or not path.exists():
        return []
    try:
        return [msgspec.json.decode(text, type=Run) for text in path.read_bytes().splitlines()]
    except msgspec.DecodeError as error:
        raise ResultsRefused(f"{path} holds a line that is no run: {error}; name another file with --out") from error


def append_run(path: Path | None, run: Run) -> None:
    """Add a run to a file, where one is named."""
    if path is not None:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(run) + b"\n")


def left_of(seeds: Iterable[int], runs: Iterable[Run]) -> list[int]:
    """Return the seeds that have not been run yet, in order.

    >>> left_of([1, 2, 3], [])
    [1, 2, 3]
    """
    done = {run.seed for run in runs}
    return [seed for seed in seeds if seed not in done]


def revision() -> str:
    """Return the commit that is run, with a plus where files have been changed since; nothing outside a repository."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
