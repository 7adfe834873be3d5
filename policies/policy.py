"""What a policy is: a spec, an identity, and probabilities or quantities for a batch of encoded requests.

What is served is always an artifact (`onnx_policy.py`); the policies here are targets of evaluation.
"""

# B request, S slot, A action, N component of a quantity, V value of a field

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.errors import UsageProblem
from policies.spec import PolicySpec


class UnableToUseTable(UsageProblem):
    """A table of probabilities does not fit the spec it is used with."""


class Policy(Protocol):
    """Propose what to do for a batch of encoded requests; a pure function of each request alone."""

    @property
    def spec(self) -> PolicySpec:
        """The spec that requests are encoded by."""

    @property
    def identity(self) -> str:
        """The digest or the name that tells this policy from all others."""

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Return probabilities [B, S, A], zero where the mask is, or quantities [B, N]."""


class UniformPolicy:
    """Give each eligible action the same probability."""

    def __init__(self, spec: PolicySpec) -> None:
        self.spec = spec
        self.identity = "uniform"

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Return 1 / (number of eligible actions) for each, float64 [B, S, A]; padded slots are all zero."""
        count = mask.sum(axis=2, keepdims=True)
        probabilities: NDArray[np.float64] = mask / np.maximum(count, 1)
        return probabilities


class TablePolicy:
    """Give each action the probability that a table says, by the code of one request field or for all alike.

    Eligible actions share the mass of ineligible ones in proportion.
    """

    def __init__(self, spec: PolicySpec, table: NDArray[np.float64], *, field: str | None = None) -> None:
        """Keep the table: float64 [A] or, with a field, [V, A], one row per code from 0; rows sum to one.

        Raises:
            UnableToUseTable: actions are not fixed, sizes differ, a row is no distribution, or the field is unknown.
        """
        ids = spec.actions.ids
        if ids is None:
            raise UnableToUseTable("a table of probabilities needs a spec with fixed action ids")
        self.spec = spec
        self._table = np.atleast_2d(np.asarray(table, dtype=np.float64))
        self._column = None if field is None else _column_of(spec, field)
        self._check(len(ids))
        self.identity = "table:" + sha256(self._table.tobytes() + (field or "").encode()).hexdigest()[:32]

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Return the table's probabilities over the eligible actions, float64 [B, S, A].

        Raises:
            UnableToUseTable: a request's code has no row in the table, or all of its eligible actions have zero.
        """
        rows = self._rows(arrays, len(mask))
        masked = rows[:, None, :] * mask
        total = masked.sum(axis=2, keepdims=True)
        stranded = (total[:, :, 0] == 0) & mask.any(axis=2)
        if stranded.any():
            row = int(np.flatnonzero(stranded.any(axis=1))[0])
            raise UnableToUseTable(f"the table must give some eligible action a probability, found none in row {row}")
        share = masked / np.where(total > 0, total, 1.0)
        exact: NDArray[np.floating] = np.where(mask.all(axis=2, keepdims=True), masked, share)
        return exact

    def _rows(self, arrays: Mapping[str, NDArray[Any]], count: int) -> NDArray[np.float64]:
        if self._column is None:
            return np.broadcast_to(self._table[0], (count, self._table.shape[1]))
        codes = arrays["request"][:, self._column]
        whole = codes.astype(np.int64)
        if (whole != codes).any() or (whole < 0).any() or (whole >= len(self._table)).any():
            top = len(self._table) - 1
            raise UnableToUseTable(f"the field's values must be whole numbers from 0 to {top}, as the table's columns")
        return self._table[whole]

    def _check(self, action_count: int) -> None:
        if self._column is None and len(self._table) != 1:
            found = f"a table of {len(self._table)} rows"
            raise UnableToUseTable(f"{found} needs the name of a request field: table:CSV@FIELD")
        if self._table.shape[1] != action_count:
            raise UnableToUseTable(f"the table has {self._table.shape[1]} actions, the spec {action_count}")
        if not np.isfinite(self._table).all() or (self._table < 0).any():
            raise UnableToUseTable("the table's probabilities must be finite and not negative")
        off = np.abs(self._table.sum(axis=1) - 1)
        if off.max() > 1e-6:
            found = self._table.sum(axis=1)[off.argmax()]
            where = f"for code {off.argmax()}"
            raise UnableToUseTable(f"probabilities must sum to 1 within 1e-6, found {found:.9g} {where}")


def _column_of(spec: PolicySpec, field: str) -> int:
    if field not in spec.request_columns:
        raise UnableToUseTable(f"there is no request field {field!r}; the spec has {', '.join(spec.request_columns)}")
    return spec.request_columns.index(field)
