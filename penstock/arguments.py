"""What the verbs' command lines share: their names, helpers that add or check arguments. Only argparse is imported."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from policies.errors import UsageProblem

VERBS: Final = {
    "import": "import_",
    "train": "train",
    "baseline": "baseline",
    "simulate": "simulate",
    "evaluate": "evaluate",
    "decide": "decide",
    "serve": "serve",
    "verify": "verify",
    "audit": "audit",
    "collect": "collect",
    "redrive": "redrive",
    "doctor": "doctor",
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


def add_brokers(parser: argparse.ArgumentParser) -> None:
    """Add where topics are: brokers, names, and the settings that say how brokers are spoken to."""
    parser.add_argument("--settings", metavar="FILE", type=Path, help="settings of serve as .toml or .json")
    parser.add_argument("--brokers", metavar="HOST:PORT,...", type=split_names, help="the brokers")
    parser.add_argument("--prefix", metavar="P", help="first part of topic names (default: penstock)")
    parser.add_argument("--group", metavar="G", help="consumer group of the workers (default: penstock)")
    parser.add_argument(
        "--domain", metavar="D,...", type=split_names, default=[], help="domains (default: all that have topics)"
    )
    add_security(parser)


SECURITY: Final = (
    *("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password_file", "ssl_cafile"),
    *("ssl_check_hostname", "ssl_certfile", "ssl_keyfile", "ssl_key_password_file"),
)
"""Settings of security that are flags; a password itself is none, for the process list shows flags to everybody."""


def add_security(parser: argparse.ArgumentParser) -> None:
    """Add how brokers are spoken to; passwords come from files or the environment."""
    parser.add_argument(
        "--security-protocol", metavar="P", help="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL (default: PLAINTEXT)"
    )
    parser.add_argument("--sasl-mechanism", metavar="M", help="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    parser.add_argument("--sasl-username", metavar="USER", help="user name at the brokers")
    parser.add_argument("--sasl-password-file", metavar="FILE", help="file with the password at the brokers")
    parser.add_argument("--ssl-cafile", metavar="FILE", help="certificates of the brokers' authorities, PEM")
    parser.add_argument(
        "--no-ssl-check-hostname",
        dest="ssl_check_hostname",
        action="store_const",
        const=False,
        help="trust a broker whose certificate is for another name",
    )
    parser.add_argument("--ssl-certfile", metavar="FILE", help="this process's certificate, PEM")
    parser.add_argument("--ssl-keyfile", metavar="FILE", help="the key of that certificate, PEM")
    parser.add_argument("--ssl-key-password-file", metavar="FILE", help="file with the password of that key")


def add_following(parser: argparse.ArgumentParser) -> None:
    """Add how long to go on: to the current end, or until stopped, with metrics."""
    lasting = parser.add_mutually_exclusive_group()
    lasting.add_argument(
        "--once", action="store_false", dest="follow", default=False, help="stop at the current end (default)"
    )
    lasting.add_argument("--follow", action="store_true", help="go on until SIGTERM or Ctrl-C")
    parser.add_argument(
        "--metrics-port", metavar="N", help="serve /healthz, /readyz and /metrics there; 0 takes a free port, printed"
    )


def split_names(text: str) -> list[str]:
    """Split names at commas.

    >>> split_names("a, b,")
    ['a', 'b']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


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
