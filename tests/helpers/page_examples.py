"""The examples of a Markdown page, run as a reader would: one page, one folder, one shell.

A ```console block holds commands after `$ ` and what they print; a ```python block is a script. What is printed is
compared by pattern: a number with a decimal point and an identity of hex digits stand for any, `...` for anything in
its line and, alone, for any lines. Standard error is not compared.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "--- example"
_PIECES = re.compile(r"(\.\.\.|\b[0-9a-f]{32,}\b|(?<![\w-])-?\d+\.\d+(?:e-?\d+)?|\s+)")
_DELIMITER = "END_OF_SCRIPT"


class Example(NamedTuple):
    """One command or script of a page, where it stands, and the lines that it prints (None: not compared)."""

    line: int
    command: str
    expected: tuple[str, ...] | None


def examples_of(text: str) -> list[Example]:
    """Return the examples of a page, in order."""
    found: list[Example] = []
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(2)) + 1
        if block[1] == "python":
            script = f"python - <<'{_DELIMITER}'\n{block[2]}{_DELIMITER}"
            found.append(Example(first, script, None))
        else:
            found += _commands(block[2].splitlines(), first)
    return found


def run_examples(examples: list[Example], *, folder: Path) -> list[str]:
    """Run examples in one shell and say, for each that went otherwise than expected, how."""
    script = "\n".join(f"{one.command}\nprintf '\\n{_MARK} %s\\n' $?" for one in examples)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    outputs = re.split(rf"\n{_MARK} (\d+)\n", done.stdout)
    found = list(zip(outputs[0::2], outputs[1::2], strict=False))
    if len(found) != len(examples):
        return [f"the shell ended after {len(found)} of {len(examples)} examples: {done.stderr[-2000:]}"]
    told = (_tell(one, *output) for one, output in zip(examples, found, strict=True))
    return [f"{text}\nstandard error ended with: {done.stderr[-1000:]}" for text in told if text]


def fits(expected: tuple[str, ...], output: str) -> bool:
    """Say whether a command printed what was expected of it.

    >>> fits(("value 0.94", "..."), "value   0.51\\nmore\\nand more\\n")
    True
    >>> fits(("2400 decisions",), "2399 decisions\\n")
    False
    """
    pattern = "".join("(?:.*\n)*" if line == "..." else _pattern(line) + "\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in output.splitlines())) is not None


def _commands(lines: list[str], first: int) -> Iterator[Example]:
    starts = [place for place, line in enumerate(lines) if line.startswith("$ ")]
    if not starts or starts[0] != 0:
        raise ValueError(f"line {first}: a console block begins with a command after '$ '")
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield Example(first + start, lines[start][2:], tuple(lines[start + 1 : end]))


def _tell(example: Example, output: str, code: str) -> str:
    where = f"line {example.line}: {example.command.splitlines()[0]}"
    if code != "0":
        return f"{where}\nended with exit code {code}:\n{output}"
    if example.expected is not None and not fits(example.expected, output):
        expected = "\n".join(example.expected)
        return f"{where}\nexpected:\n{expected}\nfound:\n{output}"
    return ""


def _pattern(line: str) -> str:
    return "".join(map(_piece, _PIECES.split(line.rstrip())))


def _piece(piece: str) -> str:
    if piece == "...":
        return ".*"
    if piece.isspace():
        return r"\s+"
    if re.fullmatch(r"[0-9a-f]{32,}", piece):
        return f"[0-9a-f]{{{len(piece)}}}"
    if re.fullmatch(r"-?\d+\.\d+(e-?\d+)?", piece):
        return r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.escape(piece)
