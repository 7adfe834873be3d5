"""The stage as served recourse: a target becomes a dispatch with prices and water values, always feasible.

The stage's volumes are held at the targets. Less is always possible, for spill has no bound, so what cannot be reached
is a shortfall: a column of its own, at a price above what any water is worth. Where the target is within reach the
shortfall is zero and the optimum is that of the strict stage; where it is not (a request far from what was trained, or
a fallback), the nearest volumes are applied, and the output `shortfall` says by how much they lack.

Soft bounds of the volumes cost what the target alone decides, the last stage's too, so dispatch, prices and water
values do not depend on them: they are not part of the served program.
"""

# n column, m row, R reservoir, P parameter

import numpy as np

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.spec import has_load_field, outputs
from optimizer.hydrothermal.stage import StageArrays
from optimizer.solvers.program import Integers, LinearProgram, rows_of_entries
from policies.recourse.linear import with_stored_basis
from policies.recourse.program import ParametricProgram, Readout, Source, Sparse


def stage_recourse(arrays: StageArrays) -> ParametricProgram:
    """Return the program that is exported, with the basis of a half-full system at typical inflow and load.

    Parameters: the volumes, the inflows of the stage, the targets and, where loads have periods, the loads in MW.

    Raises:
        RecourseRefused: the reference has no optimum.
    """
    case, program = arrays.case, arrays.of_stage(0)
    rows, columns = program.row_lower.size, program.cost.size
    hydros = arrays.reservoirs
    free = np.full(hydros, np.inf)
    row_lower, row_upper, column_upper = _without_load(arrays, program)
    served = ParametricProgram(
        cost=np.concatenate([program.cost, np.full(hydros, shortfall_price(case))]),
        column_lower=np.concatenate([program.column_lower, np.zeros(hydros)]),
        column_upper=np.concatenate([column_upper, free]),
        row_lower=np.concatenate([row_lower, np.zeros(hydros)]),
        row_upper=np.concatenate([row_upper, np.zeros(hydros)]),
        matrix=_matrix(arrays, program),
        row_map=Sparse.from_entries(rows + hydros, _row_map(arrays, rows)),
        column_lower_map=Sparse.empty(columns + hydros),
        column_upper_map=Sparse.from_entries(columns + hydros, _depth_map(arrays)),
        cost_map=Sparse.empty(columns + hydros),
        parameters=_parameters(case),
        readouts=_readouts(arrays, columns),
        applied_columns=arrays.volume_columns,
        basis_columns=np.zeros(columns + hydros, np.int32),
        basis_rows=np.ones(rows + hydros, np.int32),
    )
    return with_stored_basis(served, reference=_reference(case))


def shortfall_price(case: Case) -> float:
    """Return what one unit of volume short of its target costs: ten times the most that water can be worth.

    Water is worth at most what the dearest deficit costs times the power that its whole way down can make.
    """
    dearest = max([tier.cost for tier in case.tiers] + [one.cost for one in case.generators])
    way = np.zeros(len(case.hydros))
    for place in reversed(case.upstream_first):
        hydro = case.hydros[place]
        below = [way[end] for end in (hydro.turbine_to, hydro.spill_to) if end is not None]
        way[place] = hydro.production + max(below, default=0.0)
    per_volume = dearest / case.base_mva * float(way.max(initial=0.0)) / case.volume_per_flow
    violations = sum(hydro.outflow_violation_cost / case.volume_per_flow for hydro in case.hydros)
    spilling = sum(hydro.spill_cost for hydro in case.hydros)
    return 10.0 * max(per_volume + violations + spilling, 1.0)


def _matrix(arrays: StageArrays, program: LinearProgram) -> Sparse:
    """Return the stage's rows without the soft volume bounds' effect, and below them v + shortfall = target."""
    one, rows, columns = program.matrix, program.row_lower.size, program.cost.size
    places = zip(rows_of_entries(one).tolist(), one.indices.tolist(), one.data.tolist(), strict=True)
    entries = list(places)
    for at, column in enumerate(arrays.volume_columns.tolist()):
        entries += [(rows + at, column, 1.0), (rows + at, columns + at, 1.0)]
    return Sparse.from_entries(rows + arrays.reservoirs, entries)


def _without_load(arrays: StageArrays, program: LinearProgram) -> tuple[Floats, Floats, Floats]:
    """Return row bounds and upper column bounds without soft volume bounds and, where it is a parameter, the load."""
    row_lower, row_upper, column_upper = (
        program.row_lower.copy(),
        program.row_upper.copy(),
        program.column_upper.copy(),
    )
    row_lower[arrays.rows["volume_floor"]] = -np.inf
    if has_load_field(arrays.case):
        row_lower[arrays.rows["balance"]] = row_upper[arrays.rows["balance"]] = 0.0
        column_upper[[column for column, _, _ in _depth_map(arrays)]] = 0.0
    return row_lower, row_upper, column_upper


def _row_map(arrays: StageArrays, rows: int) -> list[tuple[int, int, float]]:
    """Return how parameters move rows: volumes and inflows the water, targets the target rows, loads the balance."""
    count, case = arrays.reservoirs, arrays.case
    entries = []
    for at, row in enumerate(arrays.water_rows.tolist()):
        entries += [(row, at, 1.0), (row, count + at, case.volume_per_flow), (rows + at, 2 * count + at, 1.0)]
    if has_load_field(case):
        balance = arrays.rows["balance"].tolist()
        entries += [(row, 3 * count + at, 1.0 / case.base_mva) for at, row in enumerate(balance)]
    return entries


def _depth_map(arrays: StageArrays) -> list[tuple[int, int, float]]:
    """Return how loads move the upper bounds of deficit tiers that are a share of them."""
    case = arrays.case
    if not has_load_field(case):
        return []
    held = [
        (bus, tier.depth)
        for bus in range(len(case.buses))
        for tier in case.tiers
        if tier.depth == float("inf") or case.load[:, bus].max() > 0
    ]
    columns = arrays.columns["deficit"].tolist()
    first = 3 * arrays.reservoirs
    return [
        (column, first + bus, depth / case.base_mva)
        for column, (bus, depth) in zip(columns, held, strict=True)
        if np.isfinite(depth)
    ]


def _parameters(case: Case) -> tuple[str, ...]:
    hydros = range(len(case.hydros))
    volumes = ["request:volume"] if len(case.hydros) == 1 else [f"request:volume:{at}" for at in hydros]
    inflows, targets = [f"sequence:inflow:last:{at}" for at in hydros], [f"proposed:{at}" for at in hydros]
    buses = range(len(case.buses)) if has_load_field(case) else range(0)
    loads = ["request:load"] if len(buses) == 1 else [f"request:load:{at}" for at in buses]
    return (*volumes, *inflows, *targets, *loads)


def _reference(case: Case) -> Floats:
    half = 0.5 * case.volume_max
    inflow = case.inflow.flow.mean(axis=(0, 1)) if hasattr(case.inflow, "flow") else case.inflow.median.mean(axis=0)
    load = case.load.mean(axis=0) * case.base_mva if has_load_field(case) else np.zeros(0)
    reference: Floats = np.concatenate([half, inflow, half, load])
    return reference


def _readouts(arrays: StageArrays, columns: int) -> tuple[Readout, ...]:
    """Return the readouts in the order of `spec.outputs`; a water value is minus the dual of more water."""
    base, hydros = arrays.case.base_mva, arrays.reservoirs
    block, rows = arrays.columns, arrays.rows
    shortfall = np.arange(columns, columns + hydros, dtype=np.int32)
    sources: tuple[tuple[Source, Integers, float], ...] = (
        ("column", block["power"], base),
        ("column", block["turbined"], 1.0),
        ("column", block["spilled"], 1.0),
        ("column", block["deficit"], base),
        ("row_dual", rows["balance"], 1.0 / base),
        ("row_dual", rows["water"], -1.0),
        ("column", shortfall, 1.0),
    )
    return tuple(
        Readout(name=output.name, source=source, indices=indices, scale=np.full(indices.size, scale))
        for output, (source, indices, scale) in zip(outputs(arrays.case), sources, strict=True)
    )
