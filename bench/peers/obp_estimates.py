"""Estimate IPS, SNIPS and DR with obp from arrays on disk, and time points and bootstrap apart.

Runs in obp's environment:  python -m bench.peers.obp_estimates FOLDER --resamples B
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import obp  # type: ignore[import-not-found]
import pandas as pd  # type: ignore[import-untyped,import-not-found,unused-ignore]
import sklearn  # type: ignore[import-untyped,import-not-found,unused-ignore]
import torch
from obp.ope import (  # type: ignore[import-not-found]
    DoublyRobust,
    InverseProbabilityWeighting,
    SelfNormalizedInverseProbabilityWeighting,
)

from bench.timing import cpu_us

_PEAK_UNITS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10


def measure(folder: Path, *, resamples: int, seed: int) -> dict[str, Any]:
    """Return the values, the CPU time of the three points together, and that of each bootstrap in seconds."""
    imports = {"imports_cpu_s": time.process_time(), "imports_mb": _peak_mb()}
    names = ("action", "reward", "pscore", "action_dist")
    arguments = {name: np.load(folder / f"{name}.npy") for name in names}
    model = {"estimated_rewards_by_reg_model": np.load(folder / "estimated_rewards.npy")}
    contenders = {
        "ips": (InverseProbabilityWeighting(), arguments),
        "snips": (SelfNormalizedInverseProbabilityWeighting(), arguments),
        "dr": (DoublyRobust(), arguments | model),
    }

    def points() -> dict[str, float]:
        return {name: float(one.estimate_policy_value(**given)) for name, (one, given) in contenders.items()}

    timed = {"values": points(), "points_cpu_s": cpu_us(points, count=1) / 1e6, "points_mb": _peak_mb()}
    bootstrap_cpu_s, intervals = {}, {}
    for name, (one, given) in contenders.items():
        start = time.process_time()
        found = one.estimate_interval(**given, n_bootstrap_samples=resamples, random_state=seed)
        bootstrap_cpu_s[name] = time.process_time() - start
        intervals[name] = [float(found["95.0% CI (lower)"]), float(found["95.0% CI (upper)"])]
    bootstrap = {"resamples": resamples, "bootstrap_cpu_s": bootstrap_cpu_s, "intervals": intervals}
    return {"rows": len(arguments["reward"]), "versions": versions(), **imports, **timed, **bootstrap}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _PEAK_UNITS_PER_MIB


def versions() -> dict[str, str]:
    """Return what answered."""
    modules = {"obp": obp, "numpy": np, "scikit-learn": sklearn, "pandas": pd, "torch": torch}
    return {name: str(module.__version__) for name, module in modules.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(measure(options.folder, resamples=options.resamples, seed=options.seed)))


if __name__ == "__main__":
    main()
