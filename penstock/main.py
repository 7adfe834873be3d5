"""The front door: read the command line, run one verb, print its report, turn anticipated errors into exit codes.

Only argparse is imported to print help; each verb imports the floors when it runs.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

from penstock.arguments import VERBS, add_json, attach_values
from policies.errors import PenstockError, Unable, UsageProblem

EXTRAS: Final = {
    "pyarrow": "evaluate",
    "torch": "train",
    "pyomo": "train",
    "onnx": "train",
    "onnxscript": "train",
    "optimizer": "train",
    "matplotlib": "report",
}
"""Which extra brings the module that a base install lacks."""

EXIT_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it
EXIT_BROKEN_PIPE: Final = 141  # 128 + SIGPIPE

_DESCRIPTION = """\
Train operations policies offline, serve them as ONNX on a stream, and know what a policy is worth before it runs."""

_EPILOG = """\
exit codes: 0 done (a refusal to estimate included), 2 usage or a missing file, 3 content of a log or request refused,
4 unable (artifact refused, an extra missing, a solver failed), 5 gate held

example: penstock decide --artifact demo/artifact demo/requests.jsonl"""


class Parser(argparse.ArgumentParser):
    """Parse arguments and report what cannot be parsed as a usage problem instead of leaving the program."""

    def error(self, message: str) -> NoReturn:
        """Raise the usage problem.

        Raises:
            UsageProblem: always; the message names the help to read.
        """
        raise UsageProblem(f"{message}; see {self.prog} --help")


class _Version(argparse.Action):
    """Print the version; its lookup is slow, so it happens only here."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"penstock {version('penstock')}")
        except PackageNotFoundError:
            print("penstock (not installed: running from its sources)")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    >>> main(["complete", "fish", "--json"]) == 0 # doctest: +ELLIPSIS
    {"schema": "penstock/1", "command": "complete", ...}
    True
    """
    started = time.perf_counter(), time.process_time()
    words = attach_values(list(sys.argv[1:] if argv is None else argv))
    try:
        return _run(words, started)
    except SystemExit as stop:  # argparse leaves so after --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except PenstockError as error:
        return _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        return _fail_without_extra(error)
    except BrokenPipeError:
        # Python flushes stdout once more on leaving; the reader is gone, so let it flush into nothing.
        _mute()
        return EXIT_BROKEN_PIPE
    except OSError as error:  # a full disk, a folder that must not be written: nothing that a verb could mend
        return _fail_on_system(error)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)


def build_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Build the parser of all verbs; the words of the command line let `train` add the flags of its recipe."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="penstock", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=formatter)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    verbs = parser.add_subparsers(dest="command", metavar="VERB", required=True)
    for name, module_name in VERBS.items():
        command = import_module(f"penstock.commands.{module_name}")
        verb = verbs.add_parser(
            name,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=f"example: {command.EXAMPLE}",
            formatter_class=formatter,
        )
        command.add_arguments(verb, words=words)
        add_json(verb)
        verb.set_defaults(run=command.run)
    return parser


def _run(words: list[str], started: tuple[float, float]) -> int:
    arguments = build_parser(words).parse_args(words)
    report = arguments.run(arguments)
    from penstock import output

    if arguments.json:
        wall_s, cpu_s = time.perf_counter() - started[0], time.process_time() - started[1]
        print(output.document(report, command=arguments.command, cpu_s=cpu_s, wall_s=wall_s))
    else:
        output.show(report)
    sys.stdout.flush()
    code: int = report.exit_code
    return code


def _fail(message: str, code: int) -> int:
    print(f"penstock: {message}", file=sys.stderr)
    return code


def _fail_on_system(error: OSError) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _mute()
    return _fail(f"cannot read or write: {error}; what was written until then is not whole", Unable.exit_code)


def _mute() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_without_extra(error: ModuleNotFoundError) -> int:
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    if extra is None:
        raise error
    return _fail(f"this needs {error.name}, which is not installed: pip install 'penstock[{extra}]'", Unable.exit_code)
