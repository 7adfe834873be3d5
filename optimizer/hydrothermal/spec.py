"""What a hydrothermal policy sees and does: stage, volumes and inflows in; target volumes out; recourse dispatches."""

from typing import Final

import numpy as np

from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.inflow import InflowTable
from policies.spec import ActionSet, Field, Output, PolicySpec, RecourseSpec

DOMAIN: Final = "hydrothermal"

_INFLOW_ROOM: Final = 10.0
"""An inflow may be as many times larger than the largest one known: floods come, typing errors do not pass."""

_INFLOW_ROOM_OF_A_LAW: Final = 100.0
"""The same where inflows are drawn from a law with a heavy tail, as a multiple of the largest median: in 3,000 paths of
ten years of the Brazilian system, the largest inflow was fifty times the largest median of its region."""

_LOAD_ROOM: Final = 2.0


def policy_spec(case: Case, *, stages: int, history: int) -> PolicySpec:
    """Return the spec of a case: fields `stage`, `volume`, `inflow` and, where loads have periods, `load`.

    `history` is the largest number of inflows a request may bring, the one of its own stage last.
    """
    names, units = case.hydro_names, case.units
    top = tuple(float(value) for value in case.volume_max)
    fields = [
        Field(name="stage", units="from 1", lower=1.0, upper=float(stages)),
        Field(name="volume", units=units.volume, width=len(names), lower=0.0, upper=top),
    ]
    if has_load_field(case):
        load = _LOAD_ROOM * np.maximum(case.load.max(axis=0) * case.base_mva, 1.0)
        fields.append(Field(name="load", units="MW", width=len(case.buses), lower=0.0, upper=tuple(load.tolist())))
    inflow = Field(
        name="inflow", units=units.flow, width=len(names), steps=max(history, 1), lower=0.0, upper=_largest_inflow(case)
    )
    targets = ActionSet(
        kind="quantity", names=names, units=(units.volume,) * len(names), lower=(0.0,) * len(names), upper=top,
        fallback=tuple(0.5 * value for value in top),
    )  # fmt: skip
    return PolicySpec(
        domain=DOMAIN,
        fields=(*fields, inflow),
        actions=targets,
        recourse=RecourseSpec(kind="linear", outputs=outputs(case)),
    )


def has_load_field(case: Case) -> bool:
    """Say whether a request brings its loads: where they change from stage to stage."""
    return len(case.load) > 1


def outputs(case: Case) -> tuple[Output, ...]:
    """Return what recourse reports, with units; prices and water values are of one stage."""
    units, buses, hydros = case.units, tuple(bus.name for bus in case.buses), case.hydro_names
    return (
        Output(name="dispatch", units="MW", names=tuple(one.name for one in case.generators)),
        Output(name="turbined", units=units.flow, names=hydros),
        Output(name="spill", units=units.volume, names=hydros),
        Output(name="deficit", units="MW", names=deficit_names(case)),
        Output(name="price", units=f"{units.cost} per MW and stage", names=buses),
        Output(name="water_value", units=f"{units.cost} per {units.volume}", names=hydros),
        Output(name="shortfall", units=units.volume, names=hydros),
    )


def deficit_names(case: Case) -> tuple[str, ...]:
    """Name the deficits: buses, with the tier where there are several, in the order of the program's columns."""
    return tuple(
        bus.name if len(case.tiers) == 1 else f"{bus.name}, tier {tier + 1}"
        for place, bus in enumerate(case.buses)
        for tier, one in enumerate(case.tiers)
        if one.depth == float("inf") or case.load[:, place].max() > 0
    )


def _largest_inflow(case: Case) -> tuple[float, ...]:
    if isinstance(case.inflow, InflowTable):
        largest = _INFLOW_ROOM * np.maximum(case.inflow.flow.max(axis=(0, 1)), 1.0)
    else:
        median = np.maximum(case.inflow.initial, case.inflow.median.max(axis=0))
        largest = _INFLOW_ROOM_OF_A_LAW * np.maximum(median, 1.0)
    return tuple(largest.tolist())
