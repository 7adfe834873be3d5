"""Draw the small case: four plants in two valleys, three thermal units, five buses, 24 weeks of six scenarios.

    python -m optimizer.hydrothermal.cases.make_small optimizer/hydrothermal/cases/small

Every figure is made up; the shapes are those that models go wrong on. Upper's turbined water goes to Middle while its
spill leaves the valley; Middle passes both on to River, which stores nothing; Lake stands alone with a least volume, a
least outflow and a volume to end with. Lines congest, and in dry weeks not all load can be met.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

SEED: Final = 20_240_514
WEEKS: Final = 24
SCENARIOS: Final = 6
PROBABILITIES: Final = (0.1, 0.2, 0.2, 0.2, 0.2, 0.1)

_MEAN_INFLOW_M3S: Final = (6.0, 3.0, 1.5, 2.0)
_PLANTS: Final[Sequence[Mapping[str, Any]]] = (
    {"name": "Upper", "max_volume": 45.0, "initial_volume": 20.0, "max_turn": 12.0, "production_factor": 3.2,
     "downstream_turn": [2], "downstream_spill": []},
    {"name": "Middle", "max_volume": 6.0, "initial_volume": 3.0, "max_turn": 18.0, "production_factor": 2.1,
     "downstream_turn": [3], "downstream_spill": [3]},
    {"name": "River", "max_volume": 0.0, "initial_volume": 0.0, "max_turn": 22.0, "production_factor": 1.4,
     "downstream_turn": [], "downstream_spill": []},
    {"name": "Lake", "max_volume": 15.0, "initial_volume": 6.0, "max_turn": 6.0, "production_factor": 4.5,
     "downstream_turn": [], "downstream_spill": [], "min_volume": 1.5, "final_volume": 5.0, "min_turn": 0.5,
     "spill_cost": 0.01, "minimal_volume_violation_cost": 900.0, "minimal_outflow_violation_cost": 60.0},
)  # fmt: skip
_THERMAL: Final = ((1, 40.0, 21.0), (4, 35.0, 47.0), (5, 20.0, 95.0))  # bus, MW, $ per MW
_HYDRO_BUSES: Final = (2, 2, 3, 5)
_LOADS_MW: Final = ((1, 38.0), (3, 50.0), (4, 34.0), (5, 28.0))
_LINES: Final = ((1, 2, 0.10, 60.0), (2, 3, 0.08, 45.0), (3, 4, 0.12, 40.0), (4, 5, 0.09, 35.0), (5, 1, 0.15, 30.0),
                 (2, 4, 0.20, 25.0))  # fmt: skip
_BASE_MVA: Final = 100.0
_DEFICIT_PER_MW: Final = 600.0


def make_small(folder: Path) -> None:
    """Write the four files of the case into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "PowerModels.json", _grid())
    _write_json(folder / "hydro.json", {"stage_hours": 168, "Hydrogenerators": _hydros()})
    _write_rows(folder / "inflows.csv", _inflows())
    _write_rows(folder / "scenarioprobability.csv", [PROBABILITIES] * WEEKS)


def _grid() -> dict[str, Any]:
    return {
        "name": "small",
        "source_type": "made up",
        "source_version": "2",
        "baseMVA": _BASE_MVA,
        "per_unit": True,
        "cost_deficit": _DEFICIT_PER_MW,
        "bus": _numbered([_bus(number) for number in range(1, 6)]),
        "gen": _numbered([_generator(*unit) for unit in _THERMAL] + [_hydro_unit(at) for at in range(len(_PLANTS))]),
        "branch": _numbered([_branch(*line) for line in _LINES]),
        "load": _numbered([{"load_bus": bus, "pd": mw / _BASE_MVA, "qd": 0.0, "status": 1} for bus, mw in _LOADS_MW]),
        "shunt": {},
        "dcline": {},
        "storage": {},
        "switch": {},
    }


def _numbered(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {str(number): {"index": number, **item} for number, item in enumerate(items, start=1)}


def _bus(number: int) -> dict[str, Any]:
    kind = 3 if number == 1 else 2
    voltage = {"vm": 1, "va": 0, "vmin": 0.9, "vmax": 1.1, "base_kv": 230}
    return {"bus_i": number, "bus_type": kind, "area": 1, "zone": 1, **voltage}


def _generator(bus: int, maximum_mw: float, cost_per_mw: float) -> dict[str, Any]:
    unused = dict.fromkeys(("pg", "qg", "pc1", "pc2", "qc1min", "qc1max", "qc2min", "qc2max", "startup", "shutdown"), 0)
    cost = {"model": 2, "ncost": 2, "cost": [cost_per_mw * _BASE_MVA, 0]}
    limits = {"pmin": 0, "pmax": maximum_mw / _BASE_MVA, "qmin": -1, "qmax": 1, "vg": 1, "mbase": _BASE_MVA}
    return {"gen_bus": bus, "gen_status": 1, **limits, **cost, **unused}


def _hydro_unit(at: int) -> dict[str, Any]:
    plant = _PLANTS[at]
    return _generator(_HYDRO_BUSES[at], round(plant["max_turn"] * plant["production_factor"], 6), 0.1)


def _branch(origin: int, end: int, reactance: float, rating_mw: float) -> dict[str, Any]:
    angles = {"angmin": -1.0472, "angmax": 1.0472}
    line = {"br_r": round(reactance / 10, 6), "br_x": reactance, "rate_a": rating_mw / _BASE_MVA, **angles}
    plain = {"tap": 1, "shift": 0, "transformer": False, "br_status": 1, "b_fr": 0, "b_to": 0, "g_fr": 0, "g_to": 0}
    return {"f_bus": origin, "t_bus": end, **line, **plain}


def _hydros() -> list[dict[str, Any]]:
    absent = {
        "min_volume": 0.0, "final_volume": 0.0, "min_turn": 0.0, "spill_cost": 0.0,
        "minimal_volume_violation_cost": 0.0, "minimal_outflow_violation_cost": 0.0,
    }  # fmt: skip
    return [
        {"index": at + 1, "index_grid": len(_THERMAL) + at + 1, **absent, **plant} for at, plant in enumerate(_PLANTS)
    ]


def _inflows() -> list[list[float]]:
    """Return a row per week: a wet season, and one draw per scenario that all plants share in part."""
    generator = np.random.default_rng(SEED)
    season = 1.0 + 0.85 * np.sin(2.0 * np.pi * np.arange(WEEKS) / WEEKS)
    common = generator.standard_normal((WEEKS, 1, SCENARIOS))
    own = generator.standard_normal((WEEKS, len(_PLANTS), SCENARIOS))
    factor = np.exp(0.45 * common + 0.25 * own - 0.13)
    flow = np.array(_MEAN_INFLOW_M3S)[None, :, None] * season[:, None, None] * factor
    return [[round(float(value), 3) for value in week.ravel()] for week in flow]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _write_rows(path: Path, rows: Sequence[Sequence[float]]) -> None:
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    make_small(Path(sys.argv[1]))
