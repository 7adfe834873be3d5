"""Proposed quantities come onto a decimal grid and within their bounds, so that records read as people write.

A float32 graph says 12.300000190734863 where it means 12.3: quantities are rounded, as doubles, to the decimal grid
that is just coarser than float32's own resolution at the component's largest bound.
"""

# B request, N component

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.spec import PolicySpec


def decimals(spec: PolicySpec) -> tuple[int, ...]:
    """Return, per component, how many decimals its quantities carry.

    float32 has 24 bits of mantissa: below 10^k its spacing is under 10^(k - 7) * 1.2.
    """
    return _decimals(spec.actions.lower, spec.actions.upper)


def settle_quantities(
    proposal: NDArray[np.floating], *, spec: PolicySpec
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Round proposals to their grid and clip them to their bounds.

    Args:
        proposal: [B, N], in the components' units.
        spec: names the components and their bounds.

    Returns:
        float64 [B, N] within the bounds, and bool [B], false where the proposal was not finite (its row is the lower
        bounds).
    """
    grid = _grid(spec.actions.lower, spec.actions.upper)
    columns = proposal.astype(np.float64)
    sound: NDArray[np.bool_] = np.asarray(np.isfinite(columns).all(axis=1))
    finite = columns if sound.all() else np.where(sound[:, None], columns, grid.lower)
    rounded = np.rint(finite * grid.finer / grid.coarser) / grid.finer * grid.coarser
    return rounded.clip(grid.lower, grid.upper), sound


class _Grid(NamedTuple):
    """Hold, per component, what its quantities are multiplied by and divided by before they become whole, and bounds.

    One of the two factors is 1, so that the arithmetic is that of `numpy.round`, bit for bit.
    """

    finer: NDArray[np.float64]
    coarser: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


@lru_cache(maxsize=256)
def _grid(lower: tuple[float, ...], upper: tuple[float, ...]) -> _Grid:
    digits = _decimals(lower, upper)
    return _Grid(
        finer=np.array([_power_of_ten(n) for n in digits]),
        coarser=np.array([_power_of_ten(-n) for n in digits]),
        lower=np.array(lower),
        upper=np.array(upper),
    )


def _power_of_ten(exponent: int) -> float:
    """Multiply tens, 1.0 for none, as `numpy.round` does: above 10^22 another way may round to another double."""
    return math.prod((10.0,) * exponent)


def _decimals(lower: tuple[float, ...], upper: tuple[float, ...]) -> tuple[int, ...]:
    sizes = (max(abs(low), abs(high), 1e-30) for low, high in zip(lower, upper, strict=True))
    return tuple(6 - math.ceil(math.log10(size)) for size in sizes)
