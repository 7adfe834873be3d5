"""What the verbs' command lines share: their names, helpers that add or check arguments. Only argparse is imported."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from policies.errors import UsageProblem

VERBS: Final = {
    "import": "import_",
    "train": "train",
    "evaluate": "evaluate",
    "decide": "decide",
    "serve": "serve",
    "verify": "verify",
    "demo": "demo",
    "complete": "complete",
}
"""Each verb and the module in `commands/` that runs it."""

_MAY_START_WITH_MINUS: Final = ("--reward-bounds", "--reward")


class FileMissing(UsageProblem):
    """A file or folder named on the command line is not there."""


def attach_values(words: list[str]) -> list[str]:
    """Write `--reward-bounds -1,1` as `--reward-bounds=-1,1`, which argparse does not take for a flag.

    >>> attach_values(["evaluate", "--reward-bounds", "-1,1"])
    ['evaluate', '--reward-bounds=-1,1']
    """
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in _MAY_START_WITH_MINUS and word[:1] == "-" and word[:2] != "--":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json, which every verb has."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout; logs go to stderr")


def add_serving(parser: argparse.ArgumentParser) -> None:
    """Add what decides beside the artifact: the catalogue and the salt of the draws."""
    parser.add_argument("--catalogue", metavar="FILE", type=Path, help="catalogue.json (default: the artifact live)")
    parser.add_argument("--salt-file", metavar="FILE", type=Path, help="the salt of the draws (default: empty)")


def existing(path: Path, *, what: str) -> Path:
    """Return the path of a file or folder that is there.

    Raises:
        FileMissing: it is not.
    """
    if not path.exists():
        raise FileMissing(f"expected {what} at {path}, found nothing there")
    return path


def name_and_rest(text: str, *, flag: str, form: str) -> tuple[str, str]:
    """Split NAME=REST at the first equals sign.

    Raises:
        UsageProblem: one of the two is empty.

    >>> name_and_rest("bts=table:p.csv@position", flag="--target", form="NAME=REF")
    ('bts', 'table:p.csv@position')
    """
    name, equals, rest = text.partition("=")
    if not (name and equals and rest):
        raise UsageProblem(f"{flag} must be {form}, found {text!r}")
    return name, rest


def number(text: str, *, flag: str) -> float:
    """Read a finite number.

    Raises:
        UsageProblem: the text is not one.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise UsageProblem(f"{flag} must be a finite number, found {text!r}")
    return value


def whole_number(text: str, *, flag: str, least: int) -> int:
    """Read a whole number from a least one up.

    Raises:
        UsageProblem: the text is not one.

    >>> whole_number("256", flag="--batch-size", least=1)
    256
    """
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise UsageProblem(f"{flag} must be a whole number of at least {least}, found {text!r}")
    return int(text)


def bounds(text: str, *, flag: str) -> tuple[float, float]:
    """Read LOW,HIGH with LOW below HIGH.

    Raises:
        UsageProblem: the text is not that.

    >>> bounds("-1,1", flag="--reward-bounds")
    (-1.0, 1.0)
    """
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageProblem(f"{flag} must be LOW,HIGH, found {text!r}")
    low, high = (number(part, flag=flag) for part in parts)
    if not low < high:
        raise UsageProblem(f"{flag}: LOW must be below HIGH, found {text!r}")
    return low, high


def words_after(verb: str, words: Sequence[str]) -> list[str]:
    """Return the words that follow a verb which stands first, or none when another verb does.

    >>> words_after("train", ["train", "logged_bandit", "--out", "x"])
    ['logged_bandit', '--out', 'x']
    """
    return list(words[1:]) if words[:1] == [verb] else []
