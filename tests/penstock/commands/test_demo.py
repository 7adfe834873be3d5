"""The verb `demo` finds its data by flag, then by PENSTOCK_DATA, else generates samples."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.demo import earning, honesty
from penstock.demo.earning import Told
from penstock.main import main


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    seen = SimpleNamespace(data=[], seeds=[])

    def tell(*, data: Path | None, folder: Path, seed: int, progress: Any) -> Told:
        seen.data.append(data)
        seen.seeds.append(seed)
        return Told(text=["a story"], result={})

    monkeypatch.setattr(earning, "tell", tell)
    monkeypatch.setattr(honesty, "tell", tell)
    return seen


def test_the_environment_names_the_data_unless_the_flag_does(
    told: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA", str(tmp_path / "shared"))
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert main(["demo", "--out", str(tmp_path / "demo"), "--data", str(tmp_path / "mine"), "--seed", "4"]) == 0
    assert told.data == [tmp_path / "shared"] * 2 + [tmp_path / "mine"] * 2
    assert told.seeds == [0, 0, 4, 4]


def test_without_data_none_is_passed_and_the_folder_is_named(
    told: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PENSTOCK_DATA", raising=False)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 0
    assert told.data == [None, None]
    assert f"{tmp_path / 'demo'}/ now holds artifact/" in capsys.readouterr().out
