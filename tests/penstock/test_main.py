import json
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.arguments import VERBS
from penstock.main import main
from policies.errors import ContentRefused, Unable, UsageProblem

HEAVY = ("numpy", "msgspec", "onnxruntime", "pyarrow", "torch", "rich", "kafka", "prometheus_client", "dataclasses")


def _python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_help_imports_nothing_heavy() -> None:
    done = _python(
        "import sys\nfrom penstock.main import main\ncode = main(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    assert done.stdout.splitlines()[-1] == "[] 0", done.stderr


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"train"}))
def test_every_verb_explains_itself_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: penstock {verb}" in text
    assert "example: " in text
    assert "--json" in text


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "penstock", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("penstock ")


@pytest.mark.parametrize(
    "words", [[], ["unknown"], ["evaluate"], ["evaluate", "x.npz", "--target", "t=columns", "--no"]]
)
def test_a_wrong_command_line_is_a_usage_problem(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("penstock: ")
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize(("kind", "code"), [(UsageProblem, 2), (ContentRefused, 3), (Unable, 4)])
def test_an_anticipated_error_ends_in_its_exit_code(
    kind: type[Exception], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: object) -> None:
        raise kind("the reason")

    monkeypatch.setattr("penstock.commands.complete.run", run)
    assert main(["complete", "bash", "--json"]) == code
    assert capsys.readouterr() == ("", "penstock: the reason\n")


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")

    monkeypatch.setattr("penstock.commands.complete.run", run)
    assert main(["complete", "bash"]) == 4
    assert "penstock[train]" in capsys.readouterr().err


def test_an_unexpected_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> None:
        raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")

    monkeypatch.setattr("penstock.commands.complete.run", run)
    with pytest.raises(ModuleNotFoundError):
        main(["complete", "bash"])


def test_an_interrupt_is_told_politely(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("penstock.commands.complete.run", run)
    assert main(["complete", "bash"]) == 130
    assert capsys.readouterr().err == "penstock: interrupted\n"


def test_a_reader_that_leaves_is_no_traceback() -> None:
    code = "import sys\nfrom penstock.main import main\nsys.exit(main(['complete', 'bash']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_json_is_one_document_with_what_the_run_took(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["complete", "zsh", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["schema", "command", "seed", "cpu_s", "wall_s", "result"]
    assert found["command"] == "complete"
    assert found["cpu_s"] >= 0
    assert found["wall_s"] > 0


def test_each_verb_has_its_module() -> None:
    folder = Path(__file__).parents[2] / "penstock" / "commands"
    assert {f"{name}.py" for name in VERBS.values()} | {"__init__.py"} == {path.name for path in folder.glob("*.py")}
