import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.main import main

ROWS = 400


def _log(folder: Path) -> str:
    """Write a log of a labelled set, with its spec beside it, by way of the importer."""
    source, out = folder / "labels.data", folder / "log.parquet"
    source.write_text("\n".join(f"{n % 7}, {n % 5}, {n % 3}" for n in range(ROWS)) + "\n")
    assert main(["import", str(source), "--format", "classification", "--out", str(out)]) == 0
    return str(out)


def _result(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
    return found


def test_a_log_is_read_with_the_spec_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = _result(capsys, _log(tmp_path), "--target", "u=uniform")
    assert {one["estimator"] for one in result["estimates"] if one["target"] == "u"} == {
        "ips", "clipped_ips", "snips", "dm", "dr",
    }  # fmt: skip
    assert {one["weight_bound_source"] for one in result["estimates"] if one["target"] == "u"} == {"floor"}


def test_a_spec_may_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = _log(tmp_path)
    elsewhere = tmp_path / "other.json"
    (tmp_path / "log.spec.json").rename(elsewhere)
    assert _result(capsys, log, "--spec", str(elsewhere), "--target", "u=uniform")["estimates"]
    assert main(["evaluate", log, "--target", "u=uniform"]) == 2
    assert "spec" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["log.parquet", "--target", "u=uniform", "--reward", "clicks"], 2, "no reward 'clicks'"),
        (["log.parquet", "--target", "c=columns"], 2, "p_eval"),
        (["labels.data", "--target", "u=uniform", "--spec", "log.spec.json"], 3, "Parquet"),
        (["log.parquet", "--target", "a=broken"], 4, "broken"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(
    words: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _log(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{}")
    capsys.readouterr()
    assert main(["evaluate", *words]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("has_spec", [True, False])
def test_without_pyarrow_the_extra_is_named_before_anything_else(has_spec: bool, tmp_path: Path) -> None:
    log = _log(tmp_path)
    if not has_spec:
        (tmp_path / "log.spec.json").unlink()
    code = (
        "import sys\nsys.modules['pyarrow'] = None\nfrom penstock.main import main\n"
        f"sys.exit(main(['evaluate', {log!r}, '--target', 'u=uniform']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "penstock[evaluate]" in done.stderr


@pytest.mark.slow
def test_the_open_bandit_sample_is_answered_and_shows_nothing_better(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "open_bandit"
    out = tmp_path / "men.parquet"
    words = ["import", str(folder / "random" / "men" / "men.csv"), "--format", "obd", "--out", str(out)]
    assert main([*words, "--train-share", "0.8"]) == 0
    table = f"bts=table:{folder / 'bts_action_dist_men_seed12345_nsim100000.csv'}@position"
    result = _result(capsys, str(tmp_path / "men.test.parquet"), "--target", "u=uniform", "--target", table)
    assert {one["row_count"] for one in result["estimates"]} == {2_000}
    assert not any(one["better_than_log"] for one in result["estimates"])


@pytest.mark.slow
def test_women_by_the_greedy_log_is_refused(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = str(shared_data / "open_bandit" / "bts" / "women" / "women.csv")
    result = _result(capsys, log, "--format", "obd", "--target", "u=uniform")
    assert {one["verdict"] for one in result["estimates"] if one["target"] == "u"} == {"refuse"}
