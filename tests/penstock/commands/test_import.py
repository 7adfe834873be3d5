import json
from pathlib import Path

import pytest

from penstock.main import main

LABELS = "\n".join(f"{n % 7}, {n % 5}, {n % 3}" for n in range(300)) + "\n"


def test_a_labelled_set_becomes_a_log_with_its_spec_and_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "labels.data", tmp_path / "log.parquet"
    source.write_text(LABELS)
    words = ["import", str(source), "--format", "classification", "--out", str(out), "--train-share", "0.8"]
    assert main([*words, "--seed", "7", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = document["result"]
    assert document["seed"] == 7
    assert found["train_row_count"] + found["test_row_count"] == found["row_count"]
    assert all(Path(found[name]).exists() for name in ("log", "spec", "train", "test"))
    assert found["spec"] == str(tmp_path / "log.spec.json")


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "labels.data"
    source.write_text(LABELS)
    for name in ("a", "b"):
        out = str(tmp_path / f"{name}.parquet")
        assert main(["import", str(source), "--format", "classification", "--out", out, "--seed", "3"]) == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["missing.csv", "--format", "obd", "--out", "log.parquet"], 2),
        (["labels.data", "--format", "xls", "--out", "log.parquet"], 2),
        (["labels.data", "--format", "classification", "--out", "log.parquet", "--train-share", "2"], 2),
        (["labels.data", "--format", "classification", "--out", "log.csv"], 2),
        (["labels.data", "--format", "obd", "--out", "log.parquet"], 3),
    ],
)
def test_what_cannot_be_imported_is_said(
    words: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.data").write_text(LABELS)
    assert main(["import", *words]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("penstock: ")
