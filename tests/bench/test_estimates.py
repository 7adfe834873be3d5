import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.bandit_arrays import WEIGHT_BOUND, write_arrays
from bench.children import ChildFailed, run_child
from bench.estimates import LABELS, PointsDiffer, _affordable, _command, _compare, find_peer, show
from bench.own_estimates import FORMS, measure
from bench.peers.environment import PeerUnavailable


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("arrays")
    write_arrays(made, rows=2_000, seed=1)
    return made


def test_the_dense_arrays_and_the_flat_columns_say_the_same(folder: Path) -> None:
    arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    row, action = np.arange(2_000), arrays["action"]
    assert np.array_equal(arrays["action_dist"][row, action, 0], arrays["p_eval"])
    assert np.array_equal(arrays["estimated_rewards"][row, action, 0], arrays["q_logged"])
    assert np.allclose(arrays["action_dist"].sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert (arrays["p_eval"] / arrays["pscore"]).max() < WEIGHT_BOUND


def test_every_form_gives_the_textbook_points(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.own_estimates.cpu_us", lambda work, count: 1.0)
    column = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    weight = column["p_eval"] / column["pscore"]
    textbook = {
        "ips": (weight * column["reward"]).mean(),
        "snips": (weight * column["reward"]).sum() / weight.sum(),
        "dr": (column["q_pi"] + weight * (column["reward"] - column["q_logged"])).mean(),
    }
    for form in FORMS:
        found = measure(folder, form=form)["estimates"]
        assert {name: one["value"] for name, one in found.items()} == pytest.approx(textbook, abs=1e-12)
        assert all(one["low"] < one["value"] < one["high"] for one in found.values())


@pytest.mark.slow
def test_the_command_says_the_same_as_the_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.own_estimates.cpu_us", lambda work, count: 1.0)
    own = measure(folder, form="columns")["estimates"]
    command = _command(folder)
    _compare({"columns": {"values": {name: one["value"] for name, one in own.items()}}, "command": command})
    assert command["cpu_s"] > 0
    assert command["peak_mb"] > 1


def test_contenders_that_answer_differently_are_not_compared() -> None:
    with pytest.raises(PointsDiffer, match="snips: obp says"):
        _compare({"columns": {"values": {"snips": 0.5}}, "obp": {"values": {"snips": 0.5 + 2e-12}}})


def test_a_bootstrap_is_cut_short_only_above_a_million_rows() -> None:
    assert [_affordable(rows) for rows in (1_000, 1_000_000, 10_000_000)] == [1_000, 1_000, 100]


def test_the_table_shows_ratios_only_beside_a_peer(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"cpu_s": 0.5, "peak_mb": 10.0}
    found = {"rows": 1_000_000, "own": dict.fromkeys(LABELS, line), "command": line, "obp": None}
    show(found)
    assert "obp /" not in capsys.readouterr().out
    peer = {"versions": {"obp": "0.5.7"}, "points_cpu_s": 1.0, "bootstrap_cpu_s_per_1000": 9.0, "resamples": 100}
    show({**found, "obp": {**peer, "peak_mb": 20.0, "points_mb": 15.0, "imports_mb": 5.0, "imports_cpu_s": 2.0}})
    shown = capsys.readouterr().out
    assert "points alone 2.00, points and intervals 20" in shown
    assert "(100 timed, scaled)" in shown


def test_a_peer_that_cannot_be_had_is_left_out_aloud(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Path:
        raise PeerUnavailable("no index is reached")

    monkeypatch.setattr("bench.estimates.obp_python", refuse)
    assert find_peer(skip=True) is None
    assert capsys.readouterr().err == ""
    assert find_peer(skip=False) is None
    assert "obp is left out, its environment cannot be made: no index is reached" in capsys.readouterr().err


def test_a_child_answers_with_its_document_and_its_own_peak() -> None:
    script = "import json; block = bytearray(64 * 2**20); print(json.dumps({'size': len(block)}))"
    child = run_child([sys.executable, "-I", "-S", "-c", script])
    assert child.document == {"size": 64 * 2**20}
    assert child.peak_mb > 64
    assert child.cpu_s > 0


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(ChildFailed, match=r"ended with 1: .*no such luck"):
        run_child([sys.executable, "-I", "-S", "-c", f"raise SystemExit({json.dumps('no such luck')})"])
