"""The house stays small: function lengths, file lengths, repeated lines and mirrored tests, measured on the sources."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("penstock", "policies", "optimizer", "serving")
SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))

FUNCTION_LINES_MAX = 60
FUNCTION_LINES_P90 = 25
FUNCTION_LINES_MEDIAN = 8
FILE_LINES_MAX = 400
REPEATS_MAX = 5


def _function_lengths(path: Path) -> list[tuple[str, int]]:
    """Measure each function without its docstring."""
    lengths = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.end_lineno is None:
            continue
        head = node.body[0]
        is_doc = isinstance(head, ast.Expr) and isinstance(head.value, ast.Constant) and head.end_lineno is not None
        doc = (head.end_lineno or 0) - head.lineno + 1 if is_doc else 0
        lengths.append((f"{path.relative_to(ROOT)}:{node.name}", node.end_lineno - node.lineno + 1 - doc))
    return lengths


def test_no_function_is_longer_than_a_screen() -> None:
    long = [(name, size) for path in SOURCES for name, size in _function_lengths(path) if size > FUNCTION_LINES_MAX]
    assert long == []


def test_functions_are_short_verbs() -> None:
    sizes = sorted(size for path in SOURCES for _, size in _function_lengths(path))
    assert sizes[len(sizes) // 2] <= FUNCTION_LINES_MEDIAN
    assert sizes[int(0.9 * len(sizes))] <= FUNCTION_LINES_P90


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_fits_the_budget(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX


def test_no_long_line_of_the_shared_language_is_pasted_about() -> None:
    lines = [line.strip() for path in (ROOT / "policies").rglob("*.py") for line in path.read_text().splitlines()]
    said_once = ("from ", "import ", "#", "@", "def ", "class ", "raise ")
    counts = Counter(line for line in lines if len(line) > 25 and not line.startswith(said_once))
    assert {line: count for line, count in counts.items() if count > REPEATS_MAX} == {}


def test_package_roots_hold_a_docstring_and_nothing_else() -> None:
    crowded = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.name == "__init__.py" and len(ast.parse(path.read_text()).body) != 1
    ]
    assert crowded == []


def test_nine_in_ten_modules_have_a_test_of_their_own_name() -> None:
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests").rglob("test_*.py")}
    modules = [path for path in SOURCES if not path.name.startswith("__")]
    mirrored = [path for path in modules if path.stem.rstrip("_") in tested]
    missing = sorted(str(path.relative_to(ROOT)) for path in set(modules) - set(mirrored))
    assert len(mirrored) >= 0.9 * len(modules), missing
