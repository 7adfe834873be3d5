"""The Brazilian system of msppy: four regions that store energy, exchange power and shed load in tiers, by month.

Water is counted as energy: volumes in MWmonth, flows and power in MW, so K = 1 and a turbined MW is a generated MW. The
fifth node has no demand and only passes power on. A stage is a month. Costs are per MW for the month, as the files say
them. Inflows follow a multiplicative autoregression (`inflow.InflowAutoregression`).
"""

# P month, R region, A node (the regions first)

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.case import Bus, Case, DeficitTier, Generator, Hydro, Link, Units
from optimizer.hydrothermal.fields import CaseRefused, read_cells, read_numbers
from optimizer.hydrothermal.inflow import InflowAutoregression

HYDRO: Final = "hydro.csv"
EXCHANGE: Final = "exchange.csv"
MONTH_HOURS: Final = (672.0, 744.0)
SPILL_COST: Final = 0.001
"""Per MWmonth; the source's model has it in code, not in a file."""

_UNLIMITED: Final = 99_999.0  # how exchange.csv writes that there is no limit
_MONTHS: Final = 12
_GAPS: Final = frozenset({"", "NA"})

Floats = NDArray[np.float64]


def load_msppy(folder: Path, *, stage_hours: float) -> Case:
    """Read a folder.

    Raises:
        CaseRefused: a file is absent, a cell is no number or out of range, tables do not fit each other, or a stage is
            not asked to be a month.
    """
    if not MONTH_HOURS[0] <= stage_hours <= MONTH_HOURS[1]:
        raise CaseRefused(
            f"{HYDRO}: its volumes are in MWmonth, so a stage must be a month of {MONTH_HOURS[0]:g} to "
            f"{MONTH_HOURS[1]:g} hours, found stage_hours {stage_hours:g}"
        )
    demand_PR = _checked(folder / "demand.csv", (_MONTHS, None))
    regions = demand_PR.shape[1]
    thermal = [unit for region in range(regions) for unit in _thermal(folder, region)]
    generators, hydros, initial = _hydros(folder, regions=regions, first_generator=len(thermal))
    return Case(
        name=folder.name,
        units=Units(volume="MWmonth", flow="MW", cost="$"),
        base_mva=1.0,
        stage_hours=stage_hours,
        volume_per_flow=1.0,
        buses=(*(Bus(name=f"region {at}") for at in range(regions)), Bus(name="transshipment")),
        branches=(),
        links=_links(folder, nodes=regions + 1),
        generators=(*thermal, *generators),
        hydros=hydros,
        tiers=_tiers(folder),
        load=np.hstack([demand_PR, np.zeros((_MONTHS, 1))]),
        load_scale=1.0,
        inflow=_inflow(folder, initial=initial),
    )


def read_history(folder: Path, *, regions: int = 4) -> Floats:
    """Return the recorded inflows in MW, float64 [years, 12, R]; years in which a region has a gap are left out.

    Raises:
        CaseRefused: a file is absent or a cell is no number.
    """
    by_region = [_history(folder / f"hist_{region}.csv") for region in range(regions)]
    years = sorted(set.intersection(*(set(one) for one in by_region)))
    return np.array([[one[year] for one in by_region] for year in years]).transpose(0, 2, 1)


def _history(path: Path) -> dict[int, list[float]]:
    rows = read_cells(path, separator=";")[1:]
    try:
        return {int(row[0]): [float(cell) for cell in row[1:]] for row in rows if not _GAPS.intersection(row)}
    except ValueError as error:
        raise CaseRefused(f"{path.name}: expected a year and {_MONTHS} numbers in each row: {error}") from error


def _checked(path: Path, shape: tuple[int | None, int | None], *, least: float = 0.0) -> Floats:
    """Read a table that has a header row and an index column, of a shape and not below a number."""
    table = read_numbers(path, skip_rows=1, skip_columns=1)
    wanted = tuple("any" if size is None else size for size in shape)
    if any(size not in (None, found) for size, found in zip(shape, table.shape, strict=True)):
        raise CaseRefused(f"{path.name}: expected {wanted[0]} rows of {wanted[1]} numbers, found {table.shape}")
    if (table < least).any():
        row, column = np.argwhere(table < least)[0]
        raise CaseRefused(
            f"{path.name}: row {row}, column {column} (from 0): expected at least {least:g}, "
            f"found {table[row, column]:g}"
        )
    return table


def _thermal(folder: Path, region: int) -> list[Generator]:
    path = folder / f"thermal_{region}.csv"
    table = _checked(path, (None, 3))
    if (table[:, 0] > table[:, 1]).any():
        row = int((table[:, 0] > table[:, 1]).argmax())
        raise CaseRefused(
            f"{path.name}: row {row}: expected LB at most UB, found {table[row, 0]:g} > {table[row, 1]:g}"
        )
    return [
        Generator(name=f"thermal {region}.{at}", bus=region, minimum=low, maximum=high, cost=cost)
        for at, (low, high, cost) in enumerate(table.tolist())
    ]


def _hydros(folder: Path, *, regions: int, first_generator: int) -> tuple[list[Generator], tuple[Hydro, ...], Floats]:
    path = folder / HYDRO
    names = [row[0].strip() for row in read_cells(path)[1:]]
    rows = dict(zip(names, _checked(path, (None, 2)).tolist(), strict=True))
    generators, hydros, initial = [], [], np.zeros(regions)
    for at in range(regions):
        missing = [name for name in (f"StoredEnergy_{at}", f"inflow_{at}", f"hydro_{at}") if name not in rows]
        if missing:
            raise CaseRefused(f"{path.name}: expected the rows {', '.join(missing)}, found {', '.join(names)}")
        (volume_max, volume_initial), (turbine_max, _) = rows[f"StoredEnergy_{at}"], rows[f"hydro_{at}"]
        initial[at] = rows[f"inflow_{at}"][1]
        if volume_initial > volume_max:
            raise CaseRefused(f"{path.name}: StoredEnergy_{at}: expected INITIAL at most UB, found {volume_initial:g}")
        generators.append(Generator(name=f"hydro {at}", bus=at, minimum=0.0, maximum=turbine_max, cost=0.0))
        hydros.append(_hydro(at, first_generator + at, volume_max, volume_initial, turbine_max))
    return generators, tuple(hydros), initial


def _hydro(at: int, generator: int, volume_max: float, volume_initial: float, turbine_max: float) -> Hydro:
    return Hydro(
        index=at,
        name=f"region {at}",
        generator=generator,
        volume_max=volume_max,
        volume_min=0.0,
        volume_initial=volume_initial,
        volume_final=0.0,
        turbine_max=turbine_max,
        turbine_min=0.0,
        production=1.0,
        spill_cost=SPILL_COST,
        outflow_violation_cost=0.0,
        volume_violation_cost=0.0,
        turbine_to=None,
        spill_to=None,
    )


def _links(folder: Path, *, nodes: int) -> tuple[Link, ...]:
    capacity = _checked(folder / EXCHANGE, (nodes, nodes))
    cost = _checked(folder / "exchange_cost.csv", (nodes, nodes))
    return tuple(
        Link(
            name=f"{origin}-{end}",
            origin=int(origin),
            end=int(end),
            capacity=math.inf if capacity[origin, end] >= _UNLIMITED else float(capacity[origin, end]),
            cost=float(cost[origin, end]),
        )
        for origin, end in np.argwhere(capacity > 0)
    )


def _tiers(folder: Path) -> tuple[DeficitTier, ...]:
    table = _checked(folder / "deficit.csv", (None, 2))
    if table[:, 1].sum() < 1.0 - 1e-9:
        raise CaseRefused(
            f"deficit.csv: DEPTH: expected tiers that cover the load, found a sum of {table[:, 1].sum():g}"
        )
    return tuple(DeficitTier(cost=cost, depth=depth) for cost, depth in table.tolist())


def _inflow(folder: Path, *, initial: Floats) -> InflowAutoregression:
    shape = (_MONTHS, initial.size)
    covariance = [
        _checked(folder / f"sigma_{month}.csv", (initial.size, initial.size), least=-math.inf)
        for month in range(_MONTHS)
    ]
    return InflowAutoregression(
        initial=initial,
        median=_checked(folder / "exp_mu.csv", shape),
        persistence=_checked(folder / "gamma.csv", shape),
        covariance=np.array(covariance),
    )
