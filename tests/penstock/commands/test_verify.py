import json
from pathlib import Path

import pytest

from penstock.main import main
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import artifact_of


def _decided(folder: Path, domain: str, *extra: str) -> Path:
    requests, out = folder / "requests.jsonl", folder / "decisions.jsonl"
    requests.write_bytes(b"\n".join(WORKLOADS[domain]().messages(6)) + b"\n")
    words = ["decide", "--artifact", _artifact(domain), str(requests), "--out", str(out), *extra]
    assert main(words) == 0
    return out


def _artifact(domain: str) -> str:
    return str(artifact_of(domain).folder)


def test_a_log_of_our_own_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = _decided(tmp_path, "payments")
    capsys.readouterr()
    assert main(["verify", str(log), "--artifact", _artifact("payments"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert (found["decisions"], found["different"], found["first_difference"]) == (6, 0, None)


def test_the_first_difference_is_named_and_the_exit_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = _decided(tmp_path, "ad_load")
    lines = log.read_text().splitlines()
    changed = [line.replace('"propensity":0.1', '"propensity":0.2') if place in (2, 4) else line
               for place, line in enumerate(lines)]  # fmt: skip
    assert changed != lines
    log.write_text("\n".join(changed) + "\n")
    assert main(["verify", str(log), "--artifact", _artifact("ad_load")]) == 3
    assert "line 3, request ad_load-00000002, choices[''].propensity" in capsys.readouterr().out


def test_another_salt_draws_other_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    salt = tmp_path / "salt"
    salt.write_bytes(b"pepper\n")
    log = _decided(tmp_path, "ad_load", "--salt-file", str(salt))
    words = ["verify", str(log), "--artifact", _artifact("ad_load")]
    assert main([*words, "--salt-file", str(salt)]) == 0
    assert main(words) == 3
    assert "propensity" in capsys.readouterr().out or "action" in capsys.readouterr().out


def test_several_artifacts_may_have_decided(tmp_path: Path) -> None:
    first, second = _decided(tmp_path, "ad_load").read_bytes(), _decided(tmp_path, "payments").read_bytes()
    log = tmp_path / "both.jsonl"
    log.write_bytes(first + second)
    assert main(["verify", str(log), "--artifact", _artifact("ad_load"), _artifact("payments")]) == 0


@pytest.mark.parametrize(
    ("text", "words", "code"),
    [("", [], 2), ("nonsense\n", ["--artifact", "ARTIFACT"], 3), (None, ["--artifact", "ARTIFACT"], 2)],
)
def test_what_cannot_be_verified_is_said(
    text: str | None, words: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "decisions.jsonl"
    if text is not None:
        log.write_text(text)
    words = [_artifact("ad_load") if word == "ARTIFACT" else word for word in words]
    assert main(["verify", str(log), *words]) == code
    assert capsys.readouterr().out == ""
