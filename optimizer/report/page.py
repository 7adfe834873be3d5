"""One HTML page that holds everything: text, tables and charts; it loads nothing, so it can be mailed and kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from policies.errors import UsageProblem

_STYLE: Final = """\
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1080px; margin: 2rem auto;
  padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
p.lead { color: #444; margin-top: 0; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #e5e5e5; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid #999; }
figure { margin: .8rem 0 1.6rem; }
figure svg { width: 100%; height: auto; }
figcaption { color: #444; font-size: .93rem; max-width: 62rem; }
div.wide { overflow-x: auto; }
"""


class UnableToWriteReport(UsageProblem):
    """The report cannot be written where it was asked for."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Hold a chart, an SVG element, under a title, with what is to be seen in it."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """Hold a table of texts under a title; the first column names its row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Hold a page: its title, a sentence that says what it is about, and its parts in order."""

    title: str
    lead: str
    parts: Sequence[Figure | TextTable]


def page_html(page: Page) -> str:
    """Return the page as one HTML document.

    >>> page = Page(title="A < B", lead="Two policies.", parts=[TextTable(title="Costs", columns=("policy",), rows=[])])
    >>> "<h1>A &lt; B</h1>" in page_html(page)
    True
    """
    parts = "\n".join(_figure(part) if isinstance(part, Figure) else _table(part) for part in page.parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(page.title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{_STYLE}</style>\n</head>\n'
        f'<body>\n<h1>{escape(page.title)}</h1>\n<p class="lead">{escape(page.lead)}</p>\n{parts}\n</body>\n</html>\n'
    )


def write_page(page: Page, path: Path) -> None:
    """Write the page to a file.

    Raises:
        UnableToWriteReport: the file cannot be written there.
    """
    try:
        path.write_text(page_html(page), encoding="utf-8")
    except OSError as error:
        raise UnableToWriteReport(f"cannot write the report to {path}: {error.strerror}") from error


def _figure(figure: Figure) -> str:
    caption = f"<figcaption>{escape(figure.caption)}</figcaption>"
    return f"<section>\n<h2>{escape(figure.title)}</h2>\n<figure>\n{figure.svg}\n{caption}\n</figure>\n</section>"


def _table(table: TextTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    caption = f"\n<p>{escape(table.caption)}</p>" if table.caption else ""
    body = f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
    return f"<section>\n<h2>{escape(table.title)}</h2>\n{body}{caption}\n</section>"
