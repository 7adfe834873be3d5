import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from penstock.main import main
from policies.npz import save_npz

Columns = dict[str, NDArray[Any]]

FIELDS = {
    "target", "estimator", "reward", "value", "low", "high", "confidence", "standard_error", "row_count", "unit_count",
    "effective_units", "largest_weight", "largest_share", "mean_weight", "excluded", "pending", "verdict", "reason",
    "weight_bound", "weight_bound_source", "reward_low", "reward_high", "better_than_log",
}  # fmt: skip
TOLERANCE = 1e-12  # docs/reference/formats.md: the textbook sums, up to the order of addition


def _golden(count: int = 4_000, *, seed: int = 3, gain: float = 0.0) -> Columns:
    """Make a log of the golden form: three positions, five actions, a target that is not far from the logger."""
    generator = np.random.default_rng(seed)
    table = generator.dirichlet(np.full(5, 8.0), size=3)
    logging = generator.dirichlet(np.full(5, 8.0), size=3)
    position = generator.integers(3, size=count)
    action = (generator.random(count)[:, None] > logging.cumsum(axis=1)[position]).sum(axis=1).clip(max=4)
    chance = 0.3 + gain * (table / logging > 1.0)
    return {
        "reward": (generator.random(count) < chance[position, action]).astype(np.float64),
        "pscore": logging[position, action],
        "p_eval": table[position, action],
        "action": action,
        "position": position,
        "q_logged": chance[position, action],
        "q_pi": (table * chance).sum(axis=1)[position],
    }


def _write(folder: Path, columns: Columns) -> str:
    path = folder / "log.npz"
    path.write_bytes(save_npz(columns))
    return str(path)


def _evaluate(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["evaluate", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
    return found


def _of(result: dict[str, Any], target: str) -> dict[str, dict[str, Any]]:
    return {one["estimator"]: one for one in result["estimates"] if one["target"] == target}


def _textbook(columns: Columns) -> dict[str, float]:
    weight = columns["p_eval"] / columns["pscore"]
    reward = columns["reward"]
    return {
        "ips": float(np.mean(weight * reward)),
        "clipped_ips": float(np.mean(np.minimum(weight, 100.0) * reward)),
        "snips": float(np.sum(weight * reward) / np.sum(weight)),
        "dm": float(np.mean(columns["q_pi"])),
        "dr": float(np.mean(columns["q_pi"] + weight * (reward - columns["q_logged"]))),
    }


def test_every_estimator_is_the_textbook_sum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = _golden()
    found = _of(_evaluate(capsys, _write(tmp_path, columns), "--format", "npz", "--target", "t=columns"), "t")
    assert {name: one["value"] for name, one in found.items()} == pytest.approx(_textbook(columns), abs=TOLERANCE)


def test_an_estimate_holds_every_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = _evaluate(capsys, _write(tmp_path, _golden()), "--format", "npz", "--target", "t=columns")
    assert all(set(one) == FIELDS for one in result["estimates"])


@pytest.mark.parametrize("name", ["all_random_to_bts", "all_bts_to_random", "women_bts_to_random"])
def test_golden_files_give_the_textbook_sums(name: str, shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared_data / "open_bandit" / f"golden_{name}.npz"
    with np.load(path) as archive:
        expected = _textbook(dict(archive))
    found = _of(_evaluate(capsys, str(path), "--format", "npz", "--target", "t=columns"), "t")
    assert {key: one["value"] for key, one in found.items()} == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("all_random_to_bts", "answer"), ("all_bts_to_random", "answer"), ("women_bts_to_random", "refuse")],
)
def test_golden_files_are_answered_where_there_is_support(
    name: str, verdict: str, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "open_bandit" / f"golden_{name}.npz"
    found = _of(_evaluate(capsys, str(path), "--format", "npz", "--target", "t=columns"), "t")
    assert {one["verdict"] for one in found.values()} == {verdict}


def test_a_table_equals_the_column_that_was_made_of_it(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "open_bandit"
    reference = f"table:{folder / 'bts_action_dist_all_seed12345_nsim100000.csv'}@position"
    log = str(folder / "golden_all_random_to_bts.npz")
    result = _evaluate(capsys, log, "--format", "npz", "--target", "t=columns", "--target", f"b={reference}")
    assert _of(result, "b")["ips"]["value"] == _of(result, "t")["ips"]["value"]


def test_a_refusal_keeps_its_value_and_says_nothing_of_its_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = _golden(20)
    result = _evaluate(capsys, _write(tmp_path, columns), "--format", "npz", "--target", "t=columns")
    ips = _of(result, "t")["ips"]
    assert (ips["verdict"], ips["low"], ips["high"]) == ("refuse", 0.0, 1.0)
    assert ips["value"] == pytest.approx(_textbook(columns)["ips"], abs=TOLERANCE)
    assert "effective units" in ips["reason"]


def test_a_target_without_any_weight_has_no_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = _golden() | {"p_eval": np.zeros(4_000)}
    ips = _of(_evaluate(capsys, _write(tmp_path, columns), "--format", "npz", "--target", "t=columns"), "t")["ips"]
    assert (ips["value"], ips["verdict"]) == (None, "refuse")


def test_the_policy_that_wrote_the_log_is_always_estimated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = _golden()
    result = _evaluate(capsys, _write(tmp_path, columns), "--format", "npz", "--target", "t=columns")
    logged = _of(result, "logged")
    assert set(logged) == {"ips", "clipped_ips", "snips"}
    assert logged["ips"]["value"] == pytest.approx(columns["reward"].mean(), abs=TOLERANCE)
    assert (logged["ips"]["weight_bound"], logged["ips"]["largest_weight"]) == (1.0, 1.0)


@pytest.mark.parametrize(("gain", "expected"), [(0.0, False), (0.6, True)])
def test_better_than_the_log_is_an_interval_above_it(
    gain: float, expected: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _write(tmp_path, _golden(gain=gain))
    result = _evaluate(capsys, log, "--format", "npz", "--target", "t=columns", "--weight-bound", "6")
    ips, logged = _of(result, "t")["ips"], _of(result, "logged")["ips"]
    assert ips["better_than_log"] is expected
    assert (ips["low"] > logged["high"]) is expected
    assert logged["better_than_log"] is False


def test_the_text_says_what_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", _write(tmp_path, _golden()), "--format", "npz", "--target", "t=columns"]) == 0
    text = capsys.readouterr().out
    assert "t (reward): not shown to be better than the log" in text
    assert "logged (reward): not shown" not in text
    assert not set("│─┃━┏\x1b") & set(text)


def test_an_interval_is_printed_once_per_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", _write(tmp_path, _golden()), "--format", "npz", "--target", "t=columns"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.split()[-1:] != [] and "[0." in line]
    assert len([line for line in rows if not line.startswith(("t (", "logged ("))]) == 3


def test_the_weight_bound_is_the_flag_or_read_off_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = _golden()
    words = (_write(tmp_path, columns), "--format", "npz", "--target", "t=columns")
    by_log = _of(_evaluate(capsys, *words), "t")["ips"]
    by_flag = _of(_evaluate(capsys, *words, "--weight-bound", "50"), "t")["ips"]
    assert by_log["weight_bound"] == pytest.approx((columns["p_eval"] / columns["pscore"]).max())
    assert by_log["weight_bound_source"] == "log"
    assert "read off the log" in by_log["reason"]
    assert (by_flag["weight_bound"], by_flag["weight_bound_source"]) == (50.0, "flag")
    assert by_flag["high"] > by_log["high"]


def test_reward_bounds_that_cannot_be_told_are_a_usage_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = _golden()
    log = _write(tmp_path, columns | {"reward": 3.0 * columns["reward"] - 1.0})
    words = ["evaluate", log, "--format", "npz", "--target", "t=columns"]
    assert main(words) == 2
    assert "--reward-bounds" in capsys.readouterr().err
    found = _of(_evaluate(capsys, *words[1:], "--reward-bounds", "-1,2"), "t")["ips"]
    assert (found["reward_low"], found["reward_high"]) == (-1.0, 2.0)


def test_a_weighted_reward_is_named_sum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = _golden()
    words = (_write(tmp_path, columns), "--format", "npz", "--target", "t=columns", "--reward", "reward=-2")
    found = _of(_evaluate(capsys, *words, "--reward-bounds=-2,0"), "t")
    assert {one["reward"] for one in found.values()} == {"sum"}
    assert found["dr"]["value"] == pytest.approx(-2 * _textbook(columns)["dr"], abs=TOLERANCE)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"pscore": np.zeros(4_000)}, 3, "propensity must lie in"),
        ({"pscore": np.ones(4_000)}, 3, "simulate"),
        ({"reward": np.full(4_000, np.nan)}, 3, "finite"),
        ({"q_logged": np.zeros(3)}, 3, "one length"),
        ({"pscore": np.array(["a"] * 4_000)}, 3, "numbers"),
    ],
)
def test_a_log_that_cannot_be_weighed_is_refused(
    change: Columns, code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _write(tmp_path, _golden() | change)
    assert main(["evaluate", log, "--format", "npz", "--target", "t=columns", "--json"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "t"], "NAME=REF"),
        (["--target", "t=uniform"], "needs requests"),
        (["--target", "t=missing-folder"], "expected a target"),
        (["--target", "t=columns", "--target", "t=logged"], "named twice"),
        (["--target", "t=columns", "--reward", "clicks"], "no reward 'clicks'"),
        (["--target", "t=columns", "--confidence", "95"], "confidence"),
        (["--target", "t=columns", "--weight-bound", "1.01"], "larger|largest"),
        (["--target", "t=columns", "--reward-bounds", "1,0"], "LOW must be below HIGH"),
        (["--target", "t=columns", "--reward-model", "missing.onnx"], "a reward model"),
    ],
)
def test_a_question_that_cannot_be_asked_is_a_usage_problem(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", _write(tmp_path, _golden()), "--format", "npz", *words]) == 2
    assert message.split("|")[-1] in capsys.readouterr().err


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.npz"
    path.write_text("reward,pscore\n")
    assert main(["evaluate", str(path), "--format", "npz", "--target", "t=columns"]) == 3
    assert "npz" in capsys.readouterr().err


def test_columns_of_objects_matter_only_where_they_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objects, log = np.array([None] * 4_000, dtype=object), str(tmp_path / "log.npz")
    np.savez(log, **_golden(), remark=objects)  # type: ignore[arg-type]
    found = _of(_evaluate(capsys, log, "--format", "npz", "--target", "t=columns"), "t")
    assert found["ips"]["value"] == pytest.approx(_textbook(_golden())["ips"], abs=TOLERANCE)
    np.savez(log, **_golden(), unit=objects)  # type: ignore[arg-type]
    assert main(["evaluate", log, "--format", "npz", "--target", "t=columns"]) == 3
    assert "Python objects in unit" in capsys.readouterr().err


def test_npz_needs_neither_pyarrow_nor_torch(tmp_path: Path) -> None:
    log = _write(tmp_path, _golden())
    code = (
        "import sys\n"
        "for name in ('pyarrow', 'torch', 'pyomo', 'onnx', 'onnxruntime', 'rich'): sys.modules[name] = None\n"
        "from penstock.main import main\n"
        f"sys.exit(main(['evaluate', {log!r}, '--format', 'npz', '--target', 't=columns', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["command"] == "evaluate"
