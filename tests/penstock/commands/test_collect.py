import json
from pathlib import Path

import pytest

from penstock.main import main
from policies.parquet import read_feedback
from policies.record_files import Record, place_folder, write_records
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import answer, artifact_of, lineup


def test_without_anything_to_do_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "--out", str(tmp_path)]) == 2
    assert "nothing to do" in capsys.readouterr().err


def test_joining_needs_a_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "--out", str(tmp_path), "--join", str(tmp_path / "log.parquet")]) == 2
    assert "--artifact" in capsys.readouterr().err


def test_what_was_collected_is_compacted_and_joined_without_brokers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decided = answer(WORKLOADS["ad_load"]().messages(6), lineup("ad_load"))
    folder = place_folder(tmp_path, topic="p.ad_load.decisions", partition=0)
    for offset, result in enumerate(decided):
        write_records([Record(offset, 0, result.key, result.value)], folder=folder)
    log = tmp_path / "log.parquet"
    words = ["collect", "--out", str(tmp_path), "--prefix", "p", "--compact", "--join", str(log)]
    assert main([*words, "--artifact", str(artifact_of("ad_load").folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    # The last file stays: it may have to be written again.
    assert (found["merged_files"], found["join"]["rows"], found["join"]["orphans"]) == (4, 6, 0)
    assert len(read_feedback(log)) == 6
