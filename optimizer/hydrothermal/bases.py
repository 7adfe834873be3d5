"""Where a cached price is exact, proven point by point without a solver.

Below every price stands a dual vertex: L(r) ≤ Q(r) for every release. Above it stands the dispatch of a basis, wherever
its columns and rows lie within their bounds: Q(r) ≤ α + μ · r (`affine.py`). Where the two are equal, the price is the
stage's cost, and because no L is above Q anywhere, the gradient of the L that is equal is a subgradient. So a point is
certified by any basis that is feasible there and costs what the cache says, whichever vertex the basis came from.

Duals are many-faced: one vertex may have many bases, which share (μ, α) and hold in different regions. So several are
kept for each, in the order in which they were found; that is also the order in which they are tried, since the regions
that are visited most are found first.
"""

# M point, B basis, V vertex, S basis of a vertex, K pair of a point and a basis
# R reservoir, P period, D direction, m row, z column or row

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from optimizer.hydrothermal.affine import (
    AffineOptimum,
    Statuses,
    affine_optimum,
    settled,
    stage_system,
)
from optimizer.hydrothermal.case import Floats
from optimizer.solvers.program import Integers, LinearProgram

EQUAL: Final = 1e-9
"""How far apart, as a share, a basis's cost and the cached price may be: rounding errors are a thousand times less."""

SIBLINGS_AT_MOST: Final = 64
"""How many bases of one vertex are kept. On Bolivia's trajectories 8 certify what all do, on random releases 64."""

_NUMBERS_AT_MOST: Final = 1 << 25  # of 8 bytes, in all bases together: 256 MB
_NUMBERS_AT_ONCE: Final = 1 << 22  # the same, in one step of a proof
_SAME_DIGITS: Final = 4  # of slopes and intercepts


class OptimalBases:
    """Hold verified bases of one stage, and say which points they certify; on any device."""

    def __init__(
        self, programs: Sequence[LinearProgram], *, moved_rows: Integers, device: torch.device | None = None
    ) -> None:
        """Take the stage's programs, one for each period, whose moved rows are the release."""
        self.device = device or torch.device("cpu")
        self.system = stage_system(programs, moved_rows=moved_rows)
        self.clear()

    @property
    def size(self) -> int:
        """Return the number B of bases."""
        return len(self._statuses)

    @property
    def statuses(self) -> Statuses:
        """Return where each basis puts columns and rows, int8 [B, z], in the order in which they were found."""
        return np.array(self._statuses, dtype=np.int8).reshape(self.size, self.system.cost.size)

    def clear(self) -> None:
        """Forget all bases."""
        self._statuses: list[Statuses] = []
        self._known: set[bytes] = set()
        self._vertices: dict[bytes, int] = {}
        self._vertex_of: list[int] = []
        self._siblings: Counter[int] = Counter()
        self._numbers = 0
        self._stack: _Stack | None = None
        self._new: list[AffineOptimum] = []
        self._members = torch.zeros((0, 0), dtype=torch.int64)

    def add(self, statuses: Statuses, *, row_duals: Floats | None = None, where: str = "a basis") -> bool:
        """Check a basis, int8 [z], and keep it unless it is known or there are enough; say whether it was kept.

        `row_duals` float64 [m] are the solver's at the same optimum; the basis's own must be the same.

        Raises:
            UnableToUseBasis: it proves nothing.
        """
        statuses = settled(statuses, system=self.system)
        if statuses.tobytes() in self._known:
            return False
        found = affine_optimum(statuses, system=self.system, row_duals=row_duals, where=where)
        key = np.round(np.append(found.slope, found.intercept), _SAME_DIGITS).tobytes()
        vertex = self._vertices.get(key, len(self._vertices))
        numbers = found.normal.size + found.low.size + found.high.size
        if self._siblings[vertex] >= SIBLINGS_AT_MOST or self._numbers + numbers > _NUMBERS_AT_MOST:
            return False
        self._known.add(statuses.tobytes())
        self._vertices[key] = vertex
        self._vertex_of.append(vertex)
        self._siblings[vertex] += 1
        self._numbers += numbers
        self._statuses.append(statuses)
        self._new.append(found)
        return True

    def prove(self, release: Tensor, *, price: Tensor, period: int) -> Tensor:
        """Say at which releases [M, R] a basis is feasible that costs what a bound from below [M] says; bool [M]."""
        proven = torch.zeros(len(release), dtype=torch.bool, device=release.device)
        stack = self._stacked()
        if stack is None:
            return proven
        step = max(1, _NUMBERS_AT_ONCE // (self.size * release.shape[1]))
        for start in range(0, len(release), step):
            part = slice(start, start + step)
            proven[part] = stack.prove(release[part], price[part], period, self._members)
        return proven

    def _stacked(self) -> "_Stack | None":
        if self._new:
            new = _stack_of(self._new, device=self.device)
            self._stack, self._new = new if self._stack is None else self._stack.with_more(new), []
            self._members = torch.from_numpy(members_of(np.array(self._vertex_of))).to(self.device)
        return self._stack


def members_of(vertex: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bases of each vertex in their order, int64 [V, S], filled up with −1, from the vertex of each [B].

    >>> members_of(np.array([0, 1, 0, 2, 0])).tolist()
    [[0, 2, 4], [1, -1, -1], [3, -1, -1]]
    """
    order = np.argsort(vertex, kind="stable")
    counts = np.bincount(vertex)
    rank = np.arange(vertex.size) - np.repeat(np.cumsum(counts) - counts, counts)
    members = np.full((counts.size, counts.max()), -1)
    members[vertex[order], rank] = order
    return members


def _stack_of(kept: Sequence[AffineOptimum], *, device: torch.device) -> "_Stack":
    def widened(arrays: Iterable[Floats], filler: float) -> Tensor:
        tensors = [torch.from_numpy(array) for array in arrays]
        return pad_sequence(tensors, batch_first=True, padding_value=filler).to(device)

    return _Stack(
        normal=widened((one.normal for one in kept), 0.0),
        low=widened((one.low for one in kept), -np.inf),
        high=widened((one.high for one in kept), np.inf),
        slope=widened((one.slope for one in kept), 0.0),
        intercept=widened((one.intercept for one in kept), 0.0),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stack:
    """All bases as tensors; directions that a basis does not have are filled up with ones that always hold.

    Attributes:
        normal: float64 [B, D, R].
        low, high: float64 [B, D, P].
        slope: float64 [B, R].
        intercept: float64 [B, P].
    """

    normal: Tensor
    low: Tensor
    high: Tensor
    slope: Tensor
    intercept: Tensor

    def with_more(self, more: "_Stack") -> "_Stack":
        """Return all bases of both, these first."""
        directions = max(self.normal.shape[1], more.normal.shape[1])

        def joined(name: str, filler: float) -> Tensor:
            parts = [getattr(stack, name) for stack in (self, more)]
            return torch.cat([pad(part, (0, 0, 0, directions - part.shape[1]), value=filler) for part in parts])

        return _Stack(
            normal=joined("normal", 0.0),
            low=joined("low", -np.inf),
            high=joined("high", np.inf),
            slope=torch.cat([self.slope, more.slope]),
            intercept=torch.cat([self.intercept, more.intercept]),
        )

    def prove(self, release: Tensor, price: Tensor, period: int, members: Tensor) -> Tensor:
        """Try one basis of each point, then all others of the points that are left.

        `members` [V, S] are the bases of each vertex; those of a vertex are tried where its first one costs the price.
        """
        first = members[:, 0]
        cost = torch.addmm(self.intercept[first, period], release, self.slope[first].T)
        is_equal = _are_equal(cost, price[:, None])
        proven = is_equal.any(dim=1)
        proven &= self._holds(release, price, first[is_equal.to(torch.uint8).argmax(dim=1)], period)
        is_equal[proven] = False
        point, vertex = is_equal.nonzero(as_tuple=True)
        basis = members[vertex]
        which, _ = (basis >= 0).nonzero(as_tuple=True)
        point, basis = point[which], basis[basis >= 0]
        proven[point[self._holds(release[point], price[point], basis, period)]] = True
        return proven

    def _holds(self, release: Tensor, price: Tensor, basis: Tensor, period: int) -> Tensor:
        """Say of each pair whether the basis is feasible at the release [K, R] and costs the price [K]; bool [K]."""
        cost = (self.slope[basis] * release).sum(dim=1) + self.intercept[basis, period]
        holds = _are_equal(cost, price)
        step = max(1, _NUMBERS_AT_ONCE // max(1, self.normal[0].numel()))
        for start in range(0, len(basis), step):
            part = slice(start, start + step)
            chosen = basis[part]
            at = torch.bmm(self.normal[chosen], release[part].unsqueeze(2)).squeeze(2)
            holds[part] &= ((at >= self.low[chosen, :, period]) & (at <= self.high[chosen, :, period])).all(dim=1)
        return holds


def _are_equal(cost: Tensor, price: Tensor) -> Tensor:
    return (cost - price).abs() <= EQUAL * price.abs().clamp(min=1.0)
