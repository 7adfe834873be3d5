"""The stage program as arrays: compiled once from the readable model, then moved by right-hand sides alone.

The state enters the water rows only: their right-hand side is v⁻ + K w. What differs between stages beside it is the
load (and with it the depth of deficit tiers), and the least volumes of the last stage.
"""

# B batch, R reservoir, n column, m row, P period, A bus

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.model import COLUMN_UNITS, ROW_UNITS, stage_model
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.model import compile_model
from optimizer.solvers.program import Integers, LinearProgram


@dataclass(frozen=True, kw_only=True, eq=False)
class StageVariant:
    """Hold what a stage has of its own: row_lower [m], row_upper [m] (water rows at zero), column_upper [n]."""

    row_lower: Floats
    row_upper: Floats
    column_upper: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class StageArrays:
    """Hold the stage of a case as a program of n columns and m rows.

    Columns and rows come in the blocks of `model.COLUMN_UNITS` and `model.ROW_UNITS`; a block's places are in the order
    of the case's hydros, buses, branches, links or generators.

    Attributes:
        case: the system.
        program: the stage of period 0, not the last one, its water rows at zero.
        variants: by period and whether the stage is the last one.
        floor_hydros: int32, places in `Case.hydros` of those with a least volume, in the order of `volume_floor`.
        outflow_hydros: int32, the same of `outflow_floor`.
    """

    case: Case
    program: LinearProgram
    variants: dict[tuple[int, bool], StageVariant]
    floor_hydros: Integers
    outflow_hydros: Integers

    @property
    def reservoirs(self) -> int:
        """Return the number R of reservoirs."""
        return len(self.case.hydros)

    @cached_property
    def columns(self) -> dict[str, Integers]:
        """Return the places of each block's columns, int32; an absent block has none."""
        return {block: self.program.columns_of(block) for block in COLUMN_UNITS}

    @cached_property
    def rows(self) -> dict[str, Integers]:
        """Return the places of each block's rows, int32; an absent block has none."""
        return {block: self.program.rows_of(block) for block in ROW_UNITS}

    @property
    def water_rows(self) -> Integers:
        """Return the rows whose right-hand side is v⁻ + K w, int32 [R]."""
        return self.rows["water"]

    @property
    def volume_columns(self) -> Integers:
        """Return the columns of the volumes v at the end of the stage, int32 [R]."""
        return self.columns["volume"]

    def water(self, volume_before_BR: Floats, *, inflow_BR: Floats) -> Floats:
        """Return the right-hand sides of the water rows, v⁻ + K w, float64 of the arguments' shape [.., R]."""
        return volume_before_BR + self.case.volume_per_flow * inflow_BR

    def variant(self, stage: int, *, is_last: bool = False) -> StageVariant:
        """Return what a stage (from 0) has of its own."""
        return self.variants[stage % self.case.load.shape[0], is_last]

    def column_units(self, block: str) -> str:
        """Return the unit of a block of columns, in the case's words."""
        return _in_words(COLUMN_UNITS[block], self.case)

    def row_units(self, block: str) -> str:
        """Return the unit of a block of rows, in the case's words; a dual is in cost per that unit, for the stage."""
        return _in_words(ROW_UNITS[block], self.case)

    def solver(self, stage: int = 0, *, is_last: bool = False) -> WarmSolver:
        """Return a warm solver of a stage, whose `solve` takes the water [R]."""
        return WarmSolver(self.of_stage(stage, is_last=is_last), moved_rows=self.water_rows)

    def of_stage(self, stage: int, *, is_last: bool = False) -> LinearProgram:
        """Return the program of a stage, its water rows at zero."""
        own = self.variant(stage, is_last=is_last)
        program = self.program.with_rows(own.row_lower, own.row_upper)
        return replace(program, column_upper=own.column_upper)


def compile_stage(case: Case) -> StageArrays:
    """Compile the stage of a case: one Pyomo model for each period and for the last stage, all of one shape."""
    compiled = {
        (period, is_last): compile_model(stage_model(case, period=period, is_last=is_last))
        for period in range(case.load.shape[0])
        for is_last in (False, True)
    }
    variants = {
        key: StageVariant(row_lower=one.row_lower, row_upper=one.row_upper, column_upper=one.column_upper)
        for key, one in compiled.items()
    }
    places = {name: at for at, name in enumerate(case.hydro_names)}
    program = compiled[0, False]
    return StageArrays(
        case=case,
        program=program,
        variants=variants,
        floor_hydros=_hydros_of(program, "volume_floor", places),
        outflow_hydros=_hydros_of(program, "outflow_floor", places),
    )


def _hydros_of(program: LinearProgram, block: str, places: dict[str, int]) -> Integers:
    names = [program.row_names[row].removeprefix(f"{block}[").removesuffix("]") for row in program.rows_of(block)]
    return np.array([places[name] for name in names], dtype=np.int32)


def _in_words(unit: str, case: Case) -> str:
    return {"volume": case.units.volume, "flow": case.units.flow}.get(unit, unit)
