"""CPU time of a stage of dispatch and of a whole path, each beside what cannot be saved and what others would do.

The floor is HiGHS's own solve, the same right-hand sides in the same order, without our calls around it. Beside it
stand the same stages solved from scratch, and through Pyomo's persistent interface, which keeps one model as we do.

Then the certificates of the cache of dual vertices: the cache is filled by HiGHS along paths of a policy, and fresh
paths of the same policy are certified and solved: CPU time of a point in each way, the share that is certified, and the
largest difference from HiGHS. The policies are random ones and, with --artifact, the one that `penstock train` wrote.

    python -m bench.hydrothermal [--case DIR --stage-hours H --load-scale X --initial-storage F] [--stages N]
        [--artifact DIR] [--json]

Without --case it is the small case that ships with the project.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyomo.contrib.appsi.solvers import Highs as PersistentHighs

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, load_case, small_case_folder
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.model import stage_model
from optimizer.hydrothermal.problem import draw_paths, random_releases
from optimizer.hydrothermal.rollout import roll_out
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from optimizer.hydrothermal.vertices import MISS, DualVertices, release_program
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import Integers
from optimizer.training.loop import torch_threads
from policies.artifact import load_artifact

SEED = 7
STATES, COLD_STATES, PATHS = 1000, 100, 8
KNOWN_PATHS, FRESH_PATHS = (2, 8, 32), 16

Draw = Callable[[int, int], tuple[Floats, Integers]]
"""Draws releases of as many paths, float64 [M, R], by a seed, with the periods of their loads, int32 [M]."""
REPEATS = 3


def measure(case: Case, *, stages: int) -> dict[str, Any]:
    """Measure a case: ms of CPU of a stage in each way, µs of its duals, seconds of a path cold and warm."""
    arrays = compile_stage(case)
    volume, inflow = _states(case)
    water = arrays.water(volume, inflow_BR=inflow)
    warm, floor = (_best(lambda run=run: run(arrays, water)) / STATES * 1e3 for run in (_warm, _floor))  # type: ignore[misc]
    cold = _best(lambda: _cold(arrays, water[:COLD_STATES])) / COLD_STATES * 1e3
    persistent = _persistent(case, volume[:COLD_STATES], inflow[:COLD_STATES]) / COLD_STATES * 1e3
    first, later = _paths(arrays, stages)
    return {
        "case": case.name,
        "columns": arrays.program.cost.size,
        "rows": arrays.program.row_lower.size,
        "nonzeros": arrays.program.matrix.data.size,
        "warm_ms": round(warm, 4),
        "floor_ms": round(floor, 4),
        "warm_over_floor": round(warm / floor, 3),
        "cold_ms": round(cold, 4),
        "pyomo_persistent_ms": round(persistent, 4),
        "pyomo_over_warm": round(persistent / warm, 2),
        "row_duals_us": round(_duals_us(arrays, water[0]), 2),
        "stages": stages,
        "path_first_s": round(first, 3),
        "path_later_s": round(later, 4),
    }


def _states(case: Case) -> tuple[Floats, Floats]:
    """Draw volumes uniformly and inflows of any period and scenario."""
    assert isinstance(case.inflow, InflowTable)
    generator = np.random.default_rng(SEED)
    volume = generator.uniform(0.0, 1.0, (STATES, len(case.hydros))) * case.volume_max
    periods = generator.integers(0, case.inflow.periods, STATES)
    return volume, case.inflow.flow[periods, generator.integers(0, case.inflow.scenarios, STATES)]


def _best(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the best of some runs."""
    return min(_seconds(work) for _ in range(REPEATS))


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _warm(arrays: StageArrays, water: Floats) -> None:
    solver = arrays.solver()
    for one in water:
        solver.solve(one)


def _floor(arrays: StageArrays, water: Floats) -> None:
    solver = arrays.solver()
    model, rows = solver._model, arrays.water_rows
    for one in water:
        model.changeRowsBounds(rows.size, rows, one, one)
        model.run()


def _cold(arrays: StageArrays, water: Floats) -> None:
    solver = arrays.solver()
    for one in water:
        solver.clear()
        solver.solve(one)


def _persistent(case: Case, volume: Floats, inflow: Floats) -> float:
    """Return the CPU seconds of the stages through Pyomo's persistent HiGHS, told to look at parameters alone."""
    model = stage_model(case, volume_before=volume[0], inflow=inflow[0])
    solver = PersistentHighs()
    updates = solver.update_config
    for name in ("check_for_new_or_removed_constraints", "check_for_new_or_removed_vars", "update_constraints"):
        setattr(updates, name, False)
    updates.check_for_new_or_removed_params = updates.update_vars = updates.update_named_expressions = False
    updates.check_for_new_objective = updates.update_objective = False
    solver.highs_options = {"presolve": "off"}
    solver.solve(model)
    solver.config.load_solution = False  # ours reads nothing either
    start = time.process_time()
    for state in zip(volume, inflow, strict=True):
        _move(model, solver, case, *state)
    return time.process_time() - start


def _move(model: Any, solver: Any, case: Case, volume: Floats, inflow: Floats) -> None:
    for at, name in enumerate(case.hydro_names):
        model.volume_before[name] = volume[at]
        model.inflow[name] = inflow[at]
    result = solver.solve(model)
    assert result.termination_condition.name == "optimal"


def _duals_us(arrays: StageArrays, water: Floats) -> float:
    solver = arrays.solver()
    solver.solve(water)
    calls = 2000
    return _best(lambda: [solver.row_duals() for _ in range(calls)]) / calls * 1e6


def _paths(arrays: StageArrays, stages: int) -> tuple[float, float]:
    """Return the CPU seconds of the first path and of each later one, on one model."""
    assert isinstance(arrays.case.inflow, InflowTable)
    table = arrays.case.inflow
    paths = table.paths(table.draw(PATHS, stages=stages, generator=np.random.default_rng(SEED)))
    model = DeterministicEquivalent(arrays, stages=stages)
    first = _seconds(lambda: model.solve(paths[:1]))
    return first, _seconds(lambda: model.solve(paths[1:])) / (PATHS - 1)


def certificates(arrays: StageArrays, *, stages: int, artifact: Path | None) -> list[dict[str, Any]]:
    """Measure the certificates along random policies and a trained one; a row for each size of the cache."""
    case = arrays.case

    def random(paths: int, seed: int) -> tuple[Floats, Integers]:
        return random_releases(case, paths=paths, stages=stages, seed=seed)

    def trained(paths: int, seed: int) -> tuple[Floats, Integers]:
        assert artifact is not None
        policy = load_artifact(artifact).policy
        inflow = draw_paths(case, paths, stages=stages, generator=np.random.default_rng(seed))
        volume = roll_out(policy, arrays, inflow)
        release = arrays.water(volume[:, :-1], inflow_BR=inflow) - volume[:, 1:]
        periods = (np.arange(stages) % case.load.shape[0]).astype(np.int32)
        return release.reshape(-1, arrays.reservoirs), np.tile(periods, paths)

    policies = {"random": random} if artifact is None else {"random": random, "trained": trained}
    with torch_threads(1):
        return [row for name, draw in policies.items() for row in _certified_rows(arrays, name, draw)]


def _certified_rows(arrays: StageArrays, name: str, draw: Draw) -> Iterator[dict[str, Any]]:
    """Return a row for each number of paths that the cache is filled along, all held to the same fresh paths."""
    fresh, periods = draw(FRESH_PATHS, SEED + 1)
    cost = np.empty(len(fresh))
    highs_s = _seconds(lambda: _costs(arrays, fresh, periods, cost))
    for paths in KNOWN_PATHS:
        vertices = DualVertices(arrays)
        release, of_release = draw(paths, SEED)
        vertices.audit(release, periods=of_release)
        found = _certified_row(vertices, fresh, periods, cost)
        yield {"policy": name, **found, "highs_us": round(highs_s / len(fresh) * 1e6, 2)}


def _certified_row(vertices: DualVertices, release: Floats, periods: Integers, cost: Floats) -> dict[str, Any]:
    certified, bound = np.empty(len(release), np.bool_), np.empty(len(release))
    prove_s = _best(lambda: _certify(vertices, release, periods, certified, bound))
    gap = (cost - bound) / np.maximum(np.abs(cost), 1.0)
    return {
        "solved": vertices.counts.solved,
        "vertices": vertices.size,
        "bases": vertices.bases.size,
        "points": len(release),
        "certified_share": round(float(certified.mean()), 4),
        "miss_share": round(float((gap > MISS).mean()), 4),
        "certified_largest_gap": float(np.abs(gap[certified]).max(initial=0.0)),
        "uncertified_largest_gap": float(gap[~certified].max(initial=0.0)),
        "certificate_us": round(prove_s / len(release) * 1e6, 2),
    }


def _costs(arrays: StageArrays, release: Floats, periods: Integers, cost: Floats) -> None:
    """Solve each point by HiGHS, warm, those of a period one after another, and read its duals as training would."""
    for period in np.unique(periods).tolist():
        solver = WarmSolver(release_program(arrays, period=period), moved_rows=arrays.water_rows)
        for place in np.flatnonzero(periods == period).tolist():
            cost[place] = solver.solve(release[place])
            solver.row_duals()


def _certify(
    vertices: DualVertices, release: Floats, periods: Integers, certified: NDArray[np.bool_], bound: Floats
) -> None:
    for period in np.unique(periods).tolist():
        here = periods == period
        points = torch.from_numpy(release[here])
        certified[here] = vertices.certify(points, period=period).numpy()
        bound[here] = vertices.evaluate(points, period=period)[0].numpy()


def show(found: dict[str, Any]) -> str:
    """Return the figures as text."""
    return "\n".join(
        [
            f"{found['case']}: {found['columns']} columns, {found['rows']} rows, {found['nonzeros']} nonzeros",
            f"stage, ms of CPU   warm {found['warm_ms']}   HiGHS alone {found['floor_ms']} "
            f"(ratio {found['warm_over_floor']})   cold {found['cold_ms']}   "
            f"Pyomo persistent {found['pyomo_persistent_ms']} (ratio {found['pyomo_over_warm']})",
            f"row duals, µs      {found['row_duals_us']}",
            f"path of {found['stages']} stages, s of CPU   first {found['path_first_s']}   "
            f"later {found['path_later_s']}",
            *(
                f"certificates, {row['policy']:<8} {row['solved']:>5} solved: {row['vertices']} vertices, "
                f"{row['bases']} bases   certified {row['certified_share']:.1%} of {row['points']}, "
                f"apart by {row['certified_largest_gap']:.0e}   misses {row['miss_share']:.1%}, largest "
                f"{row['uncertified_largest_gap']:.0e}   {row['certificate_us']} µs a point, HiGHS {row['highs_us']}"
                for row in found["certificates"]
            ),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=Path, default=small_case_folder())
    parser.add_argument("--stage-hours", type=float, default=SMALL_CASE_HOURS)
    parser.add_argument("--load-scale", type=float, default=1.0)
    parser.add_argument("--initial-storage", type=float)
    parser.add_argument("--artifact", type=Path)
    parser.add_argument("--stages", type=int, default=126)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    case = load_case(
        arguments.case,
        stage_hours=arguments.stage_hours,
        load_scale=arguments.load_scale,
        initial_storage=arguments.initial_storage,
    )
    found = measure(case, stages=arguments.stages)
    found["certificates"] = certificates(compile_stage(case), stages=arguments.stages, artifact=arguments.artifact)
    print(json.dumps(found) if arguments.json else show(found))


if __name__ == "__main__":
    main()
