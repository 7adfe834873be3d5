"""What a recourse may know of a row, by name: a column of the request, a sequence's last step, the proposal.

`request:COLUMN`               a column of the graph's input `request`, named as `PolicySpec.request_columns` does
`sequence:FIELD:last:INDEX`    component INDEX of the last step of a sequence (sequences are right-aligned)
`proposed:INDEX`               component INDEX of the proposed quantity
"""

# B batch, P parameter, N component, T step, W component of a step

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from policies.recourse.contract import Parameters, RecourseRefused
from policies.spec import PolicySpec

Split: TypeAlias = tuple[NDArray[np.intp], NDArray[np.intp]]


class ParameterReader:
    """Read named parameters from an encoded batch into one array [B, P] of float64.

    >>> from policies.spec import ActionSet, Field, PolicySpec
    >>> stock = Field(name="stock", units="units", lower=0, upper=9)
    >>> order = ActionSet(kind="quantity", names=("order",), units=("units",), lower=(0,), upper=(9,))
    >>> spec = PolicySpec(domain="shop", fields=(stock,), actions=order)
    >>> reader = ParameterReader(("proposed:0", "request:stock"), spec=spec)
    >>> reader.read(np.array([[5.0]]), parameters={"request": np.array([[2.0]])})
    array([[5., 2.]])
    """

    def __init__(self, names: Sequence[str], *, spec: PolicySpec) -> None:
        """Resolve each name against the spec.

        Raises:
            RecourseRefused: a name is not one of the three forms, or names what the spec does not have.
        """
        self.names = tuple(names)
        self._components = len(spec.actions.names)
        places = _Places([], {}, [])
        for position, name in enumerate(self.names):
            places.resolve(position, name, spec)
        self._columns, self._proposed = _split(places.columns), _split(places.proposed)
        self._steps = {field: _split(pairs) for field, pairs in places.steps.items()}

    def read(self, proposed: NDArray[np.float64], *, parameters: Parameters) -> NDArray[np.float64]:
        """Return the parameters of each row, float64 [B, P] in the order of `names`; absent ones are NaN.

        A sequence of length 0 has no last step: its parameters are NaN.

        Raises:
            ValueError: an array has another number of rows, or the proposal another number of components.
        """
        if proposed.ndim != 2 or proposed.shape[1] != self._components:
            raise ValueError(f"proposed: expected [B, {self._components}], found {list(proposed.shape)}")
        values = np.empty((proposed.shape[0], len(self.names)))
        _copy(self._proposed, proposed, values)
        if self._columns[0].size:
            _copy(self._columns, parameters["request"], values)
        for field, places in self._steps.items():
            _copy(places, _last_steps(field, parameters), values)
        return values

    def read_sound(
        self, proposed: NDArray[np.float64], *, parameters: Parameters
    ) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Return the parameters as `read` does, zero where not finite, and say of each such row which ones are not.

        Raises:
            ValueError: as `read`.
        """
        values = self.read(proposed, parameters=parameters)
        is_finite = np.isfinite(values)
        if is_finite.all():
            return values, {}
        faults = {
            int(row): "expected finite parameters, found "
            + ", ".join(f"{self.names[at]} = {values[row, at]}" for at in np.flatnonzero(~is_finite[row]).tolist())
            for row in np.flatnonzero(~is_finite.all(axis=1))
        }
        return np.where(is_finite, values, 0.0), faults


class _Places(NamedTuple):
    """Pairs (position among the parameters, index) of what each name was resolved to; those of steps by field."""

    columns: list[tuple[int, int]]
    steps: dict[str, list[tuple[int, int]]]
    proposed: list[tuple[int, int]]

    def resolve(self, position: int, name: str, spec: PolicySpec) -> None:
        source, _, rest = name.partition(":")
        if source == "request" and rest in spec.request_columns:
            self.columns.append((position, spec.request_columns.index(rest)))
        elif source == "proposed" and rest.isdecimal() and int(rest) < len(spec.actions.names):
            self.proposed.append((position, int(rest)))
        elif source == "sequence" and rest.count(":last:") == 1:
            field, _, index = rest.partition(":last:")
            self._resolve_step(position, name, field, index, spec)
        else:
            raise _unknown(name, spec)

    def _resolve_step(self, position: int, name: str, field: str, index: str, spec: PolicySpec) -> None:
        widths = {sequence.name: sequence.width for sequence in spec.sequence_fields}
        if not index.isdecimal() or int(index) >= widths.get(field, 0):
            raise _unknown(name, spec)
        self.steps.setdefault(field, []).append((position, int(index)))


def _split(pairs: list[tuple[int, int]]) -> Split:
    """Return pairs as two arrays, which index faster than lists do.

    >>> _split([(0, 2), (4, 1)])
    (array([0, 4]), array([2, 1]))
    """
    positions, indices = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    return positions, indices


def _copy(places: Split, source: NDArray[Any], target: NDArray[np.float64]) -> None:
    if source.shape[0] != target.shape[0]:
        raise ValueError(f"expected {target.shape[0]} rows of each array, found {source.shape[0]}")
    positions, indices = places
    target[:, positions] = source[:, indices]


def _last_steps(field: str, parameters: Parameters) -> NDArray[np.float64]:
    """Return the last step of each row's sequence, float64 [B, W]; NaN where there is none."""
    last = np.asarray(parameters[f"sequence_{field}"], dtype=np.float64)[:, -1, :]
    length = parameters.get(f"length_{field}")
    return last if length is None else np.where(np.asarray(length)[:, None] > 0, last, np.nan)


def _unknown(name: str, spec: PolicySpec) -> RecourseRefused:
    sequences = ", ".join(f"{field.name} (width {field.width})" for field in spec.sequence_fields) or "none"
    return RecourseRefused(
        f"recourse parameter {name!r}: expected request:COLUMN, sequence:FIELD:last:INDEX or proposed:INDEX of the "
        f"spec of {spec.domain!r}; it has the columns {', '.join(spec.request_columns) or 'none'}, the sequences "
        f"{sequences} and {len(spec.actions.names)} components of the quantity; export the recourse with this spec"
    )
