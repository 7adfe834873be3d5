"""CPU time of SDDP: solves per second, how much of it is HiGHS's own, and the bound against CPU seconds.

    python -m bench.sddp [--case DIR --stage-hours H --load-scale X --initial-storage F] [--stages N] [--iterations N]
                         [--json]

Without --case it is the small case that ships with the project.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from bench.timing import cpu_inside
from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, load_case, small_case_folder
from optimizer.hydrothermal.sddp.baseline import noise_of
from optimizer.hydrothermal.sddp.run import Limits, run
from optimizer.hydrothermal.sddp.train import Iteration, Trainer
from optimizer.hydrothermal.stage import compile_stage
from optimizer.solvers.highs import WarmSolver
from optimizer.training.progress import SilentProgress

SEED = 0
SHOWN = (1, 10, 20, 50, 100, 200, 300, 400, 500)


def measure(case: Case, *, stages: int, iterations: int) -> dict[str, Any]:
    """Train and measure: solves per CPU second, HiGHS's share of the time, the ladder's rungs, the bound as it rose."""
    noise = noise_of(case, stages=stages, inflow_model="autoregressive", noises=30, seed=SEED)
    trainer = Trainer(compile_stage(case), noise=noise)
    with cpu_inside(WarmSolver, "_run") as inside:
        limits = Limits(iterations=iterations, stall_iterations=0)
        done = run(trainer, limits=limits, cpu_clock=time.process_time, progress=SilentProgress())
    last = done.rows[-1]
    return {
        "case": case.name,
        "stages": stages,
        "iterations": last.number,
        "solves": last.solves,
        "cpu_s": round(last.cpu_s, 2),
        "solves_per_s": round(last.solves / last.cpu_s),
        "highs_share": round(inside.seconds / last.cpu_s, 3),
        "cuts_held": trainer.cuts_held,
        "recoveries": dict(trainer.recoveries),
        "bounds": [_shown(row) for row in done.rows if row.number in SHOWN or row is last],
    }


def _shown(row: Iteration) -> dict[str, float]:
    return {"iteration": row.number, "cpu_s": round(row.cpu_s, 1), "bound": round(row.bound, 1)}


def show(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    rungs = ", ".join(f"{name} {count}" for name, count in sorted(found["recoveries"].items())) or "none"
    return "\n".join(
        [
            f"{found['case']}, {found['stages']} stages: {found['iterations']} iterations, {found['solves']} solves in "
            f"{found['cpu_s']} s of CPU, {found['solves_per_s']} per second, {found['highs_share']:.0%} inside HiGHS",
            f"cuts held {found['cuts_held']}   recoveries {rungs}",
            *(f"iteration {one['iteration']:>4}  {one['cpu_s']:>7} s  bound {one['bound']}" for one in found["bounds"]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=Path, default=small_case_folder())
    parser.add_argument("--stage-hours", type=float, default=SMALL_CASE_HOURS)
    parser.add_argument("--load-scale", type=float, default=1.0)
    parser.add_argument("--initial-storage", type=float)
    parser.add_argument("--stages", type=int, default=24)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    case = load_case(
        given.case, stage_hours=given.stage_hours, load_scale=given.load_scale, initial_storage=given.initial_storage
    )
    found = measure(case, stages=given.stages, iterations=given.iterations)
    print(json.dumps(found) if given.json else show(found))


if __name__ == "__main__":
    main()
