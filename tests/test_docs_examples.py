"""README, tutorial and how-to pages are true: their examples run, and print what the pages say."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.page_examples import ROOT, examples_of, fits, run_examples

PAGES = [
    ROOT / "README.md",
    *sorted(path for folder in ("tutorial", "how-to") for path in (ROOT / "docs" / folder).glob("*.md")),
]
DEMO = "demo/"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docs-examples")]


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what `make demo` leaves behind where there is no shared data."""
    folder = tmp_path_factory.mktemp("made") / "demo"
    penstock = Path(sys.executable).with_name("penstock")
    nowhere = str(folder.with_name("no-data"))
    words = [str(penstock), "demo", "--out", str(folder), "--data", nowhere, "--json"]
    subprocess.run(words, check=True, capture_output=True, timeout=240)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_print_what_it_says(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = page.read_text(encoding="utf-8")
    if DEMO in text:
        shutil.copytree(request.getfixturevalue("demo_folder"), tmp_path / "demo")
    examples = examples_of(text)
    assert examples
    assert run_examples(examples, folder=tmp_path) == []


def test_a_false_page_is_told() -> None:
    page = "```console\n$ echo 0.5 decisions\n0.7 decisions\n$ echo 3 decisions\n4 decisions\n$ false\n```\n"
    wrong = run_examples(examples_of(page), folder=ROOT)
    assert [text.splitlines()[0] for text in wrong] == ["line 4: echo 3 decisions", "line 6: false"]


@pytest.mark.parametrize(
    ("expected", "output", "is_fit"),
    [
        (("a 0.25", "...", "z"), "a  1e-06\nb\nc\nz\n", True),
        (("a", "...", "z"), "a\nz\n", True),
        (("a", "z"), "a\nb\nz\n", False),
        (("a ... z",), "a b c z\n", True),
        (("[0.1, 0.2]",), "[0, 1]\n", True),
        (("answer 0.1",), "refuse 0.1\n", False),
        ((), "", True),
        ((), "unexpected\n", False),
    ],
)
def test_output_is_compared_by_pattern(expected: tuple[str, ...], output: str, is_fit: bool) -> None:
    assert fits(expected, output) is is_fit
