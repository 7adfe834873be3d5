"""How reports are printed: one JSON document, a rich table on a terminal, plain aligned text when piped."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

SCHEMA = "penstock/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Hold a table of texts; columns named in `numbers` are aligned to the right."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Hold what a verb reports: the JSON result, the parts of the text, the seed if one was used, the exit code."""

    result: Mapping[str, Any]
    text: Sequence[str | Table] = ()
    seed: int | None = None
    exit_code: int = 0
    warnings: Sequence[str] = field(default=())


def document(report: Report, *, command: str, cpu_s: float, wall_s: float) -> str:
    """Return the one JSON document of a run; what is not finite or does not apply is null.

    >>> document(Report(result={"share": float("nan")}), command="train", cpu_s=0.5, wall_s=1.0)
    '{"schema": "penstock/1", "command": "train", "seed": null, "cpu_s": 0.5, "wall_s": 1.0, "result": {"share": null}}'
    """
    for warning in report.warnings:
        print(f"penstock: {warning}", file=sys.stderr)
    envelope = {
        "schema": SCHEMA,
        "command": command,
        "seed": report.seed,
        "cpu_s": round(cpu_s, 6),
        "wall_s": round(wall_s, 6),
        "result": report.result,
    }
    return json.dumps(_plain(envelope), allow_nan=False, ensure_ascii=False)


def show(report: Report, *, stream: TextIO | None = None) -> None:
    """Print a report's text: tables by rich on a terminal, as aligned text elsewhere."""
    stream = sys.stdout if stream is None else stream
    for warning in report.warnings:
        print(f"penstock: {warning}", file=sys.stderr)
    for part in report.text:
        if isinstance(part, str):
            print(part, file=stream)
        elif stream.isatty():
            _show_rich(part, stream)
        else:
            print(aligned(part), file=stream)


def aligned(table: Table) -> str:
    """Return a table as plain lines: two spaces between columns, no other mark.

    >>> print(aligned(Table(columns=("name", "value"), rows=[("ips", "0.5"), ("snips", "12.25")],
    ...                     numbers=frozenset({"value"}))))
    name   value
    ips      0.5
    snips  12.25
    """
    lines = [table.columns, *table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.columns))]
    is_number = [column in table.numbers for column in table.columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in lines
    )


def short(value: float | None, *, digits: int = 4) -> str:
    """Return a number with a few significant digits; a dash where there is none.

    >>> short(0.00123456), short(21739.4), short(None)
    ('0.001235', '21739', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def _show_rich(table: Table, stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        drawn.add_column(column, justify="right" if column in table.numbers else "left", overflow="fold")
    for row in table.rows:
        # markup=False on the console does not reach the cells of a table
        drawn.add_row(*(cell.replace("[", r"\[") for cell in row))
    Console(file=stream, highlight=False).print(drawn)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # a number or an array of numpy, which is not imported here
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
