"""The small hydrothermal case, loaded and compiled once, and draws of its states."""

from functools import cache

import numpy as np

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.data import SMALL_CASE_HOURS, load_case, small_case_folder
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.stage import StageArrays, compile_stage


@cache
def small_case() -> Case:
    return load_case(small_case_folder(), stage_hours=SMALL_CASE_HOURS)


@cache
def small_stage() -> StageArrays:
    return compile_stage(small_case())


def table_of(case: Case) -> InflowTable:
    assert isinstance(case.inflow, InflowTable)
    return case.inflow


def draw_states(case: Case, *, count: int, seed: int) -> tuple[Floats, Floats]:
    """Draw volumes and inflows of any period and scenario, float64 [count, R] each."""
    generator = np.random.default_rng(seed)
    table = table_of(case)
    volume = generator.uniform(0.0, 1.0, (count, len(case.hydros))) * case.volume_max
    periods = generator.integers(0, table.periods, count)
    return volume, table.flow[periods, generator.integers(0, table.scenarios, count)]
