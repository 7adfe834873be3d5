"""Estimate IPS, SNIPS and DR with their intervals and verdicts from arrays on disk, and time it.

    python -m bench.own_estimates FOLDER --form columns|units|dense

columns: the five flat columns of a log. units: the same with ten rows per unit, in no order. dense: obp's arrays, from
which the flat columns are taken first, within the time.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.bandit_arrays import DENSE, FLAT, WEIGHT_BOUND
from bench.timing import cpu_us
from policies.evaluation.estimators import Estimate, estimate
from policies.evaluation.scored import Scored
from policies.evaluation.sums import Sums

ESTIMATORS = ("ips", "snips", "dr")
FORMS = ("columns", "units", "dense")


def measure(folder: Path, *, form: str) -> dict[str, Any]:
    """Return the values, the intervals and the CPU time of one pass in seconds."""
    names = {"columns": FLAT, "units": (*FLAT, "unit"), "dense": (*DENSE, "action", "reward", "pscore")}[form]
    arrays = {name: np.load(folder / f"{name}.npy") for name in names}
    work: Callable[[], dict[str, Estimate]] = lambda: (_from_dense if form == "dense" else _from_columns)(arrays)  # noqa: E731
    estimates = work()
    return {
        "form": form,
        "rows": len(arrays["reward"]),
        "cpu_s": cpu_us(work, count=1) / 1e6,
        "estimates": {name: {"value": one.value, "low": one.low, "high": one.high} for name, one in estimates.items()},
        "numpy": np.__version__,
    }


def _from_columns(arrays: dict[str, NDArray[Any]]) -> dict[str, Estimate]:
    scored = Scored(
        reward=arrays["reward"],
        propensity=arrays["pscore"],
        target=arrays["p_eval"],
        unit=arrays.get("unit"),
        q_logged=arrays["q_logged"],
        q_target=arrays["q_pi"],
    )
    sums = Sums.empty().add(scored)
    return estimate(sums, reward_low=0.0, reward_high=1.0, estimators=ESTIMATORS, weight_bound=WEIGHT_BOUND)


def _from_dense(arrays: dict[str, NDArray[Any]]) -> dict[str, Estimate]:
    row, action = np.arange(len(arrays["action"])), arrays["action"]
    target, model = arrays["action_dist"][:, :, 0], arrays["estimated_rewards"][:, :, 0]
    flat = {"p_eval": target[row, action], "q_logged": model[row, action], "q_pi": np.vecdot(target, model)}
    return _from_columns({"reward": arrays["reward"], "pscore": arrays["pscore"], **flat})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--form", choices=FORMS, default="columns")
    options = parser.parse_args()
    print(json.dumps(measure(options.folder, form=options.form)))


if __name__ == "__main__":
    main()
