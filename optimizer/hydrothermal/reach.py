r"""Which volumes can be reached in one stage: targets that are feasible by construction, and differentiable.

With the water before decisions a = v⁻ + K w, and o_i the most water that can leave reservoir i, upstream first:

    in_i = Σ_u o_u                    where spill of u comes to i (turbined water with it)
         + Σ_u min(K q̄_u, o_u)        where only turbined water of u does
    u_i  = min(v̄_i, a_i + in_i)       the largest volume within reach; the least is 0, for spill has no bound
    v̂_i  = f_i u_i,  0 ≤ f_i < 1      the target
    o_i  = max(0, a_i + in_i − v̂_i)

Each target within one stage's reach makes every later stage feasible too, so the volumes of a strict roll-out *are*
its targets. Where turbined and spilled water of one plant go to different plants, its two maxima exclude each other:
neither is counted, which is safe and slightly tight.

Gradients flow through u: held constant, they keep a few percent of the gradient's norm and turn it far off.

Source: Rosemberg et al., arXiv 2405.14973 (targets by policy); the map is our own.
"""

# B batch, R reservoir

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from optimizer.hydrothermal.case import Case, cascade_order

STRETCH = 0.01
"""By how much the sigmoid is stretched on each side before it is clamped, so that empty and full can be attained."""

FULLEST = 1.0 - 1e-4
"""The largest fraction of the reach: exactly full leaves the solver no room for rounding."""


class Step(NamedTuple):
    """Hold what one application of the map leaves behind for its adjoint: [B, R] each, by iteration where lists.

    fraction: of the reach. reached: u of each iteration. arrived: a + in of each. left: o of each but the last.
    """

    fraction: Tensor
    reached: list[Tensor]
    arrived: list[Tensor]
    left: list[Tensor]


class Slopes(NamedTuple):
    """Hold the derivatives of one application at its point, [B, R] each.

    by_fraction, by_arrived: of the target. above: of each iteration before the last, from the last one to the first:
    whether what is left over goes on, and what is left over by the fraction and by what arrived.
    """

    by_fraction: Tensor
    by_arrived: Tensor
    above: list[tuple[Tensor, Tensor, Tensor]]


class ReachableMap(nn.Module):
    """Turn water and fractions into targets within one stage's reach; any float type, any device, batch first.

    Iterating as often as the cascade is deep gives the exact pass from upstream to downstream, without an index.
    """

    volume_max: Tensor
    links: Tensor
    capacity: Tensor

    def __init__(self, case: Case, *, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        count = len(case.hydros)
        links = torch.zeros(count, count, dtype=dtype)
        capacity = torch.full((count,), torch.inf, dtype=dtype)
        for place, hydro in enumerate(case.hydros):
            ends = {hydro.turbine_to, hydro.spill_to} - {None}
            if len(ends) == 1:
                links[place, ends.pop()] = 1.0
            if hydro.spill_to is None:
                capacity[place] = case.volume_per_flow * hydro.turbine_max
        self.depth = _depth(links)
        self.register_buffer("volume_max", torch.tensor(case.volume_max, dtype=dtype))
        self.register_buffer("links", links)
        self.register_buffer("capacity", capacity)

    def forward(self, water: Tensor, fraction: Tensor) -> Tensor:
        """Return targets [B, R] of water a = v⁻ + K w and fractions of the reach, [B, R] each, in the case's volume."""
        return self.trace(water, fraction)[0]

    def upper(self, water: Tensor, fraction: Tensor) -> Tensor:
        """Return u, the largest volumes within reach, [B, R], where what lies above follows the fractions."""
        return self.trace(water, fraction)[1].reached[-1]

    def trace(self, water: Tensor, fraction: Tensor) -> tuple[Tensor, Step]:
        """Return the targets and what `pull` needs of the way to them."""
        step = Step(fraction, [], [], [])
        arrived = water
        for _ in range(self.depth):
            reached = torch.minimum(self.volume_max, arrived)
            left = torch.addcmul(arrived, fraction, reached, value=-1.0).relu_()
            step.reached.append(reached)
            step.arrived.append(arrived)
            step.left.append(left)
            arrived = torch.addmm(water, torch.minimum(left, self.capacity), self.links)
        step.reached.append(torch.minimum(self.volume_max, arrived))
        step.arrived.append(arrived)
        return fraction * step.reached[-1], step

    def slopes(self, steps: Sequence[Step]) -> list[Slopes]:
        """Return the derivatives of many applications, each computed for all of them at once."""
        fraction = torch.stack([step.fraction for step in steps])
        parts = zip(*((*step.reached, *step.arrived, *step.left) for step in steps), strict=True)
        stacked = [torch.stack(part) for part in parts]
        reached, arrived, left = (stacked[i : i + self.depth + 1] for i in (0, self.depth + 1, 2 * self.depth + 2))
        by_arrived = [fraction * (one < self.volume_max) for one in arrived]
        columns = [reached[-1], by_arrived[-1]]
        for place in range(self.depth - 1, -1, -1):
            goes_on = ((left[place] < self.capacity) & (left[place] > 0)).to(fraction.dtype)
            columns += [goes_on, -reached[place], 1.0 - by_arrived[place]]
        return [
            Slopes(row[0], row[1], [(row[i], row[i + 1], row[i + 2]) for i in range(2, len(row), 3)])
            for row in zip(*(column.unbind() for column in columns), strict=True)
        ]

    def pull(self, slopes: Slopes, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the adjoint: gradients by water and by fraction, [B, R] each, of a gradient by the targets."""
        by_fraction = gradient * slopes.by_fraction
        by_arrived = gradient * slopes.by_arrived
        by_water = by_arrived
        for goes_on, left_by_fraction, left_by_arrived in slopes.above:
            by_left = (by_arrived @ self.links.T) * goes_on
            by_fraction = torch.addcmul(by_fraction, by_left, left_by_fraction)
            by_arrived = by_left * left_by_arrived
            by_water = by_water + by_arrived
        return by_water, by_fraction


def stretched_sigmoid(score: Tensor) -> Tensor:
    """Squeeze scores into fractions of the reach, from 0 to 1 − 1e-4, both attained.

    >>> stretched_sigmoid(torch.tensor([-9.0, 0.0, 9.0], dtype=torch.float64)).tolist()
    [0.0, 0.5, 0.9999]
    """
    return ((1.0 + 2.0 * STRETCH) * torch.sigmoid(score) - STRETCH).clamp(0.0, FULLEST)


def _depth(links: Tensor) -> int:
    """Return how many links the longest way down has."""
    downstream = [tuple(torch.nonzero(row).flatten().tolist()) for row in links]
    order = cascade_order(downstream)
    assert order is not None
    depth = [0] * len(downstream)
    for place in order:
        for below in downstream[place]:
            depth[below] = max(depth[below], depth[place] + 1)
    return max(depth, default=0)
