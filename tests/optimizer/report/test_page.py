from html.parser import HTMLParser
from pathlib import Path

import pytest

from optimizer.report.page import Figure, Page, TextTable, UnableToWriteReport, page_html, write_page

_VOID = {"meta", "!doctype"}


class _Balance(HTMLParser):
    """Counts what is open, and notes what would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href") and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _page() -> Page:
    table = TextTable(title="Costs", columns=("policy", "mean, $"), rows=[("<b>ours</b>", "1.5")], caption="A & B")
    figure = Figure(title="Volumes", svg='<svg viewBox="0 0 1 1"><path d="M0 0"></path></svg>', caption="Water.")
    return Page(title="ours and theirs", lead="On 3 scenarios.", parts=[table, figure])


def test_a_page_is_balanced_holds_its_parts_and_loads_nothing() -> None:
    text, balance = page_html(_page()), _Balance()
    balance.feed(text)
    assert (balance.open, balance.loaded) == ([], [])
    assert '<svg viewBox="0 0 1 1">' in text
    assert "<figcaption>Water.</figcaption>" in text


def test_texts_are_escaped() -> None:
    text = page_html(_page())
    assert "&lt;b&gt;ours&lt;/b&gt;" in text
    assert "A &amp; B" in text


def test_a_report_that_cannot_be_written_is_a_usage_problem(tmp_path: Path) -> None:
    with pytest.raises(UnableToWriteReport, match="cannot write the report") as caught:
        write_page(_page(), tmp_path / "nowhere" / "report.html")
    assert caught.value.exit_code == 2
