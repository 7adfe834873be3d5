"""Latency and CPU of a trained hydrothermal artifact's decisions, through the pipeline that serves them.

Requests are those of a simulated run: every stage of some scenarios, with the volumes that the artifact itself leads
to. Each is decoded, encoded, put through the graph and the stage's program, and written down as a decision with its
dispatch, prices and water values; a broker is not in it. Every request is asked once per pass, in batches of 1, 16 and
256; figures are of the best of three passes, by CPU time.

Beside it stand the same stages solved by HiGHS alone: from the stored basis, as serving must (the same bits in any
order), and warm, from wherever the last solve ended; and what one would do by hand, a Pyomo model written and solved
anew for each stage. The bench fails where their least costs differ, or where a request is not decided at the optimum.

    python -m bench.hydrothermal_decide [--case DIR --stages N --stage-hours H --load-scale X] [--artifact DIR]
        [--train-seconds S] [--requests N] [--json]

Without --case it is the small case; without --artifact one is trained first, for some CPU-seconds.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import highspy
import msgspec
import numpy as np
import pyomo.environ as pyo

import serving.pipeline
from bench.in_memory import InMemoryService
from bench.timing import cpu_inside, percentile
from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, load_case, small_case_folder
from optimizer.hydrothermal.judge.artifact import ServedPolicy, roll_out_served
from optimizer.hydrothermal.judge.requests import write_requests
from optimizer.hydrothermal.judge.scenarios import judged_inflow
from optimizer.hydrothermal.model import stage_model
from optimizer.hydrothermal.recipe import train
from optimizer.hydrothermal.settings import Settings
from optimizer.training.progress import SilentProgress
from penstock.collector import calm_collector
from policies.artifact import Artifact, load_artifact
from policies.encode import Encoder
from policies.errors import Unable
from policies.events import Decision, DecisionRequest, from_bytes, to_bytes
from policies.quantities import settle_quantities
from policies.recourse.linear import LinearRecourse
from serving.catalogue import Lineup, lineup_of

BATCHES: Final = (1, 16, 256)
PASSES: Final = 3
SEED: Final = 7
BY_HAND: Final = 50
"""Stages that are solved by hand: each takes tens of milliseconds."""

AGREES: Final = 1e-6
"""Least costs agree to this share, which is what HiGHS's tolerance of 1e-7 on rows leaves of them."""


class BenchFailed(Unable):
    """What is compared is not the same, or a request was not decided."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A case, an artifact trained for it, and the requests of its own simulated run."""

    case: Case
    artifact: Artifact
    messages: list[bytes]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """All requests decided once: CPU time over all, and of each turn but the first the wall and the CPU time, in µs."""

    cpu_us: float
    wall_us: list[float]
    turn_cpu_us: list[float]


def make_workload(case: Case, artifact: Artifact, *, stages: int, count: int) -> Workload:
    """Simulate enough scenarios for so many requests, a request for each stage."""
    scenarios = -(-count // stages)
    inflow_BTR = judged_inflow(case, stages=stages, count=scenarios, seed=SEED)
    served = ServedPolicy(artifact, case=case, stages=stages)
    volume_BTR = roll_out_served(served, case=case, inflow_BTR=inflow_BTR, name="requests", progress=SilentProgress())
    with tempfile.TemporaryDirectory() as name:
        path, messages = Path(name) / "requests.jsonl", []
        for number, (volume_TR, inflow_TR) in enumerate(zip(volume_BTR, inflow_BTR, strict=True)):
            write_requests(path, spec=artifact.spec, case=case, volume_before_TR=volume_TR[:-1], inflow_TR=inflow_TR)
            messages += [_renamed(line, number) for line in path.read_bytes().splitlines()]
    return Workload(case=case, artifact=artifact, messages=messages[:count])


def _renamed(line: bytes, scenario: int) -> bytes:
    request = from_bytes(line, DecisionRequest)
    return to_bytes(msgspec.structs.replace(request, request_id=f"{request.request_id}-scenario-{scenario:04d}"))


def measure(workload: Workload) -> dict[str, Any]:
    """Measure decisions in each batch, where their time goes, and the same stages solved in other ways."""
    lineup = lineup_of(workload.artifact)
    decisions = _checked(workload, lineup)
    passes = {size: _best_pass(workload, lineup, size) for size in BATCHES}
    count, alone = len(workload.messages), passes[1]
    recourse = workload.artifact.recourse
    assert isinstance(recourse, LinearRecourse)
    return {
        "case": workload.case.name,
        "requests": count,
        "request_bytes": round(float(np.mean([len(message) for message in workload.messages]))),
        "decision_bytes": round(float(np.mean([len(decision) for decision in decisions]))),
        "numbers_per_decision": sum(max(1, len(output.names)) for output in recourse.outputs),
        "alone_us": _shares(alone.wall_us),
        "alone_cpu_us": _shares(alone.turn_cpu_us),
        "us_per_decision": {str(size): round(one.cpu_us / count, 1) for size, one in passes.items()},
        "decisions_per_cpu_s": {str(size): round(1e6 * count / one.cpu_us) for size, one in passes.items()},
        "split_us": {str(size): _split(workload, lineup, size) for size in BATCHES},
        "solves_us": _solves(workload, decisions),
    }


def _checked(workload: Workload, lineup: Lineup) -> list[bytes]:
    """Decide all requests once, and return the decisions where each one is at an optimum."""
    service = InMemoryService(lineup, workload.messages)
    for _ in service.turns(256):
        pass
    decisions = service.decisions()
    found = Counter(_ended(from_bytes(value, Decision)) for value in decisions)
    if found != {"optimal": len(workload.messages)}:
        raise BenchFailed(f"expected {len(workload.messages)} decisions at an optimum, found {dict(found)}")
    return decisions


def _ended(decision: Decision) -> str:
    assert decision.recourse is not None
    return decision.fallback or decision.recourse.status


def _best_pass(workload: Workload, lineup: Lineup, size: int) -> Pass:
    return min((_pass(workload, lineup, size) for _ in range(PASSES)), key=lambda one: one.cpu_us)


def _pass(workload: Workload, lineup: Lineup, size: int) -> Pass:
    turns = InMemoryService(lineup, workload.messages).turns(size)
    wall_s, cpu_s = [time.perf_counter()], [time.process_time()]
    for _ in turns:
        wall_s.append(time.perf_counter())
        cpu_s.append(time.process_time())
    wall_us, turn_cpu_us = (sorted(np.diff(marks)[1:].tolist()) for marks in (wall_s, cpu_s))
    return Pass(
        cpu_us=(cpu_s[-1] - cpu_s[0]) * 1e6,
        wall_us=[1e6 * one for one in wall_us],
        turn_cpu_us=[1e6 * one for one in turn_cpu_us],
    )


def _shares(ordered_us: Sequence[float]) -> dict[str, int]:
    if not ordered_us:
        return {}
    found = {"p50": percentile(ordered_us, 0.5), "p99": percentile(ordered_us, 0.99), "max": ordered_us[-1]}
    return {name: round(value) for name, value in found.items()}


def _split(workload: Workload, lineup: Lineup, size: int) -> dict[str, float]:
    """Return where the CPU time of a decision goes, in µs; clocks are in it, so that the sum is a little larger."""
    runs = [_split_once(workload, lineup, size) for _ in range(PASSES)]
    return min(runs, key=lambda one: sum(one.values()))


def _split_once(workload: Workload, lineup: Lineup, size: int) -> dict[str, float]:
    parts = {
        "decode": (serving.pipeline, "receive"),
        "decide": (serving.pipeline, "decide"),
        "inputs": (Encoder, "encode_requests"),
        "policy": (type(workload.artifact.policy), "propose"),
        "recourse": (LinearRecourse, "apply"),
        "highs": (highspy.Highs, "run"),
        "encode": (serving.pipeline, "record"),
    }
    with ExitStack() as stack:
        spent = {name: stack.enter_context(cpu_inside(*place)) for name, place in parts.items()}
        whole_us = _pass(workload, lineup, size).cpu_us
    count = len(workload.messages)
    us = {name: 1e6 * one.seconds / count for name, one in spent.items()}
    found = {
        "decode": us["decode"],
        "inputs": us["inputs"],
        "policy": us["policy"],
        "recourse, HiGHS": us["highs"],
        "recourse, ours": us["recourse"] - us["highs"],
        "rulings": us["decide"] - us["inputs"] - us["policy"] - us["recourse"],
        "encode": us["encode"],
        "pipeline": whole_us / count - us["decode"] - us["decide"] - us["encode"],
    }
    return {name: round(value, 1) for name, value in found.items()}


def _solves(workload: Workload, decisions: Sequence[bytes]) -> dict[str, float]:
    """Return the CPU time of a stage's solve in each way, in µs."""
    stored_us, costs = min((_by_highs(workload, is_stored=True) for _ in range(PASSES)), key=lambda one: one[0])
    warm_us, warm_costs = min((_by_highs(workload, is_stored=False) for _ in range(PASSES)), key=lambda one: one[0])
    _check_costs("HiGHS warm", warm_costs, costs)
    by_hand_us, places, by_hand_costs = _by_hand(workload, decisions)
    _check_costs("Pyomo", by_hand_costs, costs[places])
    return {
        "HiGHS from the stored basis": round(stored_us, 1),
        "HiGHS warm": round(warm_us, 1),
        "Pyomo by hand": round(by_hand_us, 1),
    }


def _by_highs(workload: Workload, *, is_stored: bool) -> tuple[float, Floats]:
    """Return the CPU time of a stage in HiGHS without our calls around it but those that set the stage, and its costs.

    From the stored basis or, as nobody who serves may, from where the last stage ended.
    """
    artifact = workload.artifact
    recourse = artifact.recourse
    assert isinstance(recourse, LinearRecourse)
    (bucket,) = Encoder(artifact.spec).encode_requests([_request(line) for line in workload.messages]).buckets
    quantities, _ = settle_quantities(artifact.policy.propose(bucket.arrays, bucket.mask), spec=artifact.spec)
    z_BP, _ = recourse._reader.read_sound(quantities, parameters=bucket.arrays)
    changes, solver = recourse._changes.evaluate(z_BP), recourse._solver
    model, costs = solver._model, np.empty(len(z_BP))
    start = time.process_time()
    for row in range(len(z_BP)):
        changes.push(model, row)
        if is_stored:
            model.clearSolver()
            model.setBasis(solver._basis)
        model.run()
        costs[row] = model.getObjectiveValue()
    return 1e6 * (time.process_time() - start) / len(z_BP), costs


def _request(line: bytes) -> DecisionRequest:
    return from_bytes(line, DecisionRequest)


def _by_hand(workload: Workload, decisions: Sequence[bytes]) -> tuple[float, list[int], Floats]:
    """Write and solve a Pyomo model for some stages with the volumes of their decisions; return CPU time and costs."""
    places = list(range(0, len(decisions), max(1, len(decisions) // BY_HAND)))[:BY_HAND]
    asked = [_asked(workload.case, decisions[place]) for place in places]
    start = time.process_time()
    costs = [_solve_by_hand(workload.case, **state) for state in asked]
    return 1e6 * (time.process_time() - start) / len(places), places, np.array(costs)


def _asked(case: Case, line: bytes) -> Mapping[str, Any]:
    decision = from_bytes(line, Decision)
    request, applied = _request(bytes(decision.request)), decision.choices[0].applied
    assert isinstance(applied, list)
    return {
        "period": request.step % len(case.load),
        "volume_before": np.atleast_1d(request.fields["volume"]),
        "inflow": np.atleast_1d(request.fields["inflow"][-1]),
        "volume": np.array(applied),
    }


def _solve_by_hand(case: Case, *, period: int, volume_before: Floats, inflow: Floats, volume: Floats) -> float:
    """Return the least cost of a stage that ends with given volumes, without the price of volumes that are too small.

    Dispatch, prices and water values are then read, as a decision holds them.
    """
    model = stage_model(case, period=period, volume_before=volume_before, inflow=inflow)
    for name, value in zip(case.hydro_names, volume.tolist(), strict=True):
        model.volume[name].fix(value)
    model.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    pyo.SolverFactory("appsi_highs").solve(model)
    read = [[one.value for one in block.values()] for block in (model.power, model.turbined, model.spilled)]
    read += [[model.dual[row] for row in block.values()] for block in (model.balance, model.water)]
    assert all(read)
    costs = {one.name: one.volume_violation_cost for one in case.hydros}
    short = sum(costs[name] * float(pyo.value(one)) for name, one in model.volume_violation.items())
    return float(pyo.value(model.cost)) - short


def _check_costs(name: str, found: Floats, expected: Floats) -> None:
    apart = np.abs(found - expected) / np.maximum(np.abs(expected), 1.0)
    if apart.max() > AGREES:
        at = int(apart.argmax())
        raise BenchFailed(f"{name} finds the least cost {found[at]} where the stored basis gives {expected[at]}")


def show(found: Mapping[str, Any]) -> str:
    """Return the figures as text."""
    return "\n".join(_lines(found))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    us, per_s, solves = found["us_per_decision"], found["decisions_per_cpu_s"], found["solves_us"]
    yield (
        f"{found['case']}: {found['requests']} requests, {found['request_bytes']} -> {found['decision_bytes']} B, "
        f"{found['numbers_per_decision']} numbers each"
    )
    for name, shares in (("wall", found["alone_us"]), ("CPU", found["alone_cpu_us"])):
        yield f"one alone, µs of {name:4}  p50 {shares['p50']:>6}   p99 {shares['p99']:>6}   max {shares['max']:>6}"
    for size in us:
        yield f"batches of {size:>3}   {us[size]:>7} µs of CPU per decision   {per_s[size]:>6} decisions per CPU-second"
    yield "where it goes, µs of CPU  " + "".join(f"{name:>17}" for name in next(iter(found["split_us"].values())))
    for size, parts in found["split_us"].items():
        yield f"batches of {size:>3}             " + "".join(f"{value:>17}" for value in parts.values())
    for name, value in solves.items():
        yield f"the stage by {name:<29} {value:>9} µs of CPU   {value / us['256']:>6.2f} decisions of batches of 256"


def _trained(arguments: argparse.Namespace, *, out: Path) -> Artifact:
    settings = Settings(
        case=str(arguments.case),
        stages=arguments.stages,
        stage_hours=arguments.stage_hours,
        load_scale=arguments.load_scale,
        cpu_minutes=arguments.train_seconds / 60.0,
        device="cpu",
    )
    train(None, spec=None, out=out, settings=settings, progress=SilentProgress())
    return load_artifact(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=Path, default=small_case_folder())
    parser.add_argument("--stages", type=int, default=12)
    parser.add_argument("--stage-hours", type=float, default=SMALL_CASE_HOURS)
    parser.add_argument("--load-scale", type=float, default=1.0)
    parser.add_argument("--artifact", type=Path, help="one that was trained for this case and so many stages")
    parser.add_argument("--train-seconds", type=float, default=5.0, help="CPU-seconds of training without --artifact")
    parser.add_argument("--requests", type=int, default=2048)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    calm_collector()  # as the console script does
    case = load_case(arguments.case, stage_hours=arguments.stage_hours, load_scale=arguments.load_scale)
    with tempfile.TemporaryDirectory() as scratch:
        given = arguments.artifact
        artifact = load_artifact(given) if given else _trained(arguments, out=Path(scratch) / "artifact")
        found = measure(make_workload(case, artifact, stages=arguments.stages, count=arguments.requests))
    print(json.dumps(found) if arguments.json else show(found))


if __name__ == "__main__":
    main()
