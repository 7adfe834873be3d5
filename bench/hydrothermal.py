"""CPU time of a stage of dispatch and of a whole path, each beside what cannot be saved and what others would do.

The floor is HiGHS's own solve, the same right-hand sides in the same order, without our calls around it. Beside it
stand the same stages solved from scratch, and through Pyomo's persistent interface, which keeps one model as we do.

    python -m bench.hydrothermal [--case DIR --stage-hours H --load-scale X] [--stages N] [--json]

Without --case it is the small case that ships with the project.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyomo.contrib.appsi.solvers import Highs as PersistentHighs

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, load_case, small_case_folder
from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.model import stage_model
from optimizer.hydrothermal.stage import StageArrays, compile_stage

SEED = 7
STATES, COLD_STATES, PATHS = 1000, 100, 8
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
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=Path, default=small_case_folder())
    parser.add_argument("--stage-hours", type=float, default=SMALL_CASE_HOURS)
    parser.add_argument("--load-scale", type=float, default=1.0)
    parser.add_argument("--stages", type=int, default=126)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    case = load_case(arguments.case, stage_hours=arguments.stage_hours, load_scale=arguments.load_scale)
    found = measure(case, stages=arguments.stages)
    print(json.dumps(found) if arguments.json else show(found))


if __name__ == "__main__":
    main()
