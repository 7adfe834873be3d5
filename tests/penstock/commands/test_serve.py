import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.main import main
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import artifact_of


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def _folder(root: Path, *, count: int = 4) -> Path:
    workload = WORKLOADS["ad_load"]()
    folder = root / "queue"
    folder.mkdir()
    (folder / "requests.jsonl").write_bytes(b"\n".join([*workload.messages(count), b"nonsense"]) + b"\n")
    return folder


def _artifact() -> str:
    return str(artifact_of("ad_load").folder)


def test_a_folder_is_served_to_its_end_and_only_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _folder(tmp_path)
    words = ["serve", "--artifact", _artifact(), "--dir", str(folder), "--until-end", "--json"]
    assert main(words) == 0
    first = json.loads(capsys.readouterr().out)["result"]
    assert (first["decisions"], first["dead_letters"], first["fallbacks"]) == (4, 1, 0)
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["result"]["decisions"] == 0
    assert len((folder / "decisions.jsonl").read_bytes().splitlines()) == 4


def test_what_was_served_verifies(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    assert main(["serve", "--artifact", _artifact(), "--dir", str(folder), "--until-end"]) == 0
    assert main(["verify", str(folder / "decisions.jsonl"), "--artifact", _artifact()]) == 0


def test_both_loops_end_in_feedback(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    words = ["serve", "--artifact", _artifact(), "--dir", str(folder), "--loops", "decide,join", "--until-end"]
    assert main(words) == 0
    assert len((folder / "feedback.jsonl").read_bytes().splitlines()) == 4


def test_settings_come_from_a_file_and_flags_come_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, settings = _folder(tmp_path), tmp_path / "settings.json"
    settings.write_text(json.dumps({"artifact": "elsewhere", "dir": str(folder), "follow": False}))
    assert main(["serve", "--settings", str(settings), "--artifact", _artifact()]) == 0
    assert "served: 4 decisions, 1 dead letters, 0 fallbacks" in capsys.readouterr().out


@pytest.mark.slow
def test_it_follows_until_sigterm_and_prints_its_port(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    words = ["-m", "penstock", "serve", "--artifact", _artifact(), "--dir", str(folder), "--metrics-port", "0"]
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline().decode()
        assert line.startswith("metrics: http://127.0.0.1:")
        for logged in process.stderr:
            if json.loads(logged)["event"] == "start loop":
                break
        with urllib.request.urlopen(line.split()[1]) as answer:
            assert b"penstock_requests_total" in answer.read()
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().decode()
        assert process.wait() == 0
    assert rest.startswith("served: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dir", "queue"], "--artifact"),
        (["--artifact", "ARTIFACT"], "--dir"),
        (["--artifact", "ARTIFACT", "--dir", "missing"], "missing"),
        (["--artifact", "ARTIFACT", "--dir", "queue", "--loops", "replay"], "loops"),
        (["--artifact", "ARTIFACT", "--dir", "queue", "--metrics-port", "99999"], "metrics_port"),
        (["--artifact", "ARTIFACT", "--dir", "queue", "--transport", "pigeon"], "pigeon"),
        (["--settings", "missing.toml"], "missing.toml"),
    ],
)
def test_settings_that_cannot_be_are_usage_problems(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _folder(tmp_path)
    words = [_artifact() if word == "ARTIFACT" else word for word in words]
    assert main(["serve", *words, "--until-end"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err.splitlines()[-1]
