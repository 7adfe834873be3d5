import csv
import json
from pathlib import Path

import pytest

from penstock.commands.decide import dead_letters_beside
from penstock.main import main
from policies.events import DeadLetter, Decision, from_bytes
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import artifact_of

BAD = b'{"nonsense'


def _requests(folder: Path, domain: str, *, count: int = 5, bad: bool = False) -> str:
    path = folder / "requests.jsonl"
    path.write_bytes(b"\n".join([*WORKLOADS[domain]().messages(count), *([BAD] if bad else [])]) + b"\n")
    return str(path)


def _artifact(domain: str) -> str:
    return str(artifact_of(domain).folder)


def test_decisions_are_lines_on_stdout(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["decide", "--artifact", _artifact("ad_load"), _requests(tmp_path, "ad_load")]) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    assert [from_bytes(line, Decision).source.offset for line in lines] == [0, 1, 2, 3, 4]


def test_a_bad_request_is_a_dead_letter_on_stderr_and_exit_3(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    requests = _requests(tmp_path, "ad_load", count=2, bad=True)
    assert main(["decide", "--artifact", _artifact("ad_load"), requests]) == 3
    printed = capfdbinary.readouterr()
    assert len(printed.out.splitlines()) == 2
    letter = from_bytes(printed.err.strip(), DeadLetter)
    assert (letter.reason, letter.original) == ("not_json", BAD)


def test_dead_letters_lie_beside_the_decisions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests, out = _requests(tmp_path, "ad_load", bad=True), tmp_path / "out.jsonl"
    assert main(["decide", "--artifact", _artifact("ad_load"), requests, "--out", str(out), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)["result"]
    assert found == {"decisions": 5, "dead_letters": 1, "fallbacks": 0}
    assert len(out.read_bytes().splitlines()) == 5
    assert from_bytes((tmp_path / "out.dead.jsonl").read_bytes(), DeadLetter).original == BAD


def test_dead_letters_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    dead_letters_beside(out).write_text("old\n")
    assert main(["decide", "--artifact", _artifact("ad_load"), _requests(tmp_path, "ad_load"), "--out", str(out)]) == 0
    assert not dead_letters_beside(out).exists()


def test_the_batch_size_changes_no_decision(tmp_path: Path) -> None:
    requests = _requests(tmp_path, "payments", count=9)
    choices = []
    for size in ("1", "4", "256"):
        out = tmp_path / f"{size}.jsonl"
        words = ["decide", "--artifact", _artifact("payments"), requests, "--out", str(out), "--batch-size", size]
        assert main(words) == 0
        choices.append([from_bytes(line, Decision).choices for line in out.read_bytes().splitlines()])
    assert choices[0] == choices[1] == choices[2]


def test_a_csv_names_components_and_units(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    requests = _requests(tmp_path, "hydrothermal", count=1)
    assert main(["decide", "--artifact", _artifact("hydrothermal"), requests, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["request_id", "slot", "name", "index", "value", "units"]
    actions = artifact_of("hydrothermal").spec.actions
    assert [row["name"] for row in rows[: len(actions.names)]] == list(actions.names)
    assert [row["units"] for row in rows[: len(actions.names)]] == list(actions.units)


def test_bad_requests_of_a_csv_lie_beside_it(tmp_path: Path) -> None:
    requests, out = _requests(tmp_path, "ad_load", bad=True), tmp_path / "out.csv"
    assert main(["decide", "--artifact", _artifact("ad_load"), requests, "--out", str(out)]) == 3
    assert from_bytes((tmp_path / "out.dead.jsonl").read_bytes(), DeadLetter).reason == "not_json"


@pytest.mark.parametrize("name", ["out.jsonl", "out.dead.jsonl"])
def test_the_requests_are_never_written_over(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    requests = Path(_requests(tmp_path, "ad_load")).rename(tmp_path / name)
    kept = requests.read_bytes()
    words = ["decide", "--artifact", _artifact("ad_load"), str(requests), "--out", str(tmp_path / "out.jsonl")]
    assert main(words) == 2
    assert "written over" in capsys.readouterr().err
    assert requests.read_bytes() == kept


def test_what_was_decided_before_stays_where_there_are_no_requests(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("earlier\n")
    words = ["decide", "--artifact", _artifact("ad_load"), str(tmp_path / "missing.jsonl"), "--out", str(out)]
    assert main(words) == 2
    assert out.read_text() == "earlier\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    out.symlink_to("/dev/full")
    words = ["decide", "--artifact", _artifact("ad_load"), _requests(tmp_path, "ad_load"), "--out", str(out)]
    assert main(words) == 4
    printed = capsys.readouterr().err
    assert "No space left" in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--artifact", "ARTIFACT", "broken"], 2, "no file"),
        (["--artifact", "ARTIFACT", "requests.jsonl", "--out", "broken"], 2, "folder"),
        (["requests.jsonl"], 2, "--artifact"),
        (["--artifact", "missing", "requests.jsonl"], 2, "an artifact"),
        (["--artifact", "ARTIFACT", "missing.jsonl", "--out", "out.jsonl"], 2, "missing.jsonl"),
        (["--artifact", "ARTIFACT", "requests.jsonl", "--json"], 2, "--out"),
        (["--artifact", "ARTIFACT", "requests.jsonl", "--batch-size", "0"], 2, "--batch-size"),
        (["--artifact", "ARTIFACT", "requests.jsonl", "--out", "no/folder/out.jsonl"], 2, "cannot write"),
        (["--artifact", "ARTIFACT", "requests.jsonl", "--salt-file", "missing"], 2, "salt"),
        (["--artifact", "broken", "requests.jsonl"], 4, "broken"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _requests(tmp_path, "ad_load", count=1)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{}")
    assert main(["decide", *[_artifact("ad_load") if word == "ARTIFACT" else word for word in words]]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
