"""Proposed quantities come onto a decimal grid and within their bounds, so that records read as people write.

A float32 graph says 12.300000190734863 where it means 12.3: quantities are rounded, as doubles, to the decimal grid
that is just coarser than float32's own resolution at the component's largest bound.
"""

# B request, N component

import math

import numpy as np
from numpy.typing import NDArray

from policies.spec import PolicySpec


def decimals(spec: PolicySpec) -> tuple[int, ...]:
    """Return, per component, how many decimals its quantities carry.

    float32 has 24 bits of mantissa: below 10^k its spacing is under 10^(k - 7) * 1.2.
    """
    actions = spec.actions
    sizes = (max(abs(low), abs(high), 1e-30) for low, high in zip(actions.lower, actions.upper, strict=True))
    return tuple(6 - math.ceil(math.log10(size)) for size in sizes)


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
    columns = proposal.astype(np.float64)
    sound: NDArray[np.bool_] = np.asarray(np.isfinite(columns).all(axis=1))
    lower, upper = np.array(spec.actions.lower), np.array(spec.actions.upper)
    finite = np.where(sound[:, None], columns, lower)
    rounded = np.stack([np.round(finite[:, n], digits) for n, digits in enumerate(decimals(spec))], axis=1)
    return np.clip(rounded, lower, upper), sound
