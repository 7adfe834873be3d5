import json
from pathlib import Path

import pytest

from penstock.main import main
from tests.helpers.lineups import artifact_of


def test_a_sound_installation_and_artifact_are_told_without_brokers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--artifact", str(artifact_of("payments").folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert found["wrong"] == 0
    assert {finding["check"] for finding in found["findings"]} == {
        "packages", "checksums", "telemetry", "artifact", "exploration",
    }  # fmt: skip


def test_what_is_wrong_is_told_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--artifact", str(tmp_path / "absent")]) == 4
    said = capsys.readouterr().out
    assert "wrong    artifact: " in said
    assert "remedy: " in said
