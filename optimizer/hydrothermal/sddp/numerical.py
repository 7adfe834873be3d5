"""The sizes of a training's numbers, with the row and the column that hold the extremes.

A coefficient far from the others is where solvers go wrong, and what helps is to know which it is.
"""

# T stage, S choice, R reservoir, n column, m row

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.sddp.noise import InflowNoise
from optimizer.hydrothermal.stage import StageArrays
from optimizer.solvers.program import rows_of_entries

SMALL: Final = 1e-4
LARGE: Final = 1e7
"""Sizes below and above which a range is reported as an issue."""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the smallest and largest size of some numbers, zeros and infinities left out, and where they stand."""

    what: str
    least: float
    least_at: str
    most: float
    most_at: str

    @property
    def is_issue(self) -> bool:
        """Say whether a size lies outside [1e-4, 1e7]."""
        return self.least < SMALL or self.most > LARGE


def numerical_report(arrays: StageArrays, *, noise: InflowNoise) -> tuple[Range, ...]:
    """Return the ranges of matrix, objective, bounds and right-hand sides over all stages of the noise."""
    program = arrays.program
    rows = rows_of_entries(program.matrix)
    entries = [
        f"{program.row_names[row]}, {program.column_names[at]}"
        for row, at in zip(rows, program.matrix.indices, strict=True)
    ]
    found = (
        _range("matrix", [(program.matrix.data, entries)]),
        _range("objective", [(program.cost, list(program.column_names))]),
        _range("bounds", _bounds(arrays)),
        _range("right-hand side", _sides(arrays, noise)),
    )
    return tuple(one for one in found if one is not None)


def _bounds(arrays: StageArrays) -> Iterator[tuple[Floats, list[str]]]:
    names = list(arrays.program.column_names)
    yield arrays.program.column_lower, names
    for one in arrays.variants.values():
        yield one.column_upper, names


def _sides(arrays: StageArrays, noise: InflowNoise) -> Iterator[tuple[Floats, list[str]]]:
    names = list(arrays.program.row_names)
    for one in arrays.variants.values():
        yield one.row_lower, names
        yield one.row_upper, names
    water = [names[row] for row in arrays.water_rows]
    for stage, own in enumerate(noise.stages):
        for choice, flow in enumerate(arrays.case.volume_per_flow * own.constant):
            yield flow, [f"{name} of stage {stage + 1}, scenario {choice + 1}" for name in water]


def _range(what: str, parts: Iterator[tuple[Floats, list[str]]] | list[tuple[Floats, list[str]]]) -> Range | None:
    least, most = (np.inf, ""), (0.0, "")
    for values, names in parts:
        sizes = np.abs(values)
        counts = (sizes > 0) & np.isfinite(sizes)
        if not counts.any():
            continue
        low, high = int(np.where(counts, sizes, np.inf).argmin()), int(np.where(counts, sizes, 0.0).argmax())
        least = min(least, (float(sizes[low]), names[low]))
        most = max(most, (float(sizes[high]), names[high]))
    if not most[0]:
        return None
    return Range(what=what, least=least[0], least_at=least[1], most=most[0], most_at=most[1])
