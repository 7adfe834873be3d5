"""What it is worth to tell a dispatch policy of inflows: one training for each encoder and seed, at equal CPU-seconds.

Each policy is exported and judged as it is served, every stage by HiGHS, on common scenarios that no training has seen:
the mean cost of the horizon, and the difference to the first encoder of the same seed, paired, with its 95 % interval.

    python -m bench.hydrothermal_encoders [--case DIR] [--stages 24] [--stage-hours 168] [--load-scale 1.0]
        [--encoders none,window,recurrent] [--cpu-minutes 1] [--seeds 0,1] [--scenarios 150]

`window:3` is a window of three inflows, `recurrent:64` a summary of 64 numbers. Without --case it is the small case.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, load_case, small_case_folder
from optimizer.hydrothermal.judge.scenarios import judged_inflow
from optimizer.hydrothermal.operate import operate
from optimizer.hydrothermal.recipe import train
from optimizer.hydrothermal.rollout import roll_out
from optimizer.hydrothermal.settings import Settings
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.paired import paired_difference
from optimizer.training.progress import SilentProgress
from optimizer.training.report import SimulatedReport
from policies.artifact import load_artifact

_SIZES = {"window": "history", "recurrent": "encoder_width"}
_JUDGING_SEED = 4242


def compare(settings: Settings, *, encoders: list[str], scenarios: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each encoder, trained by the same settings and seed."""
    case = load_case(Path(settings.case), stage_hours=settings.stage_hours, load_scale=settings.load_scale)
    arrays = compile_stage(case)
    inflow_BTR = judged_inflow(case, stages=settings.stages, count=scenarios, seed=_JUDGING_SEED)
    first: Floats | None = None
    for name in encoders:
        out = folder / f"{name.replace(':', '-')}-{settings.seed}"
        report = train(None, spec=None, out=out, settings=with_encoder(settings, name), progress=SilentProgress())
        cost = _judged(out, arrays, inflow_BTR)
        first = cost if first is None else first
        yield _row(name, settings.seed, report, cost, first)


def with_encoder(settings: Settings, name: str) -> Settings:
    """Return the settings of an encoder, with the size that follows its name, if any.

    >>> with_encoder(Settings(case="", stages=2, stage_hours=1.0), "window:3").history
    3
    """
    kind, _, size = name.partition(":")
    change = {"encoder": kind} | ({_SIZES[kind]: int(size)} if size else {})
    return msgspec.structs.replace(settings, **change)


def _judged(artifact: Path, arrays: StageArrays, inflow_BTR: Floats) -> Floats:
    volumes = roll_out(load_artifact(artifact).policy, arrays, inflow_BTR)
    cost_B: Floats = operate(arrays, volumes, inflow_BTR=inflow_BTR).cost.sum(axis=1)
    return cost_B


def _row(name: str, seed: int, report: SimulatedReport, cost_B: Floats, first_B: Floats) -> dict[str, Any]:
    found, percent = paired_difference(cost_B, first_B), 100.0 / float(first_B.mean())
    return {
        "encoder": name,
        "seed": seed,
        "cpu_s": float(report.details["training_cpu_s"]),
        "steps": report.steps,
        "held_out": report.looks[-1].cost,
        "mean": float(cost_B.mean()),
        "percent": found.mean * percent,
        "percent_low": found.low * percent,
        "percent_high": found.high * percent,
    }


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['encoder']:13s} seed {row['seed']}  spent {row['cpu_s']:5.1f} s  steps {row['steps']:5d}  "
        f"cost {row['mean']:14.1f}  to the first {row['percent']:+.3f} % "
        f"[{row['percent_low']:+.3f}, {row['percent_high']:+.3f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, default=small_case_folder())
    parser.add_argument("--stages", type=int, default=24)
    parser.add_argument("--stage-hours", type=float, default=SMALL_CASE_HOURS)
    parser.add_argument("--load-scale", type=float, default=1.0)
    parser.add_argument(
        "--encoders", default="none,window,recurrent", help="separated by commas; the first is the reference"
    )
    parser.add_argument("--cpu-minutes", type=float, default=1.0)
    parser.add_argument("--seeds", default="0,1", help="separated by commas")
    parser.add_argument("--scenarios", type=int, default=150)
    given = parser.parse_args()
    for seed in given.seeds.split(","):
        settings = Settings(
            case=str(given.case), stages=given.stages, stage_hours=given.stage_hours, load_scale=given.load_scale,
            cpu_minutes=given.cpu_minutes, steps=10**6, seed=int(seed), device="cpu",
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            rows = compare(
                settings, encoders=given.encoders.split(","), scenarios=given.scenarios, folder=Path(scratch)
            )
            for row in rows:
                print(_line(row), flush=True)


if __name__ == "__main__":
    main()
