"""Bootstrap logs with obp and return every interval.

Runs in obp's environment:  python -m bench.peers.obp_coverage LOGS.npz --resamples B

LOGS.npz holds logging and target [C, A] by context; context and action int64, reward float64 [R, N] for R logs of N
rows; model [R, C, A], the predicted rewards.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from obp.ope import (  # type: ignore[import-not-found]
    DoublyRobust,
    InverseProbabilityWeighting,
    SelfNormalizedInverseProbabilityWeighting,
)

ESTIMATORS = {
    "ips": InverseProbabilityWeighting(),
    "snips": SelfNormalizedInverseProbabilityWeighting(),
    "dr": DoublyRobust(),
}


def intervals(logs: dict[str, NDArray[Any]], *, resamples: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Return both ends by estimator and log."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ESTIMATORS}
    for number, (context, action, reward, model) in enumerate(
        zip(logs["context"], logs["action"], logs["reward"], logs["model"], strict=True)
    ):
        target = logs["target"][context]
        arguments = {
            "reward": reward,
            "action": action,
            "pscore": logs["logging"][context, action],
            "action_dist": target[:, :, None],
            "estimated_rewards_by_reg_model": model[context][:, :, None],
        }
        for name, estimator in ESTIMATORS.items():
            ends = estimator.estimate_interval(**arguments, n_bootstrap_samples=resamples, random_state=seed + number)
            found[name].append((float(ends["95.0% CI (lower)"]), float(ends["95.0% CI (upper)"])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(intervals(dict(np.load(options.logs)), resamples=options.resamples, seed=options.seed)))


if __name__ == "__main__":
    main()
