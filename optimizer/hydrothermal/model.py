r"""One stage of dispatch as a Pyomo model, to be read; `stage.py` compiles it once and solves the arrays.

Water v_i is kept, turbined or spilled; what is turbined makes power; power meets load over the grid, and what is not
met is a deficit. Per reservoir i with the plants above it, K = `Case.volume_per_flow`:

    v_i + K q_i + s_i − Σ_turbined-to-i K q_u − Σ_spilled-to-i s_u = v_i⁻ + K w_i

| block | unit | meaning |
|---|---|---|
| volume v | volume | at the end of the stage, 0 ≤ v ≤ volume_max |
| turbined q | flow | 0 ≤ q ≤ turbine_max |
| spilled s | volume | ≥ 0; a volume, not a flow |
| power | p.u. | of each generator, minimum..maximum |
| deficit | p.u. | of each bus and tier, 0 ≤ deficit ≤ depth · load |
| flow | p.u. | of each branch, \|flow\| ≤ rating |
| exchange | p.u. | of each link, 0..capacity |
| angle θ | rad | of each bus, where there are branches |
| volume_violation | volume | what lacks to the least volume; only where there is one |
| outflow_violation | flow | what lacks to the least turbined flow; only where there is one |

Volumes are in `Units.volume` (hm³), flows in `Units.flow` (m³/s). Cost is in `Units.cost` for the stage:
Σ cost · power + Σ cost · deficit + Σ cost · exchange + Σ spill_cost · s + Σ violation costs.

Source: Rosemberg et al., arXiv 2405.14973, DC variant; HydroPowerModels.jl for the soft bounds.
"""

# R reservoir, A bus, L branch

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyomo.environ as pyo

from optimizer.hydrothermal.case import Case, Floats, Hydro

COLUMN_UNITS: Final[Mapping[str, str]] = {
    "volume": "volume",
    "turbined": "flow",
    "spilled": "volume",
    "power": "p.u.",
    "deficit": "p.u.",
    "flow": "p.u.",
    "exchange": "p.u.",
    "angle": "rad",
    "volume_violation": "volume",
    "outflow_violation": "flow",
}
"""The unit of each block of columns; volume and flow stand for the case's own units."""

ROW_UNITS: Final[Mapping[str, str]] = {
    "water": "volume",
    "turbine": "MW",
    "balance": "p.u.",
    "ohm": "p.u.",
    "angle_difference": "rad",
    "reference": "rad",
    "volume_floor": "volume",
    "outflow_floor": "flow",
}
"""The unit of each block of rows: of its right-hand side. A dual is in cost per that unit, for the stage."""


def stage_model(
    case: Case,
    *,
    period: int = 0,
    is_last: bool = False,
    volume_before: Floats | None = None,
    inflow: Floats | None = None,
) -> Any:
    """Return one stage as a `pyomo.environ.ConcreteModel`.

    Args:
        case: the system.
        period: row of `Case.load`, stage mod P.
        is_last: whether the final volumes are bounds too.
        volume_before: float64 [R], v⁻; zero where not given.
        inflow: float64 [R], w; zero where not given.
    """
    model = pyo.ConcreteModel(name=f"{case.name}, period {period}")
    _add_parameters(model, case, period, is_last, volume_before, inflow)
    _add_water(model, case)
    _add_grid(model, case)
    _add_soft_bounds(model, case)
    model.cost = pyo.Objective(expr=sum(_costs(model, case)), sense=pyo.minimize)
    return model


def least_volume(hydro: Hydro, *, is_last: bool) -> float:
    """Return the volume that the soft bound asks for at the end of a stage."""
    return max(hydro.volume_min, hydro.volume_final) if is_last else hydro.volume_min


def has_volume_floor(hydro: Hydro) -> bool:
    """Say whether a stage, the last one at least, asks for a least volume."""
    return least_volume(hydro, is_last=True) > 0


def _add_parameters(
    model: Any, case: Case, period: int, is_last: bool, volume_before: Floats | None, inflow: Floats | None
) -> None:
    names = case.hydro_names
    model.volume_before = pyo.Param(names, mutable=True, initialize=_by_name(names, volume_before))
    model.inflow = pyo.Param(names, mutable=True, initialize=_by_name(names, inflow))
    buses = [bus.name for bus in case.buses]
    model.demand = pyo.Param(buses, mutable=True, initialize=_by_name(buses, case.load[period]))
    floors = {one.name: least_volume(one, is_last=is_last) for one in case.hydros if has_volume_floor(one)}
    model.least_volume = pyo.Param(list(floors), mutable=True, initialize=floors)


def _by_name(names: Any, values: Floats | None) -> dict[str, float]:
    return {name: 0.0 if values is None else float(values[at]) for at, name in enumerate(names)}


def _add_water(model: Any, case: Case) -> None:
    names, hydros = list(case.hydro_names), {one.name: one for one in case.hydros}
    K = case.volume_per_flow
    model.volume = pyo.Var(names, bounds=lambda _, i: (0, hydros[i].volume_max))
    model.turbined = pyo.Var(names, bounds=lambda _, i: (0, hydros[i].turbine_max))
    model.spilled = pyo.Var(names, bounds=(0, None))

    @model.Constraint(names)  # type: ignore[untyped-decorator]
    def water(m: Any, i: str) -> Any:
        place = names.index(i)
        arriving = sum(K * m.turbined[one.name] for one in case.hydros if one.turbine_to == place)
        arriving += sum(m.spilled[one.name] for one in case.hydros if one.spill_to == place)
        leaving = K * m.turbined[i] + m.spilled[i]
        return m.volume[i] + leaving - arriving == m.volume_before[i] + K * m.inflow[i]


def _add_grid(model: Any, case: Case) -> None:
    units = {one.name: one for one in case.generators}
    links = {one.name: one for one in case.links}
    depths = {(case.buses[bus].name, tier): case.tiers[tier].depth for bus, tier in _deficits(case)}
    model.power = pyo.Var(list(units), bounds=lambda _, g: (units[g].minimum, units[g].maximum))
    model.deficit = pyo.Var(list(depths), bounds=lambda m, bus, tier: _deficit_bounds(m, bus, depths[bus, tier]))
    model.exchange = pyo.Var(list(links), bounds=lambda _, one: (0, links[one].capacity))
    _add_dc_flow(model, case)

    @model.Constraint([one.name for one in case.hydros])  # type: ignore[untyped-decorator]
    def turbine(m: Any, i: str) -> Any:
        hydro = case.hydros[case.hydro_names.index(i)]
        generator = case.generators[hydro.generator].name
        return case.base_mva * m.power[generator] == hydro.production * m.turbined[i]

    @model.Constraint([bus.name for bus in case.buses])  # type: ignore[untyped-decorator]
    def balance(m: Any, bus: str) -> Any:
        return sum(_injections(m, case, bus)) == m.demand[bus]


def _deficits(case: Case) -> list[tuple[int, int]]:
    """Return bus and tier of each deficit: tiers of limited depth only where there ever is load."""
    return [
        (bus, tier)
        for bus in range(len(case.buses))
        for tier, one in enumerate(case.tiers)
        if one.depth == float("inf") or case.load[:, bus].max() > 0
    ]


def _deficit_bounds(model: Any, bus: str, depth: float) -> tuple[float, Any]:
    return 0.0, None if depth == float("inf") else depth * model.demand[bus]


def _injections(m: Any, case: Case, bus: str) -> Iterator[Any]:
    """Yield what comes into a bus, with a minus what leaves it."""
    place = next(at for at, one in enumerate(case.buses) if one.name == bus)
    yield from (m.power[one.name] for one in case.generators if one.bus == place)
    yield from (m.deficit[name, tier] for name, tier in m.deficit if name == bus)
    for passages, carried in ((case.branches, m.flow), (case.links, m.exchange)):
        yield from (-carried[one.name] for one in passages if one.origin == place)
        yield from (carried[one.name] for one in passages if one.end == place)


def _add_dc_flow(model: Any, case: Case) -> None:
    branches = {one.name: one for one in case.branches}
    model.flow = pyo.Var(list(branches), bounds=lambda _, one: (-branches[one].rating, branches[one].rating))
    model.angle = pyo.Var([bus.name for bus in case.buses] if branches else [])

    def difference(m: Any, one: str) -> Any:
        return m.angle[case.buses[branches[one].origin].name] - m.angle[case.buses[branches[one].end].name]

    @model.Constraint(list(branches))  # type: ignore[untyped-decorator]
    def ohm(m: Any, one: str) -> Any:
        return m.flow[one] - branches[one].susceptance * difference(m, one) == 0

    @model.Constraint(list(branches))  # type: ignore[untyped-decorator]
    def angle_difference(m: Any, one: str) -> Any:
        return branches[one].angle_min, difference(m, one), branches[one].angle_max

    @model.Constraint([bus.name for bus in case.buses if bus.is_reference and branches])  # type: ignore[untyped-decorator]
    def reference(m: Any, bus: str) -> Any:
        return m.angle[bus] == 0


def _add_soft_bounds(model: Any, case: Case) -> None:
    stored = [one.name for one in case.hydros if has_volume_floor(one)]
    released = {one.name: one.turbine_min for one in case.hydros if one.turbine_min > 0}
    model.volume_violation = pyo.Var(stored, bounds=(0, None))
    model.outflow_violation = pyo.Var(list(released), bounds=(0, None))

    @model.Constraint(stored)  # type: ignore[untyped-decorator]
    def volume_floor(m: Any, i: str) -> Any:
        return m.volume[i] + m.volume_violation[i] >= m.least_volume[i]

    @model.Constraint(list(released))  # type: ignore[untyped-decorator]
    def outflow_floor(m: Any, i: str) -> Any:
        return m.turbined[i] + m.outflow_violation[i] >= released[i]


def _costs(m: Any, case: Case) -> Iterator[Any]:
    yield from (one.cost * m.power[one.name] for one in case.generators)
    yield from (case.tiers[tier].cost * m.deficit[bus, tier] for bus, tier in m.deficit)
    yield from (one.cost * m.exchange[one.name] for one in case.links)
    yield from (one.spill_cost * m.spilled[one.name] for one in case.hydros)
    hydros = {one.name: one for one in case.hydros}
    yield from (hydros[i].volume_violation_cost * m.volume_violation[i] for i in m.volume_violation)
    yield from (hydros[i].outflow_violation_cost * m.outflow_violation[i] for i in m.outflow_violation)
