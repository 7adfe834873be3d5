"""The folder format of HydroPowerModels: PowerModels.json, hydro.json, inflows.csv and scenarioprobability.csv.

`PowerModels.json` is a MATPOWER case in per unit, with `cost_deficit` in cost per MW. `hydro.json` lists the plants;
its top-level `stage_hours` is optional, and must agree with the one that is asked for. `inflows.csv` has no header; a
row is a stage, taken again from the top when the rows end, and holds one block of scenario columns for each plant, in
the order of the plants in the file. `scenarioprobability.csv` has a row for each stage and a column for each scenario;
without it scenarios are equally likely.
"""

# P period, S scenario, R reservoir, A bus

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.case import (
    HM3_PER_M3S_HOUR,
    Branch,
    Bus,
    Case,
    DeficitTier,
    Generator,
    Hydro,
    Units,
    cascade_order,
)
from optimizer.hydrothermal.fields import CaseRefused, Entry, entries_of, read_numbers, read_object, unique_names
from optimizer.hydrothermal.inflow import InflowTable, read_inflows

GRID: Final = "PowerModels.json"
HYDRO: Final = "hydro.json"
INFLOWS: Final = "inflows.csv"
PROBABILITIES: Final = "scenarioprobability.csv"

_REFERENCE: Final = 3  # bus_type of MATPOWER
_NOT_MODELED: Final = ("shunt", "dcline", "storage", "switch")
_ROUNDING: Final = 1e-9
_SUM_TOLERANCE: Final = 1e-6  # probabilities are written with a few digits

Places = Mapping[int, int]
Floats = NDArray[np.float64]


def load_power_models(folder: Path, *, stage_hours: float) -> Case:
    """Read a folder.

    Raises:
        CaseRefused: a file is absent, or a field is missing, of the wrong kind, out of range or points nowhere.
    """
    grid, water = read_object(folder / GRID), read_object(folder / HYDRO)
    _check_grid(grid)
    _check_hours(water, stage_hours)
    buses, bus_places = _buses(grid)
    generators, generator_places = _generators(grid, bus_places)
    hydros = _hydros(water, generator_places)
    return Case(
        name=grid.text("name", missing=folder.name),
        units=Units(volume="hm3", flow="m3/s", cost="$"),
        base_mva=grid.number("baseMVA", least=1e-6),
        stage_hours=stage_hours,
        volume_per_flow=HM3_PER_M3S_HOUR * stage_hours,
        buses=buses,
        branches=_branches(grid, bus_places),
        links=(),
        generators=generators,
        hydros=hydros,
        tiers=(DeficitTier(cost=_deficit_cost(grid), depth=math.inf),),
        load=_load(grid, bus_places),
        load_scale=1.0,
        inflow=_inflow(folder, hydros=len(hydros)),
    )


def _check_grid(grid: Entry) -> None:
    if grid.values.get("per_unit") is not True:
        raise grid.refused("per_unit", "true", grid.values.get("per_unit"))
    for name in _NOT_MODELED:
        if grid.values.get(name):
            raise grid.refused(name, "none, for it is not modeled", f"{len(grid.values[name])} of them")


def _check_hours(water: Entry, stage_hours: float) -> None:
    if "stage_hours" not in water.values:
        return
    said = water.number("stage_hours", least=_ROUNDING)
    if abs(said - stage_hours) > _ROUNDING * said:
        raise CaseRefused(
            f"{water.file}: stage_hours: the file says {said:g}, but {stage_hours:g} is asked for; a stage modeled "
            "with other hours is another problem: ask for the file's, or correct the file"
        )


def _deficit_cost(grid: Entry) -> float:
    """Return the cost of a p.u. of load that is not served; the file's is per MW."""
    return grid.number("cost_deficit", least=0.0) * grid.number("baseMVA", least=1e-6)


def _buses(grid: Entry) -> tuple[tuple[Bus, ...], Places]:
    numbers, names, references = [], [], []
    for key, entry in entries_of(grid, "bus"):
        numbers.append(_number_of(entry, key))
        names.append(entry.text("name", missing=f"bus {key}"))
        references.append(entry.whole("bus_type") == _REFERENCE)
    if not any(references):
        raise grid.refused("bus", "at least one with bus_type 3, whose angle is zero", "none")
    named = zip(unique_names(names), references, strict=True)
    buses = tuple(Bus(name=name, is_reference=is_reference) for name, is_reference in named)
    return buses, {number: place for place, number in enumerate(numbers)}


def _number_of(entry: Entry, key: str) -> int:
    number = entry.whole("index")
    if number != int(key):
        raise entry.refused("index", f"{key}, the key it stands under", number)
    return number


def _place(entry: Entry, name: str, places: Places, *, what: str) -> int:
    number = entry.whole(name)
    if number not in places:
        raise entry.refused(name, f"the number of {what}", number)
    return places[number]


def _generators(grid: Entry, buses: Places) -> tuple[tuple[Generator, ...], Places]:
    kept = [(key, entry) for key, entry in entries_of(grid, "gen") if entry.whole("gen_status") != 0]
    names = unique_names([entry.text("name", missing=f"gen {key}") for key, entry in kept])
    units, places = [], {}
    for place, ((key, entry), name) in enumerate(zip(kept, names, strict=True)):
        places[_number_of(entry, key)] = place
        least = entry.number("pmin", least=0.0)
        most = entry.number("pmax", least=least)
        bus = _place(entry, "gen_bus", buses, what="a bus")
        units.append(Generator(name=name, bus=bus, minimum=least, maximum=most, cost=_marginal_cost(entry)))
    return tuple(units), places


def _marginal_cost(entry: Entry) -> float:
    """Return c1 of MATPOWER's [.., c2, c1, c0]; the constant is dropped, as the peers do; a curve is refused."""
    cost = entry.items("cost")
    if entry.values.get("model", 2) != 2:
        raise entry.refused("model", "2, a polynomial of cost", entry.values["model"])
    terms = [Entry(file=entry.file, where=f"{entry.where}cost", values={f"[{at}]": c}) for at, c in enumerate(cost)]
    numbers = [term.number(f"[{at}]") for at, term in enumerate(terms)]
    if any(numbers[:-2]):
        raise entry.refused("cost", "a linear cost [c1, c0]", cost)
    if len(numbers) >= 2 and numbers[-2] < 0:
        raise entry.refused("cost", "a cost that is not negative", cost)
    return numbers[-2] if len(numbers) >= 2 else 0.0


def _branches(grid: Entry, buses: Places) -> tuple[Branch, ...]:
    kept = [(key, entry) for key, entry in entries_of(grid, "branch") if entry.whole("br_status") != 0]
    names = unique_names([entry.text("name", missing=f"branch {key}") for key, entry in kept])
    return tuple(_branch(entry, key, name, buses) for (key, entry), name in zip(kept, names, strict=True))


def _branch(entry: Entry, key: str, name: str, buses: Places) -> Branch:
    _number_of(entry, key)
    for field, plain in (("tap", 1.0), ("shift", 0.0)):
        if entry.number(field, missing=plain) != plain:
            raise entry.refused(field, f"{plain:g}: transformers that change it are not modeled", entry.values[field])
    resistance, reactance = entry.number("br_r"), entry.number("br_x")
    if reactance == 0:
        raise entry.refused("br_x", "a reactance other than 0", entry.values["br_x"])
    least = entry.number("angmin")
    return Branch(
        name=name,
        origin=_place(entry, "f_bus", buses, what="a bus"),
        end=_place(entry, "t_bus", buses, what="a bus"),
        susceptance=reactance / (resistance**2 + reactance**2),
        rating=entry.number("rate_a", least=0.0, missing=0.0) or math.inf,
        angle_min=least,
        angle_max=entry.number("angmax", least=least),
    )


def _load(grid: Entry, buses: Places) -> Floats:
    load_A = np.zeros(len(buses))
    for key, entry in entries_of(grid, "load"):
        _number_of(entry, key)
        if entry.whole("status") != 0:
            load_A[_place(entry, "load_bus", buses, what="a bus")] += entry.number("pd", least=0.0)
    return load_A[None, :]


def _hydros(water: Entry, generators: Places) -> tuple[Hydro, ...]:
    listed = water.items("Hydrogenerators")
    if not listed or not all(isinstance(values, dict) for values in listed):
        raise water.refused("Hydrogenerators", "a list of plants", listed)
    entries = [
        Entry(file=water.file, where=f"Hydrogenerators[{at}].", values=values) for at, values in enumerate(listed)
    ]
    places: dict[int, int] = {}
    for place, entry in enumerate(entries):
        entry.check_kinds()
        if places.setdefault(entry.whole("index"), place) != place:
            raise entry.refused("index", "a number of its own", entry.values["index"])
    names = unique_names([entry.text("name", missing=f"hydro {entry.values['index']}") for entry in entries])
    hydros = tuple(_hydro(entry, name, places, generators) for entry, name in zip(entries, names, strict=True))
    _check_generators(entries, hydros)
    _check_cascade(water, hydros)
    return hydros


def _hydro(entry: Entry, name: str, places: Places, generators: Places) -> Hydro:
    volume_max = entry.number("max_volume", least=0.0)
    turbine_max = entry.number("max_turn", least=0.0)
    return Hydro(
        index=entry.whole("index"),
        name=name,
        generator=_place(entry, "index_grid", generators, what="a generator in service"),
        volume_max=volume_max,
        volume_min=entry.number("min_volume", least=0.0, most=volume_max),
        volume_initial=entry.number("initial_volume", least=0.0, most=volume_max),
        volume_final=entry.number("final_volume", least=0.0, most=volume_max),
        turbine_max=turbine_max,
        turbine_min=entry.number("min_turn", least=0.0, most=turbine_max),
        production=entry.number("production_factor", least=0.0),
        spill_cost=entry.number("spill_cost", least=0.0),
        outflow_violation_cost=entry.number("minimal_outflow_violation_cost", least=0.0),
        volume_violation_cost=entry.number("minimal_volume_violation_cost", least=0.0),
        turbine_to=_downstream(entry, "downstream_turn", places),
        spill_to=_downstream(entry, "downstream_spill", places),
    )


def _downstream(entry: Entry, name: str, places: Places) -> int | None:
    listed = entry.items(name)
    if len(listed) > 1:
        raise entry.refused(name, "one plant at most, for a second would get the same water again", listed)
    if not listed:
        return None
    link = Entry(file=entry.file, where=entry.where, values={f"{name}[0]": listed[0]})
    return _place(link, f"{name}[0]", places, what="a plant (its index)")


def _check_generators(entries: list[Entry], hydros: tuple[Hydro, ...]) -> None:
    taken: dict[int, str] = {}
    for entry, hydro in zip(entries, hydros, strict=True):
        if taken.setdefault(hydro.generator, hydro.name) != hydro.name:
            expected = f"a generator of its own, not that of {taken[hydro.generator]}"
            raise entry.refused("index_grid", expected, entry.values["index_grid"])


def _check_cascade(water: Entry, hydros: tuple[Hydro, ...]) -> None:
    links = [(hydro.turbine_to, hydro.spill_to) for hydro in hydros]
    if cascade_order(links) is None:
        found = [hydro.name for hydro, link in zip(hydros, links, strict=True) if any(to is not None for to in link)]
        raise water.refused(
            "Hydrogenerators: downstream_turn, downstream_spill", "water that flows down", f"a cycle among {found}"
        )


def _inflow(folder: Path, *, hydros: int) -> InflowTable:
    flow_PSR = read_inflows(folder / INFLOWS, reservoirs=hydros)
    periods, scenarios = flow_PSR.shape[:2]
    probability = _probability(folder / PROBABILITIES, periods=periods, scenarios=scenarios)
    return InflowTable(flow=flow_PSR, probability=probability)


def _probability(path: Path, *, periods: int, scenarios: int) -> Floats:
    if not path.exists():
        return np.full((periods, scenarios), 1.0 / scenarios)
    table = read_numbers(path)
    if table.shape[1] != scenarios or periods % table.shape[0]:
        raise CaseRefused(
            f"{path.name}: expected {scenarios} columns and a number of rows that divides the {periods} of {INFLOWS}, "
            f"found {table.shape[0]} rows of {table.shape[1]}"
        )
    sums = table.sum(axis=1)
    is_wrong = (np.abs(sums - 1.0) > _SUM_TOLERANCE) | (table < 0).any(axis=1)
    if is_wrong.any():
        row = int(is_wrong.argmax())
        raise CaseRefused(
            f"{path.name}: row {row + 1}: expected probabilities from 0 to 1 that sum to 1, "
            f"found {table[row].tolist()} with the sum {sums[row]:g}"
        )
    return np.tile(table / sums[:, None], (periods // table.shape[0], 1))
