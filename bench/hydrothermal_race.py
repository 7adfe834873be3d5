"""Cost against CPU-seconds: TS-DDR and SDDP trained on the same budgets, judged by HiGHS on common fresh scenarios.

Both run on one thread of one machine. TS-DDR is trained anew for each budget, because its learning rate falls over the
budget; SDDP runs once, and its cuts are taken as they stand when each budget is spent, which is what a run of that
budget gives. TS-DDR's clock starts before the case is read, SDDP's when it is compiled; judging and, for TS-DDR, export
are no part of either. All policies meet the same scenarios, drawn apart from those of any training, and what is left
after the last reported stage is credited by one value function: that of the cuts of `--reference`, or else of SDDP's
longest run here. They are also whom costs are compared with.

    python -m bench.hydrothermal_race --case DIR [--stages 126] [--stage-hours 168] [--load-scale 0.6]
        [--report-stages 96] [--budgets 15,30,60,120,300,600] [--scenarios 200] [--seed 1] [--reference CUTS.json]
        [--keep DIR] [--json]

`--keep` keeps artifacts and cuts in a folder, for `penstock simulate`. Without --case it is the small case.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, load_case, small_case_folder
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.judge.artifact import ServedPolicy
from optimizer.hydrothermal.judge.course import Course
from optimizer.hydrothermal.judge.judged import Judged
from optimizer.hydrothermal.judge.scenarios import judged_inflow
from optimizer.hydrothermal.recipe import train
from optimizer.hydrothermal.sddp.cuts import CostToGo
from optimizer.hydrothermal.sddp.cuts_file import read_cuts, write_cuts
from optimizer.hydrothermal.sddp.noise import table_noise
from optimizer.hydrothermal.sddp.train import Trainer, Training, cost_floors
from optimizer.hydrothermal.settings import Settings
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.paired import paired_difference
from optimizer.training.progress import SilentProgress
from policies.artifact import load_artifact

Cuts = Sequence[CostToGo]


def race(arguments: argparse.Namespace, *, keep: Path) -> dict[str, Any]:
    """Train both for each budget, judge all, and return a row for each."""
    case = load_case(arguments.case, stage_hours=arguments.stage_hours, load_scale=arguments.load_scale)
    arrays = compile_stage(case)
    budgets = [float(text) for text in arguments.budgets.split(",")]
    cuts = dict(_sddp(arrays, budgets, stages=arguments.stages, seed=arguments.seed, keep=keep))
    reference = _reference(arguments.reference, arrays, arguments.stages) or cuts[max(cuts)][0]
    inflow_BTR = judged_inflow(case, stages=arguments.report_stages, count=arguments.scenarios, seed=arguments.seed)
    judged = Judged(
        arrays=arrays,
        inflow=inflow_BTR,
        horizon=arguments.stages,
        credit=reference[arguments.report_stages - 1],
        progress=SilentProgress(),
    )
    against = judged.by_cuts("reference", reference)
    rows = []
    for budget in budgets:
        sddp = judged.by_cuts("sddp", cuts[budget][0])
        served, spent_s, steps = _ts_ddr(arguments, case, budget, keep=keep)
        ours = judged.served("ts_ddr", served)
        rows.append(_row("sddp", budget, cuts[budget][1], cuts[budget][2], sddp, against))
        rows.append({**_row("ts_ddr", budget, spent_s, steps, ours, against), **_head_to_head(ours, sddp)})
        print(_line(rows[-2]), _line(rows[-1]), sep="\n", flush=True)
    foresight = judged.foresight()
    return {
        "case": case.name,
        "scenarios": len(inflow_BTR),
        "report_stages": arguments.report_stages,
        "reference_mean_with_credit": float(against.cost_with_credit.mean()),
        "foresight": _row("foresight", None, None, None, foresight, against),
        "rows": rows,
    }


def _sddp(
    arrays: StageArrays, budgets: Sequence[float], *, stages: int, seed: int, keep: Path
) -> Iterator[tuple[float, tuple[Cuts, float, int]]]:
    """Yield for each budget, ascending, the cuts as they stand then, the CPU-seconds spent, and the iterations."""
    assert isinstance(arrays.case.inflow, InflowTable)
    started = time.process_time()
    trainer = Trainer(arrays, noise=table_noise(arrays.case.inflow, stages=stages), training=Training(seed=seed))
    for budget in sorted(budgets):
        while time.process_time() - started < budget:
            trainer.iterate()
        spent_s = time.process_time() - started
        cuts = trainer.costs_to_go()
        write_cuts(keep / f"cuts-{budget:g}.json", cuts)
        yield budget, (cuts, spent_s, trainer.iteration)
        started += time.process_time() - started - spent_s  # writing is no part of the training


def _ts_ddr(arguments: argparse.Namespace, case: Case, budget: float, *, keep: Path) -> tuple[ServedPolicy, float, int]:
    """Return the policy of one budget as it is served, the CPU-seconds its training took, and the steps."""
    out = keep / f"artifact-{budget:g}"
    settings = Settings(
        case=str(arguments.case),
        stages=arguments.stages,
        stage_hours=arguments.stage_hours,
        load_scale=arguments.load_scale,
        cpu_minutes=budget / 60.0,
        steps=10**6,
        seed=arguments.seed,
        device="cpu",
    )
    report = train(None, spec=None, out=out, settings=settings, progress=SilentProgress())
    served = ServedPolicy(load_artifact(out), case=case, stages=arguments.stages)
    return served, float(report.details["training_cpu_s"]), report.steps


def _reference(path: Path | None, arrays: StageArrays, stages: int) -> Cuts | None:
    if path is None:
        return None
    floors = cost_floors(arrays, stages=stages)
    return read_cuts(path, stages=stages, reservoirs=arrays.reservoirs, floors=floors)


def _row(
    name: str, budget: float | None, spent_s: float | None, rounds: int | None, course: Course, against: Course
) -> dict[str, Any]:
    found = paired_difference(course.cost_with_credit, against.cost_with_credit)
    percent = 100.0 / float(against.cost_with_credit.mean())
    return {
        "policy": name,
        "budget_s": budget,
        "cpu_s": None if spent_s is None else round(spent_s, 1),
        "rounds": rounds,
        "mean": float(course.cost.mean()),
        "mean_with_credit": float(course.cost_with_credit.mean()),
        "percent": found.mean * percent,
        "percent_low": found.low * percent,
        "percent_high": found.high * percent,
    }


def _head_to_head(ours: Course, theirs: Course) -> dict[str, float]:
    """Return TS-DDR beside SDDP of the same budget, in percent of the latter."""
    found = paired_difference(ours.cost_with_credit, theirs.cost_with_credit)
    percent = 100.0 / float(theirs.cost_with_credit.mean())
    return {
        "to_sddp_percent": found.mean * percent,
        "to_sddp_percent_low": found.low * percent,
        "to_sddp_percent_high": found.high * percent,
    }


def _line(row: dict[str, Any]) -> str:
    head_to_head = ""
    if "to_sddp_percent" in row:
        low, high = row["to_sddp_percent_low"], row["to_sddp_percent_high"]
        head_to_head = f"   to SDDP of the same budget {row['to_sddp_percent']:+.4f} % [{low:+.4f}, {high:+.4f}]"
    return (
        f"{row['policy']:9s} {row['budget_s']:6g} s  spent {row['cpu_s']:7.1f} s  rounds {row['rounds']:6d}  "
        f"cost {row['mean_with_credit']:12.2f}  to the reference {row['percent']:+.4f} % "
        f"[{row['percent_low']:+.4f}, {row['percent_high']:+.4f}]{head_to_head}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, default=small_case_folder())
    parser.add_argument("--stages", type=int, default=126)
    parser.add_argument("--stage-hours", type=float, default=SMALL_CASE_HOURS)
    parser.add_argument("--load-scale", type=float, default=1.0)
    parser.add_argument("--report-stages", type=int, default=96)
    parser.add_argument("--budgets", default="15,30,60,120,300,600", help="CPU-seconds, separated by commas")
    parser.add_argument("--scenarios", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reference", type=Path, help="cuts of a converged SDDP, for credit and comparison")
    parser.add_argument("--keep", type=Path, help="folder where artifacts and cuts are kept")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        keep = arguments.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        found = race(arguments, keep=keep)
    if arguments.json:
        print(json.dumps(found))
    else:
        print(f"foresight {found['foresight']['percent']:+.4f} % to the reference, {found['scenarios']} scenarios")


if __name__ == "__main__":
    main()
