"""The floors hold: the import contracts pass, and each of them fails when it is broken on purpose."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("penstock", "policies", "optimizer", "serving")


def _imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def _importers_of(library: str, *, floors: tuple[str, ...] = FLOORS) -> set[str]:
    files = (path for floor in floors for path in (ROOT / floor).rglob("*.py"))
    return {str(path.relative_to(ROOT)) for path in files if library in _imports_of(path)}


def test_one_module_imports_onnxruntime() -> None:
    assert _importers_of("onnxruntime") == {"policies/onnx_policy.py"}


def test_one_module_below_the_training_floor_imports_highspy() -> None:
    assert _importers_of("highspy", floors=("policies", "serving", "penstock")) == {"policies/recourse/linear.py"}


@pytest.mark.parametrize("library", ["torch", "pyomo", "onnx", "onnxscript", "optimizer"])
def test_serving_and_the_shared_language_do_not_import(library: str) -> None:
    assert _importers_of(library, floors=("policies", "serving")) == set()


def test_serving_knows_no_domain_by_name() -> None:
    domains = ("hydrothermal", "inventory", "ad_load", "payments", "iot_scheduling")
    named = [
        (path.name, domain)
        for path in (ROOT / "serving").rglob("*.py")
        for domain in domains
        if domain in path.read_text()
    ]
    assert named == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("policies/errors.py", "import torch\n", "Serving and the shared language"),
        ("optimizer/registry.py", "import serving.contract\n", "Floors"),
        ("serving/contract.py", "import optimizer.contract\n", "Floors"),
        ("policies/errors.py", "import kafka\n", "Policies never reach"),
        ("serving/receive.py", "import pyarrow\n", "Serving has no Parquet"),
        ("optimizer/solvers/highs.py", "import optimizer.hydrothermal.case\n", "Solvers know no domain"),
        ("serving/transport/kafka.py", "import confluent_kafka\n", "One transport knows librdkafka"),
        ("policies/feedback.py", "import policies.artifact\n", "Inside policies"),
        ("policies/settle.py", "import policies.gather\n", "Inside policies"),
        ("policies/without_a_place.py", "", "Inside policies"),
        ("serving/decide.py", "import serving.pipeline\n", "Inside serving"),
        ("serving/contract.py", "import serving.metrics\n", "Inside serving"),
        ("serving/without_a_place.py", "", "Inside serving"),
    ],
)
def test_a_planted_import_breaks_its_contract(tmp_path: Path, module: str, line: str, broken: str) -> None:
    for floor in FLOORS:
        for source in (ROOT / floor).rglob("*.py"):
            target = tmp_path / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    planted = tmp_path / module
    planted.write_text((planted.read_text() if planted.exists() else "") + "\n\n" + line)

    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert any(broken in row and "BROKEN" in row for row in done.stdout.splitlines()), done.stdout
