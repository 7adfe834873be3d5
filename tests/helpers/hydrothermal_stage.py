"""A made-up hydrothermal stage of realistic size, as a parametric program: for tests, fixtures and benches.

Eleven plants (three links of a cascade), 23 thermal units, 28 buses, 31 branches, DC power flow: 154 columns and 113
rows as the Bolivian case has, and 22 columns and 11 rows more for soft targets, which make every stage feasible.
All numbers are drawn from a seed. Units as in the field: storage, target and spill hm³; inflow and turbined flow m³/s;
power in units of BASE_MVA inside the program and in MW outside; costs in USD per stage.

Source: the stage problem of Rosemberg et al., "Efficiently Training Deep-Learning Parametric Policies using Lagrangian
Duality" (2024), DC variant, penalized targets.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.recourse.linear import with_stored_basis
from policies.recourse.program import ParametricProgram, Readout, Source, Sparse
from policies.spec import ActionSet, Field, Output, PolicySpec, RecourseSpec

PLANTS, THERMALS, BUSES, BRANCHES = 11, 23, 28, 31
STAGE_HOURS = 168.0
BASE_MVA = 100.0
HM3_PER_M3S = 0.0036 * STAGE_HOURS
DEFICIT_USD_PER_MW = 60.0
TARGET_PENALTY_USD_PER_HM3 = 6_000.0
SPILL_USD_PER_HM3 = 0.01
TURBINE_LINKS = ((0, 4), (2, 5), (7, 8))  # upstream, downstream: turbined water
SPILL_LINKS = ((2, 5), (7, 8))  # the first link passes turbined water only

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Hold the drawn system: one number per plant, unit, bus or branch."""

    storage_max_hm3: Floats
    inflow_mean_m3s: Floats
    turbine_max_m3s: Floats
    production_mw_per_m3s: Floats
    generator_max_mw: Floats  # thermal units first, then one unit per plant
    cost_usd_per_mw: Floats
    generator_bus: NDArray[np.int64]
    load_mw: Floats
    branch_ends: NDArray[np.int64]  # [L, 2]
    susceptance: Floats
    rating_mw: Floats


def draw_stage(seed: int) -> Stage:
    """Draw a system: few large reservoirs, many small ones, a ring of buses with three chords that congests."""
    rng = np.random.default_rng(seed)
    storage = np.round(np.geomspace(140.0, 0.2, PLANTS)[rng.permutation(PLANTS)], 2)
    turbine = np.round(rng.uniform(4.0, 30.0, PLANTS), 1)
    production = np.round(rng.uniform(0.8, 4.0, PLANTS), 2)
    thermal_mw = np.round(rng.uniform(8.0, 40.0, THERMALS), 1)
    ring = [(bus, (bus + 1) % BUSES) for bus in range(BUSES)]
    return Stage(
        storage_max_hm3=storage,
        inflow_mean_m3s=np.round(turbine * rng.uniform(0.1, 0.5, PLANTS), 2),
        turbine_max_m3s=turbine,
        production_mw_per_m3s=production,
        generator_max_mw=np.concatenate([thermal_mw, production * turbine]),
        cost_usd_per_mw=np.concatenate([np.round(rng.uniform(14.0, 43.0, THERMALS), 2), np.full(PLANTS, 0.1)]),
        generator_bus=rng.integers(0, BUSES, THERMALS + PLANTS),
        load_mw=np.round(rng.dirichlet(np.full(BUSES, 2.0)) * 500.0, 1),
        branch_ends=np.array([*ring, (0, 14), (5, 19), (9, 24)]),
        susceptance=np.round(rng.uniform(3.0, 20.0, BRANCHES), 2),
        rating_mw=np.round(rng.uniform(20.0, 90.0, BRANCHES), 0),
    )


class _Columns:
    """Where each kind of column begins: angle, flow, power, deficit, turbined, spilled, stored, above, below."""

    angle = 0
    flow = angle + BUSES
    power = flow + BRANCHES
    deficit = power + THERMALS + PLANTS
    turbined = deficit + BUSES
    spilled = turbined + PLANTS
    stored = spilled + PLANTS
    above = stored + PLANTS
    below = above + PLANTS
    count = below + PLANTS


class _Rows:
    """Where each kind of row begins: balance, Ohm, angle difference, reference, water, turbine, target."""

    balance = 0
    ohm = balance + BUSES
    difference = ohm + BRANCHES
    reference = difference + BRANCHES
    water = reference + 1
    turbine = water + PLANTS
    target = turbine + PLANTS
    count = target + PLANTS


def stage_program(stage: Stage) -> ParametricProgram:
    """Return the stage as a parametric program whose stored basis is the optimum of `reference_parameters`.

    Parameters: 11 volumes, 11 inflows of the last step, 11 proposed targets. Applied: the 11 storages reached.
    """
    program = _program(stage)
    return with_stored_basis(program, reference=reference_parameters(stage))


def stage_spec(stage: Stage, *, steps: int = 26) -> PolicySpec:
    """Return the spec: `volume` [11] hm³ and a sequence `inflow` [steps, 11] m³/s in, 11 target volumes out."""
    top = tuple(float(value) for value in stage.storage_max_hm3)
    plants = tuple(f"plant_{index}" for index in range(PLANTS))
    inflow_top = tuple(float(value) for value in 10.0 * stage.inflow_mean_m3s)
    volume = Field(name="volume", units="hm3", width=PLANTS, lower=0.0, upper=top)
    inflow = Field(name="inflow", units="m3/s", width=PLANTS, steps=steps, lower=0.0, upper=inflow_top)
    targets = ActionSet(
        kind="quantity", names=plants, units=("hm3",) * PLANTS, lower=(0.0,) * PLANTS, upper=top,
        fallback=tuple(0.5 * value for value in top),
    )  # fmt: skip
    recourse = RecourseSpec(kind="linear", outputs=stage_outputs())
    return PolicySpec(domain="hydrothermal", fields=(volume, inflow), actions=targets, recourse=recourse)


def stage_outputs() -> tuple[Output, ...]:
    """Name the outputs. A price is the cost of one MW more at a bus; a water value what one hm³ more would save."""
    plants = tuple(f"plant_{index}" for index in range(PLANTS))
    buses = tuple(f"bus_{index}" for index in range(BUSES))
    thermals = tuple(f"thermal_{index}" for index in range(THERMALS))
    return (
        Output(name="penalized_cost", units="USD/stage"),
        Output(name="dispatch", units="MW", names=(*thermals, *plants)),
        Output(name="spill", units="hm3", names=plants),
        Output(name="deficit", units="MW", names=buses),
        Output(name="price", units="USD/MW/stage", names=buses),
        Output(name="water_value", units="USD/hm3", names=plants),
    )


def reference_parameters(stage: Stage) -> Floats:
    """Return the parameters [33] of a half-full system at mean inflow that is to stay half full."""
    half = 0.5 * stage.storage_max_hm3
    return np.concatenate([half, stage.inflow_mean_m3s, half])


def draw_observations(
    stage: Stage, *, count: int, steps: int, seed: int
) -> tuple[Floats, dict[str, NDArray[np.generic]]]:
    """Draw proposals [count, 11] and the encoded observations that they were made from."""
    rng = np.random.default_rng(seed)
    top = stage.storage_max_hm3
    volume = rng.uniform(0.0, 1.0, (count, PLANTS)) * top
    inflow = stage.inflow_mean_m3s * rng.lognormal(0.0, 0.6, (count, steps, PLANTS)).clip(max=10.0)
    proposed = np.clip(volume + top * rng.normal(0.0, 0.15, (count, PLANTS)), 0.0, top)
    return proposed, {
        "request": volume,
        "sequence_inflow": inflow,
        "length_inflow": np.full(count, steps, dtype=np.int64),
    }


def _program(stage: Stage) -> ParametricProgram:
    lower, upper = _column_bounds(stage)
    row_lower, row_upper = _row_bounds(stage)
    volume, inflow, proposed = range(PLANTS), range(PLANTS, 2 * PLANTS), range(2 * PLANTS, 3 * PLANTS)
    water = [(_Rows.water + i, volume[i], 1.0) for i in range(PLANTS)]
    water += [(_Rows.water + i, inflow[i], HM3_PER_M3S) for i in range(PLANTS)]
    target = [(_Rows.target + i, proposed[i], 1.0) for i in range(PLANTS)]
    return ParametricProgram(
        cost=_costs(stage),
        column_lower=lower,
        column_upper=upper,
        row_lower=row_lower,
        row_upper=row_upper,
        matrix=Sparse.from_entries(_Rows.count, _network_entries(stage) + _water_entries(stage)),
        row_map=Sparse.from_entries(_Rows.count, water + target),
        column_lower_map=Sparse.empty(_Columns.count),
        column_upper_map=Sparse.empty(_Columns.count),
        cost_map=Sparse.empty(_Columns.count),
        parameters=_parameter_names(),
        readouts=_readouts(),
        applied_columns=np.arange(_Columns.stored, _Columns.stored + PLANTS, dtype=np.int32),
        basis_columns=np.zeros(_Columns.count, np.int32),
        basis_rows=np.ones(_Rows.count, np.int32),
    )


def _parameter_names() -> tuple[str, ...]:
    volumes = [f"request:volume:{i}" for i in range(PLANTS)]
    inflows = [f"sequence:inflow:last:{i}" for i in range(PLANTS)]
    return (*volumes, *inflows, *(f"proposed:{i}" for i in range(PLANTS)))


def _costs(stage: Stage) -> Floats:
    cost = np.zeros(_Columns.count)
    cost[_Columns.power : _Columns.deficit] = stage.cost_usd_per_mw * BASE_MVA
    cost[_Columns.deficit : _Columns.turbined] = DEFICIT_USD_PER_MW * BASE_MVA
    cost[_Columns.spilled : _Columns.stored] = SPILL_USD_PER_HM3
    cost[_Columns.above : _Columns.count] = TARGET_PENALTY_USD_PER_HM3
    return cost


def _column_bounds(stage: Stage) -> tuple[Floats, Floats]:
    lower, upper = np.zeros(_Columns.count), np.full(_Columns.count, np.inf)
    rating = stage.rating_mw / BASE_MVA
    lower[: _Columns.flow] = -np.inf
    lower[_Columns.flow : _Columns.power], upper[_Columns.flow : _Columns.power] = -rating, rating
    upper[_Columns.power : _Columns.deficit] = stage.generator_max_mw / BASE_MVA
    upper[_Columns.turbined : _Columns.spilled] = stage.turbine_max_m3s
    upper[_Columns.stored : _Columns.above] = stage.storage_max_hm3
    return lower, upper


def _row_bounds(stage: Stage) -> tuple[Floats, Floats]:
    lower = np.zeros(_Rows.count)
    lower[: _Rows.ohm] = stage.load_mw / BASE_MVA
    upper = lower.copy()
    widest = np.pi / 6.0
    lower[_Rows.difference : _Rows.reference], upper[_Rows.difference : _Rows.reference] = -widest, widest
    return lower, upper


def _network_entries(stage: Stage) -> list[tuple[int, int, float]]:
    """Balance at each bus, DC flow on each branch, its angle difference, and the reference angle."""
    entries = [(_Rows.balance + int(bus), _Columns.power + g, 1.0) for g, bus in enumerate(stage.generator_bus)]
    entries += [(_Rows.balance + bus, _Columns.deficit + bus, 1.0) for bus in range(BUSES)]
    for branch, (origin, end) in enumerate(stage.branch_ends.tolist()):
        susceptance, flow = float(stage.susceptance[branch]), _Columns.flow + branch
        entries += [(_Rows.balance + origin, flow, -1.0), (_Rows.balance + end, flow, 1.0)]
        entries += [(_Rows.ohm + branch, flow, 1.0), (_Rows.ohm + branch, _Columns.angle + origin, -susceptance)]
        entries += [(_Rows.ohm + branch, _Columns.angle + end, susceptance)]
        entries += [(_Rows.difference + branch, _Columns.angle + origin, 1.0)]
        entries += [(_Rows.difference + branch, _Columns.angle + end, -1.0)]
    return [*entries, (_Rows.reference, _Columns.angle, 1.0)]


def _water_entries(stage: Stage) -> list[tuple[int, int, float]]:
    """Water balance in hm³, turbine efficiency, and the soft target of each plant."""
    entries = []
    for i in range(PLANTS):
        row, turbine, target = _Rows.water + i, _Rows.turbine + i, _Rows.target + i
        entries += [(row, _Columns.stored + i, 1.0), (row, _Columns.turbined + i, HM3_PER_M3S)]
        entries += [(row, _Columns.spilled + i, 1.0), (turbine, _Columns.power + THERMALS + i, BASE_MVA)]
        entries += [(turbine, _Columns.turbined + i, -float(stage.production_mw_per_m3s[i]))]
        entries += [(target, _Columns.stored + i, 1.0), (target, _Columns.above + i, -1.0)]
        entries += [(target, _Columns.below + i, 1.0)]
    entries += [(_Rows.water + below, _Columns.turbined + above, -HM3_PER_M3S) for above, below in TURBINE_LINKS]
    entries += [(_Rows.water + below, _Columns.spilled + above, -1.0) for above, below in SPILL_LINKS]
    return entries


def _readouts() -> tuple[Readout, ...]:
    """Powers in MW; prices per MW; a water value is minus the dual of a water row, for more water costs less."""
    return (
        Readout(name="penalized_cost", source="objective", indices=np.zeros(1, np.int32), scale=np.ones(1)),
        _readout("dispatch", "column", _Columns.power, THERMALS + PLANTS, BASE_MVA),
        _readout("spill", "column", _Columns.spilled, PLANTS, 1.0),
        _readout("deficit", "column", _Columns.deficit, BUSES, BASE_MVA),
        _readout("price", "row_dual", _Rows.balance, BUSES, 1.0 / BASE_MVA),
        _readout("water_value", "row_dual", _Rows.water, PLANTS, -1.0),
    )


def _readout(name: str, source: Source, start: int, count: int, scale: float) -> Readout:
    return Readout(
        name=name, source=source, indices=np.arange(start, start + count, dtype=np.int32), scale=np.full(count, scale)
    )
