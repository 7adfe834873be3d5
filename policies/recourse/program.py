"""A linear program whose bounds and costs are affine in a few parameters, as plain arrays.

    minimize    (cost + cost_map z) · x
    subject to  row_lower + row_map z ≤ matrix x ≤ row_upper + row_map z
                column_lower + column_lower_map z ≤ x ≤ column_upper + column_upper_map z

z holds the parameters of one request, in the order of `parameters` (their forms: `parameters.py`). The matrix never
changes. Readouts say what is reported of the optimum. The keys of `to_arrays` are the keys of `recourse.npz`; a sparse
`NAME` [R, P] is kept by compressed rows as `NAME_indptr` [R + 1], `NAME_indices` and `NAME_data`.

Duals follow HiGHS: `row_dual` is the derivative of the least cost by a row's right-hand side, `column_dual` by a bound
that holds a column.
"""

# B batch, P parameter, n column, m row, K component of one output, E touched entry

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from policies.recourse.arrays import floats, integers, words
from policies.recourse.contract import RecourseRefused

Source = Literal["column", "row_dual", "column_dual", "objective"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

_MAPS = ("row_map", "column_lower_map", "column_upper_map", "cost_map")
_BASIS_STATUSES = 5  # HiGHS: at lower, basic, at upper, zero, nonbasic
_BASIC = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Sparse:
    """Hold a matrix by compressed rows: row r has columns indices[indptr[r]:indptr[r + 1]]."""

    indptr: Integers
    indices: Integers
    data: Floats

    @staticmethod
    def empty(rows: int) -> "Sparse":
        """Return the zero matrix of so many rows."""
        return Sparse(indptr=np.zeros(rows + 1, np.int32), indices=np.zeros(0, np.int32), data=np.zeros(0))

    @staticmethod
    def from_entries(rows: int, entries: list[tuple[int, int, float]]) -> "Sparse":
        """Return the matrix of (row, column, value) entries.

        Raises:
            ValueError: a place comes twice.
        """
        ordered = sorted(entries)
        if len({entry[:2] for entry in ordered}) < len(ordered):
            raise ValueError("a place of a sparse matrix is given twice")
        counts = np.bincount(np.array([row for row, _, _ in ordered], dtype=np.int64), minlength=rows)
        return Sparse(
            indptr=np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
            indices=np.array([column for _, column, _ in ordered], dtype=np.int32),
            data=np.array([value for _, _, value in ordered], dtype=np.float64),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout:
    """Say how one output is read from the optimum: source[indices] × scale, [K]; `objective` has no indices, K = 1."""

    name: str
    source: Source
    indices: Integers
    scale: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class ParametricProgram:
    """Hold the program of n columns, m rows and P parameters.

    applied_columns: [N] the columns whose values are the applied action; empty where the proposal itself is applied
    (then the program must hold it hard). basis_columns [n], basis_rows [m]: the statuses that each solve starts from.
    """

    cost: Floats
    column_lower: Floats
    column_upper: Floats
    row_lower: Floats
    row_upper: Floats
    matrix: Sparse
    row_map: Sparse
    column_lower_map: Sparse
    column_upper_map: Sparse
    cost_map: Sparse
    parameters: tuple[str, ...]
    readouts: tuple[Readout, ...]
    applied_columns: Integers
    basis_columns: Integers
    basis_rows: Integers

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of `recourse.npz`; maps without entries are left out."""
        names = ("cost", "column_lower", "column_upper", "row_lower", "row_upper", "applied_columns")
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in names}
        arrays |= {name: getattr(self, name).astype(np.int8) for name in ("basis_columns", "basis_rows")}
        arrays |= {"kind": np.array("linear"), "parameters": _texts(self.parameters)}
        arrays |= _sparse_arrays("matrix", self.matrix) | _readout_arrays(self.readouts)
        for name in _MAPS:
            if getattr(self, name).data.size:
                arrays |= _sparse_arrays(name, getattr(self, name))
        return arrays

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> "ParametricProgram":
        """Read the program from the arrays of `recourse.npz`.

        Raises:
            RecourseRefused: an array is absent, of another shape, out of range, or bounds cross.
        """
        n, m = floats(arrays, "cost").size, floats(arrays, "row_lower").size
        names = words(arrays, "parameters")
        rows_of = {"row_map": m, "column_lower_map": n, "column_upper_map": n, "cost_map": n}
        maps = {name: _read_map(arrays, name, rows=rows, columns=len(names)) for name, rows in rows_of.items()}
        program = ParametricProgram(
            cost=floats(arrays, "cost"),
            column_lower=floats(arrays, "column_lower", n),
            column_upper=floats(arrays, "column_upper", n),
            row_lower=floats(arrays, "row_lower"),
            row_upper=floats(arrays, "row_upper", m),
            matrix=_read_sparse(arrays, "matrix", rows=m, columns=n),
            parameters=names,
            readouts=_read_readouts(arrays, columns=n, rows=m),
            applied_columns=integers(arrays, "applied_columns", below=n),
            basis_columns=integers(arrays, "basis_columns", n, below=_BASIS_STATUSES),
            basis_rows=integers(arrays, "basis_rows", m, below=_BASIS_STATUSES),
            **maps,
        )
        _check_finite(program)
        _check_basis(program)
        return program


class Affine:
    """Evaluate some entries of base + map z for a batch.

    Products are added one by one, never as a matrix product: the bits of a row are the same in any batch.

    >>> twice_first_plus_second = Sparse.from_entries(3, [(1, 0, 2.0), (1, 1, 1.0)])
    >>> affine = Affine(np.array([9.0, 1.0, 9.0]), twice_first_plus_second, entries=np.array([1], dtype=np.int32))
    >>> affine.evaluate(np.array([[3.0, 4.0]]))
    array([[11.]])
    """

    def __init__(self, base: Floats, one: Sparse, *, entries: Integers) -> None:
        self._base_E = base[entries]
        counts = np.diff(one.indptr)[entries]
        self._levels: list[tuple[NDArray[np.intp] | slice, Integers, Floats]] = []
        for level in range(int(counts.max(initial=0))):
            places = np.flatnonzero(counts > level)
            at = one.indptr[entries[places]] + level
            is_all = places.size == entries.size  # a slice is added to in place, which costs a third
            self._levels.append((slice(None) if is_all else places, one.indices[at], one.data[at]))

    def evaluate(self, z_BP: Floats) -> Floats:
        """Return the entries of base + map z, [B, E] float64 in C order."""
        values_BE = np.repeat(self._base_E[None, :], z_BP.shape[0], axis=0)
        for places, indices, data in self._levels:
            values_BE[:, places] += data * z_BP[:, indices]
        return values_BE


def touched(*maps: Sparse) -> Integers:
    """Return the rows that have an entry in any of the maps, ascending, int32."""
    return np.flatnonzero(np.any([np.diff(one.indptr) > 0 for one in maps], axis=0)).astype(np.int32)


def _texts(texts: tuple[str, ...]) -> NDArray[Any]:
    return np.array(texts, dtype=np.str_) if texts else np.zeros(0, "<U1")


def _sparse_arrays(name: str, sparse: Sparse) -> dict[str, NDArray[Any]]:
    return {f"{name}_indptr": sparse.indptr, f"{name}_indices": sparse.indices, f"{name}_data": sparse.data}


def _readout_arrays(readouts: tuple[Readout, ...]) -> dict[str, NDArray[Any]]:
    sizes = [readout.scale.size for readout in readouts]
    indices = [readout.indices if readout.source != "objective" else np.zeros(1, np.int32) for readout in readouts]
    return {
        "output_names": _texts(tuple(readout.name for readout in readouts)),
        "output_sources": _texts(tuple(readout.source for readout in readouts)),
        "output_indptr": np.concatenate(([0], np.cumsum(sizes))).astype(np.int32),
        "output_indices": np.concatenate([np.zeros(0, np.int32), *indices]).astype(np.int32),
        "output_scale": np.concatenate([np.zeros(0), *(readout.scale for readout in readouts)]),
    }


def _read_map(arrays: Mapping[str, NDArray[Any]], name: str, *, rows: int, columns: int) -> Sparse:
    if f"{name}_data" not in arrays:
        return Sparse.empty(rows)
    return _read_sparse(arrays, name, rows=rows, columns=columns)


def _read_sparse(arrays: Mapping[str, NDArray[Any]], name: str, *, rows: int, columns: int) -> Sparse:
    data = floats(arrays, f"{name}_data")
    indices = integers(arrays, f"{name}_indices", data.size, below=columns)
    indptr = integers(arrays, f"{name}_indptr", rows + 1, below=data.size + 1)
    _check_pointers(name, indptr, data.size)
    if not np.isfinite(data).all():
        raise RecourseRefused(f"recourse array '{name}_data': expected finite numbers, found an infinity")
    return Sparse(indptr=indptr, indices=indices, data=data)


def _check_pointers(name: str, indptr: Integers, size: int) -> None:
    if indptr[0] != 0 or indptr[-1] != size or (np.diff(indptr) < 0).any():
        raise RecourseRefused(
            f"recourse array '{name}_indptr': expected to rise from 0 to {size}, found {indptr.tolist()}"
        )


def _read_readouts(arrays: Mapping[str, NDArray[Any]], *, columns: int, rows: int) -> tuple[Readout, ...]:
    names = words(arrays, "output_names")
    sources = words(arrays, "output_sources", len(names))
    scale = floats(arrays, "output_scale")
    indices = integers(arrays, "output_indices", scale.size, below=max(columns, rows))
    indptr = integers(arrays, "output_indptr", len(names) + 1, below=scale.size + 1)
    _check_pointers("output", indptr, scale.size)
    bounds = zip(names, sources, indptr[:-1], indptr[1:], strict=True)
    limits = {"column": columns, "column_dual": columns, "row_dual": rows, "objective": 1}
    return tuple(_read_readout(name, source, indices[a:b], scale[a:b], limits) for name, source, a, b in bounds)


def _read_readout(name: str, source: str, indices: Integers, scale: Floats, limits: dict[str, int]) -> Readout:
    if source not in limits:
        raise RecourseRefused(f"recourse output {name!r}: expected a source of {get_args(Source)}, found {source!r}")
    if indices.max(initial=0) >= limits[source] or (source == "objective" and indices.size != 1):
        raise RecourseRefused(
            f"recourse output {name!r}: {source} has {limits[source]} entries, found {indices.tolist()}"
        )
    return Readout(name=name, source=cast("Source", source), indices=indices, scale=scale)


def _check_basis(program: ParametricProgram) -> None:
    """HiGHS completes a basis of the wrong size by a guess; a digest would then say less than it seems to."""
    basic = int((program.basis_columns == _BASIC).sum() + (program.basis_rows == _BASIC).sum())
    if basic != program.row_lower.size:
        raise RecourseRefused(
            f"recourse arrays 'basis_columns', 'basis_rows': expected {program.row_lower.size} basic, found {basic}"
        )


def _check_finite(program: ParametricProgram) -> None:
    if not np.isfinite(program.cost).all():
        raise RecourseRefused("recourse array 'cost': expected finite numbers, found an infinity")
    pairs = (("column", program.column_lower, program.column_upper), ("row", program.row_lower, program.row_upper))
    for side, lower, upper in pairs:
        if (lower > upper).any():
            at = int((lower > upper).argmax())
            raise RecourseRefused(f"recourse {side} {at}: lower {lower[at]} exceeds upper {upper[at]}")
