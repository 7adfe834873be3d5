"""What a case is: a system of reservoirs, plants and a grid, and what nature may do to it; read this page first.

One model serves two kinds of data. A physical case counts water in hm³ and flow in m³/s, and its grid follows the DC
flow equations (`Branch`). An energy case counts water as the energy it would make, in MWmonth, and flow in MW; its
regions exchange power over links with a capacity in each direction (`Link`). Power is in per unit of `base_mva` in
both. Costs are per stage: what a unit of power costs for a whole stage, never times its hours.
"""

# P period of the cycle, A bus, R reservoir

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.inflow import InflowAutoregression, InflowTable

Floats = NDArray[np.float64]

HM3_PER_M3S_HOUR: Final = 0.0036
"""Volume [hm³] of 1 m³/s over an hour: 3,600 m³."""


@dataclass(frozen=True, kw_only=True)
class Units:
    """Name the units of a case: of stored water, of flowing water, and of money."""

    volume: Literal["hm3", "MWmonth"]
    flow: Literal["m3/s", "MW"]
    cost: str


@dataclass(frozen=True, kw_only=True)
class Bus:
    """Name a node of the grid; the angle of a reference bus is zero."""

    name: str
    is_reference: bool = False


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Hold a line under DC flow: p = susceptance (θ_origin − θ_end).

    origin, end: places in `Case.buses`. susceptance: p.u. per rad, x / (r² + x²). rating: p.u., |p| ≤ rating, infinite
    without a limit. angle_min, angle_max: rad, bounds of θ_origin − θ_end.
    """

    name: str
    origin: int
    end: int
    susceptance: float
    rating: float
    angle_min: float
    angle_max: float


@dataclass(frozen=True, kw_only=True)
class Link:
    """Hold a one-way exchange: 0 ≤ p ≤ capacity [p.u.] from origin to end, at a cost per p.u. and stage."""

    name: str
    origin: int
    end: int
    capacity: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class Generator:
    """Hold a unit at a bus: minimum ≤ p ≤ maximum [p.u.], at a cost per p.u. and stage."""

    name: str
    bus: int
    minimum: float
    maximum: float
    cost: float


@dataclass(frozen=True, kw_only=True)
class DeficitTier:
    """Hold a step of the price of load that is not served: cost per p.u. and stage, up to `depth` of the bus's load."""

    cost: float
    depth: float


@dataclass(frozen=True, kw_only=True)
class Hydro:
    """Hold a reservoir with its plant. Volumes are in `Units.volume`, flows in `Units.flow`.

    Attributes:
        index: its number in the files, which links and messages speak of.
        generator: place in `Case.generators`; base_mva · p = production · turbined flow.
        volume_max: never exceeded; 0 is a plant at a running river.
        volume_min, volume_final: soft bounds, of every stage and of the last one, where the larger of both holds.
        volume_initial: before the first stage.
        turbine_max: bound of the turbined flow. turbine_min: soft bound.
        production: MW per unit of flow.
        spill_cost: per unit of volume. volume_violation_cost: per unit of volume, outflow_violation_cost: per unit of
            flow, each for a stage.
        turbine_to, spill_to: places in `Case.hydros` of the plants that get the turbined and the spilled water.
    """

    index: int
    name: str
    generator: int
    volume_max: float
    volume_min: float
    volume_initial: float
    volume_final: float
    turbine_max: float
    turbine_min: float
    production: float
    spill_cost: float
    outflow_violation_cost: float
    volume_violation_cost: float
    turbine_to: int | None
    spill_to: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """Hold a system whose parts have been checked against each other by a loader (`data.load_case`).

    Attributes:
        stage_hours: hours of a stage.
        volume_per_flow: K, the volume that a unit of flow brings in a stage: 0.0036 · stage_hours [hm³ per m³/s], or
            1 [MWmonth per MW].
        load: float64 [P, A], p.u. at each bus in each period, the load scale applied.
        load_scale: what the files' load was multiplied by.
    """

    name: str
    units: Units
    base_mva: float
    stage_hours: float
    volume_per_flow: float
    buses: tuple[Bus, ...]
    branches: tuple[Branch, ...]
    links: tuple[Link, ...]
    generators: tuple[Generator, ...]
    hydros: tuple[Hydro, ...]
    tiers: tuple[DeficitTier, ...]
    load: Floats
    load_scale: float
    inflow: InflowTable | InflowAutoregression

    @cached_property
    def volume_max(self) -> Floats:
        """Return the largest volumes, float64 [R]."""
        return np.array([hydro.volume_max for hydro in self.hydros])

    @cached_property
    def volume_initial(self) -> Floats:
        """Return the volumes before the first stage, float64 [R]."""
        return np.array([hydro.volume_initial for hydro in self.hydros])

    @cached_property
    def turbine_max(self) -> Floats:
        """Return the largest turbined flows, float64 [R]."""
        return np.array([hydro.turbine_max for hydro in self.hydros])

    @cached_property
    def upstream_first(self) -> tuple[int, ...]:
        """Return the places of the hydros in an order in which water flows: each after all that lie above it."""
        order = cascade_order([(hydro.turbine_to, hydro.spill_to) for hydro in self.hydros])
        if order is None:
            raise ValueError("the cascade has a cycle; a loader refuses it")
        return order

    @property
    def hydro_names(self) -> tuple[str, ...]:
        """Return the names of the hydros."""
        return tuple(hydro.name for hydro in self.hydros)

    @property
    def is_deterministic(self) -> bool:
        """Say whether nature has one choice at every stage."""
        return isinstance(self.inflow, InflowTable) and self.inflow.scenarios == 1


def cascade_order(downstream: Sequence[tuple[int | None, ...]]) -> tuple[int, ...] | None:
    """Return places in an order in which each comes before those it points to; None where they run in a cycle.

    >>> cascade_order([(None, None), (0, None), (1, 0)])
    (2, 1, 0)
    >>> cascade_order([(1,), (0,)]) is None
    True
    """
    above = [0] * len(downstream)
    for targets in downstream:
        for target in set(targets) - {None}:
            above[target] += 1  # type: ignore[index]
    free = [place for place, count in enumerate(above) if count == 0]
    order: list[int] = []
    while free:
        place = free.pop(0)
        order.append(place)
        for target in sorted(target for target in set(downstream[place]) if target is not None):
            above[target] -= 1
            if above[target] == 0:
                free.append(target)
    return tuple(order) if len(order) == len(downstream) else None
