"""Labelled sets turned into bandits whose truth is known, logged again and again, judged through `penstock evaluate`.

Rows are split three ways: one part fits the logging policy, one the targets, and the third is the population. A log is
1,000 draws from the population with replacement, so that the truth is a mean over it. Classifiers are ridge regressions
of the classes, softened; the log plays uniformly with probability FLOOR, which is all that a user would know of its
weights.

    like the log   a better classifier, nearly as soft
    sharp          the same, nearly always its first choice
    wrong          the classifier's answers moved one class on: rarely right, rarely logged
    units          "like the log", where a drawn row is logged 1 to 20 times: rewards of a unit go together
    units ignored  the same logs without their column of units
"""

# N row, K class, D feature

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from penstock.main import main as penstock
from policies.errors import Unable

FLOOR: Final = 0.2
LOGGER_ROWS: Final = 100
"""So few rows fit the logging policy, so that it errs otherwise than the targets."""

LOG_ROWS: Final = 1_000
LARGEST_UNIT: Final = 20
SETS: Final = ("optdigits", "pendigits")
_RIDGE: Final = 1.0
_LOG_SHARPNESS: Final = 3.0
_SHARPNESS: Final = {"like the log": 4.0, "sharp": 20.0, "wrong": 20.0}
CASES: Final = (*_SHARPNESS, "units", "units ignored")

Array = NDArray[np.float64]


class CommandFailed(Unable):
    """`penstock evaluate` did not answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Population:
    """Hold the rows that logs are drawn from: labels int64 [N], probabilities and a model's rewards float64 [N, K]."""

    labels: NDArray[np.int64]
    logging: Array
    targets: dict[str, Array]
    model: Array

    @property
    def weight_bound(self) -> float:
        """The largest possible weight, as far as the exploration floor tells."""
        return float(self.logging.shape[1] / FLOOR)

    def truth(self, target: str) -> float:
        """Return what a target earns."""
        return float(self.targets[target][np.arange(len(self.labels)), self.labels].mean())


def labelled_sets(seed: int) -> Iterator[tuple[str, Array, NDArray[np.int64]]]:
    """Yield name, features [N, D] and labels [N]: UCI's two where PENSTOCK_DATA names them, else a generated one."""
    named = os.environ.get("PENSTOCK_DATA")
    if not named:
        yield "generated", *_generated(np.random.default_rng(seed))
        return
    for name in SETS:
        cells = np.loadtxt(Path(named) / "uci" / f"{name}.data", delimiter=",")
        yield name, cells[:, :-1], cells[:, -1].astype(np.int64)


def _generated(generator: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    labels = generator.integers(10, size=6_000)
    centers = generator.standard_normal((10, 16))
    return centers[labels] + 1.2 * generator.standard_normal((6_000, 16)), labels


def population(features: Array, labels: NDArray[np.int64], *, generator: np.random.Generator) -> Population:
    """Split rows at random, fit the policies on the first two fifths, and return the rest with what they would do."""
    order = generator.permutation(len(labels))
    classes = int(labels.max()) + 1
    for_log, for_targets, rest = np.split(order, [len(order) // 5, 2 * len(order) // 5])
    rough = _scores(features, labels, classes, fit_on=for_log[:LOGGER_ROWS], of=rest)
    good = _scores(features, labels, classes, fit_on=for_targets, of=rest)
    targets = {name: _softmax(sharpness * good) for name, sharpness in _SHARPNESS.items()}
    targets["wrong"] = np.roll(targets["wrong"], 1, axis=1)
    return Population(
        labels=labels[rest],
        logging=(1 - FLOOR) * _softmax(_LOG_SHARPNESS * rough) + FLOOR / classes,
        targets=targets,
        model=good.clip(0.0, 1.0),
    )


def _scores(
    features: Array, labels: NDArray[np.int64], classes: int, *, fit_on: NDArray[np.int64], of: NDArray[np.int64]
) -> Array:
    scaled = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    design = np.hstack([scaled, np.ones((len(scaled), 1))])
    rows = design[fit_on]
    gram = rows.T @ rows + _RIDGE * np.eye(design.shape[1])
    result: Array = design[of] @ np.linalg.solve(gram, rows.T @ np.eye(classes)[labels[fit_on]])
    return result


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def draw_log(people: Population, case: str, *, generator: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Draw a log as the columns of an npz."""
    row = generator.integers(len(people.labels), size=LOG_ROWS)
    unit = np.arange(LOG_ROWS)
    if case.startswith("units"):
        sizes = generator.integers(1, LARGEST_UNIT + 1, size=LOG_ROWS)
        unit = np.repeat(unit, sizes)[:LOG_ROWS]
        row = row[unit]
    target = people.targets[target_of(case)]
    below = people.logging[row].cumsum(axis=1) <= generator.random(LOG_ROWS)[:, None]
    action = below.sum(axis=1).clip(max=people.logging.shape[1] - 1)
    columns = {
        "reward": (action == people.labels[row]).astype(np.float64),
        "pscore": people.logging[row, action],
        "p_eval": target[row, action],
        "action": action,
        "position": np.zeros(LOG_ROWS, dtype=np.int64),
        "q_logged": people.model[row, action],
        "q_pi": (target[row] * people.model[row]).sum(axis=1),
    }
    return columns | ({"unit": unit} if case == "units" else {})


def target_of(case: str) -> str:
    """Return the target that a case asks about."""
    return "like the log" if case.startswith("units") else case


def ask(columns: dict[str, NDArray[Any]], *, weight_bound: float) -> dict[str, dict[str, Any]]:
    """Return the estimates of `penstock evaluate LOG.npz` by estimator.

    Raises:
        CommandFailed: its exit code was not 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.npz"
        np.savez(log, **columns)  # type: ignore[arg-type]
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = penstock([
                "evaluate", str(log), "--format", "npz", "--target", "t=columns",
                "--weight-bound", repr(weight_bound), "--reward-bounds", "0,1", "--json",
            ])  # fmt: skip
    if code:
        raise CommandFailed(f"penstock evaluate ended with {code}")
    told = json.loads(output.getvalue())["result"]["estimates"]
    return {one["estimator"]: one for one in told if one["target"] == "t"}
