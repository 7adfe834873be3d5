"""Where cases come from: a folder in one of two formats, or the small case that ships inside the project."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Final

from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.msppy import EXCHANGE, load_msppy
from optimizer.hydrothermal.power_models import GRID, HYDRO, load_power_models
from policies.errors import UsageProblem

SMALL_CASE_HOURS: Final = 168.0
"""A stage of the small case is a week."""


class CaseMissing(UsageProblem):
    """There is no case at the place that was named, or it was asked for in a way that no case can be."""


def load_case(
    folder: Path, *, stage_hours: float, load_scale: float = 1.0, initial_storage: float | None = None
) -> Case:
    """Read the case in a folder, of whichever format its files show.

    Args:
        folder: of HydroPowerModels (PowerModels.json, hydro.json, inflows.csv) or of msppy (hydro.csv, exchange.csv).
        stage_hours: hours of a stage; it must agree with what the files say of it.
        load_scale: what every load is multiplied by, at least 0.
        initial_storage: fraction of the largest volume that every reservoir starts with, in [0, 1]; None: what the
            files say.

    Raises:
        CaseMissing: the folder is not there or holds neither format, or a number cannot be asked for.
        CaseRefused: its content is not what it must be; the message names file and field.
    """
    _check(stage_hours, load_scale, initial_storage)
    case = _load(folder, stage_hours)
    if initial_storage is not None:
        filled = (replace(one, volume_initial=initial_storage * one.volume_max) for one in case.hydros)
        case = replace(case, hydros=tuple(filled))
    return replace(case, load=load_scale * case.load, load_scale=load_scale)


def small_case_folder() -> Path:
    """Return the folder of the small case; `cases/make_small.py` beside it says how it was drawn."""
    return Path(str(files("optimizer.hydrothermal") / "cases" / "small"))


def _load(folder: Path, stage_hours: float) -> Case:
    if (folder / GRID).exists() or (folder / HYDRO).exists():
        return load_power_models(folder, stage_hours=stage_hours)
    if (folder / EXCHANGE).exists():
        return load_msppy(folder, stage_hours=stage_hours)
    raise CaseMissing(f"expected a case in {folder}: {GRID} and {HYDRO}, or {EXCHANGE}; found neither")


def _check(stage_hours: float, load_scale: float, initial_storage: float | None) -> None:
    if not 0 < stage_hours < float("inf"):
        raise CaseMissing(f"stage_hours must be above 0, found {stage_hours:g}")
    if not 0 <= load_scale < float("inf"):
        raise CaseMissing(f"load_scale must be at least 0, found {load_scale:g}")
    if initial_storage is not None and not 0 <= initial_storage <= 1:
        raise CaseMissing(f"initial_storage must be a fraction from 0 to 1, found {initial_storage:g}")
