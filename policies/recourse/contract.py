"""What every recourse promises: proposed quantities in, applied quantities and named outputs out, row by row.

A row's result is a pure function of that row's own inputs and the artifact: the same bits in any batch, in any order
and after any history. A row that cannot be made feasible is a fault of its own; its neighbors never notice.
"""

# B batch, N components of the quantity, K components of one output

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.errors import Unable
from policies.spec import Output

Parameters = Mapping[str, NDArray[Any]]
"""The encoded observation by the names of the graph's inputs: `request` [B, F], `sequence_<field>` [B, T, W], …"""


class RecourseRefused(Unable):
    """The recourse of an artifact is incomplete, contradicts itself or contradicts the spec."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Applied:
    """Hold what recourse made of a batch of B proposals.

    values: [B, N] float64, in the units of the spec's quantity; NaN in the rows of `faults`.
    status: B words; how each row came about (the words of each kind stand in its module).
    outputs: by name [B, K] float64, or [B] where the spec's output has no component names; NaN in the rows of `faults`.
    faults: row → what was expected and found, for each row without a feasible action (reason `recourse_infeasible`).
    """

    values: NDArray[np.float64]
    status: tuple[str, ...]
    outputs: Mapping[str, NDArray[np.float64]]
    faults: Mapping[int, str]


class Recourse(Protocol):
    """Turn proposed quantities into the nearest feasible ones."""

    @property
    def kind(self) -> str:
        """Name the recourse as the spec does."""
        ...

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Name what is reported beside the applied action, with units, in the spec's order."""
        ...

    def apply(
        self, proposed: NDArray[np.float64], *, parameters: Parameters, seeds: NDArray[np.uint64] | None = None
    ) -> Applied:
        """Make each row of a batch feasible.

        proposed: [B, N] float64, what the policy proposes, in the units of the spec's quantity.
        parameters: the observation that it proposed from, encoded by the spec; B rows each.
        seeds: [B] uint64, one keyed draw per request, for recourses that search; others ignore it.

        Raises:
            ValueError: the arrays do not have the shapes of the spec (a programming error, never a bad request).
        """
        ...
