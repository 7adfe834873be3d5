"""Which policy is asked about: an artifact, `uniform`, a table of probabilities, the log itself, or its own columns."""

# A action, V value of a field, N row

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from policies.errors import ContentRefused, UsageProblem
from policies.evaluation.scored import whole_numbers
from policies.policy import Policy, TablePolicy, UnableToUseTable, UniformPolicy
from policies.spec import Field, PolicySpec

Kind = Literal["artifact", "uniform", "logged", "columns", "table"]

_WORDS: Final[Mapping[str, Kind]] = {"uniform": "uniform", "logged": "logged", "columns": "columns"}
_TABLE: Final = "table:"
_SUM_TOLERANCE: Final = 1e-6


class UnableToReadTable(ContentRefused):
    """A file of probabilities is not one: cells that are none, or sums that are not one."""


class UnableToFindTarget(UsageProblem):
    """A target names neither a known word, nor a table, nor a folder that holds an artifact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Say where a target's probabilities come from; `field` is the request field that a table depends on."""

    kind: Kind
    path: Path | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Name a policy to be evaluated."""

    name: str
    reference: Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityTable:
    """Hold probabilities float64 [V, A], one row per code of a field (one row without); rows sum to one.

    `is_given` bool [V] says which codes the file names: a request with another one has no probabilities.
    """

    rows: NDArray[np.float64]
    is_given: NDArray[np.bool_]
    field: str | None


def parse_reference(text: str) -> Reference:
    """Read a target's REF: `uniform`, `logged`, `columns`, `table:CSV`, `table:CSV@FIELD` or an artifact's folder.

    >>> parse_reference("uniform").kind
    'uniform'

    Raises:
        UnableToFindTarget: a table without a file, or a folder that is not there or holds no manifest.
    """
    if text in _WORDS:
        return Reference(kind=_WORDS[text])
    if text.startswith(_TABLE):
        return _parse_table(text.removeprefix(_TABLE))
    folder = Path(text)
    if not (folder / "manifest.json").is_file():
        words = ", ".join(_WORDS)
        raise UnableToFindTarget(
            f"expected a target of {words}, table:CSV, table:CSV@FIELD or an artifact's folder (one with a "
            f"manifest.json), found {text!r}"
        )
    return Reference(kind="artifact", path=folder)


def policy_of(reference: Reference, *, spec: PolicySpec) -> Policy:
    """Make the policy that proposes probabilities for a log of that spec.

    Raises:
        ArtifactRefused: the folder's artifact does not pass a gate.
        UnableToUseTable: the table does not fit the spec.
        ValueError: the reference has no policy (`logged` and `columns` are read off the log).
    """
    if reference.kind == "uniform":
        return UniformPolicy(spec)
    if reference.kind == "table":
        return _Table(spec, read_table(reference, spec=spec))
    if reference.kind == "artifact" and reference.path is not None:
        from policies.artifact import load_artifact  # imports onnxruntime, which most questions do without

        return load_artifact(reference.path).policy
    raise ValueError(f"{reference.kind!r} is read off the log, it is no policy")


def read_table(reference: Reference, *, spec: PolicySpec | None) -> ProbabilityTable:
    """Read the CSV of a `table:` reference; without a spec only a matrix (`table:CSV@FIELD`) can be read.

    Raises:
        UnableToReadTable: the file is not such a table.
        UnableToUseTable: it does not fit the spec.
    """
    assert reference.path is not None
    if reference.field is not None:
        return _read_matrix(reference.path, reference.field)
    if spec is None or spec.actions.ids is None:
        raise UnableToUseTable("a table of ids needs a spec with fixed action ids; use table:CSV@FIELD")
    return _read_long(reference.path, spec, spec.actions.ids)


def probabilities_at(
    table: ProbabilityTable, *, codes: NDArray[Any], actions: NDArray[Any], where: str
) -> NDArray[np.float64]:
    """Return the table's probability of each logged action: float64 [N].

    Args:
        table: of probabilities.
        codes: whole numbers [N], the field's code in each row.
        actions: whole numbers [N], the place of the logged action among the ids.
        where: what the codes are called in messages.

    Raises:
        UnableToUseTable: a column does not hold whole numbers.
        UnableToReadTable: a code or an action lies outside the table.
    """
    codes, actions = whole_numbers(codes), whole_numbers(actions)
    for name, values, size in ((where, codes, table.rows.shape[0]), ("action", actions, table.rows.shape[1])):
        if values.dtype.kind not in "iu":
            raise UnableToUseTable(f"column {name} must hold whole numbers to look up a table, found {values.dtype}")
        outside = (values < 0) | (values >= size)
        if outside.any():
            row = int(outside.argmax())
            raise UnableToReadTable(
                f"column {name} must lie in 0…{size - 1} (the table), found {values[row]} in row {row}"
            )
    found: NDArray[np.float64] = table.rows[codes, actions]
    return found


class _Table:
    """A table as a policy: it refuses requests whose code the file does not name."""

    def __init__(self, spec: PolicySpec, table: ProbabilityTable) -> None:
        self._policy = TablePolicy(spec, table.rows, field=table.field)
        self._is_given = table.is_given
        self._field = table.field
        self.spec = spec
        self.identity = self._policy.identity

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        proposed = self._policy.propose(arrays, mask)
        if self._field is not None and not self._is_given.all():
            codes = arrays["request"][:, self.spec.request_columns.index(self._field)].astype(np.int64)
            missing = ~self._is_given[codes]
            if missing.any():
                code = int(codes[missing.argmax()])
                raise UnableToUseTable(f"the table gives no probabilities for {self._field} with code {code}")
        return proposed


def _parse_table(rest: str) -> Reference:
    path, at, field = rest.rpartition("@")
    if not at or Path(rest).is_file():
        path, field = rest, ""
    if not Path(path).is_file():
        raise UnableToFindTarget(f"expected a table of probabilities at {path}, found no file there")
    return Reference(kind="table", path=Path(path), field=field or None)


def _read_matrix(path: Path, field: str) -> ProbabilityTable:
    lines = [line for line in _lines(path) if not line.startswith("#")]
    rows = [_numbers(cells, path, line) for line, cells in enumerate(csv.reader(lines), start=1)]
    if not rows or len({len(row) for row in rows}) != 1:
        raise UnableToReadTable(f"{path} must be a matrix: one row per id, one column per code of {field}")
    matrix = np.array(rows, dtype=np.float64).T
    _check_sums(matrix, path)
    return ProbabilityTable(rows=matrix, is_given=np.ones(len(matrix), dtype=bool), field=field)


def _read_long(path: Path, spec: PolicySpec, ids: tuple[str, ...]) -> ProbabilityTable:
    """Read lines of id, probability and at most one request field; an id that is not listed has probability zero."""
    reader = csv.reader(_lines(path))
    header = [name.strip().removeprefix("#").strip() for name in next(reader, [])]
    fields = [name for name in header if name not in ("id", "probability")]
    if not {"id", "probability"} <= set(header) or len(fields) > 1 or len(set(header)) != len(header):
        expected = "the columns id, probability and at most one request field"
        raise UnableToReadTable(f"{path} must have {expected}, found {header}")
    field = _flat_field(spec, fields[0]) if fields else None
    cells: dict[tuple[int, int], float] = {}
    places = {action: place for place, action in enumerate(ids)}
    for line, values in _records(reader, header, path):
        if values["id"] not in places:
            raise UnableToUseTable(f"{path}, line {line}: {values['id']!r} is not among the spec's action ids")
        key = (0 if field is None else _code(field, values[field.name], path, line), places[values["id"]])
        if key in cells:
            raise UnableToReadTable(f"{path}, line {line}: the probability of {values['id']!r} is given twice")
        cells[key] = _numbers([values["probability"]], path, line)[0]
    return _table_of(cells, ids, None if field is None else field.name, path)


def _table_of(
    cells: Mapping[tuple[int, int], float], ids: tuple[str, ...], field: str | None, path: Path
) -> ProbabilityTable:
    codes = sorted({code for code, _ in cells}) or [0]
    rows = np.zeros((codes[-1] + 1, len(ids)))
    is_given = np.zeros(len(rows), dtype=bool)
    is_given[codes] = True
    for key, probability in cells.items():
        rows[key] = probability
    _check_sums(rows[is_given], path)
    rows[~is_given] = 1.0 / len(ids)  # never proposed: a request with such a code is refused
    return ProbabilityTable(rows=rows, is_given=is_given, field=field)


def _records(reader: Iterator[list[str]], header: Sequence[str], path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for line, cells in enumerate(reader, start=2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise UnableToReadTable(f"{path}, line {line}: expected {len(header)} cells, found {len(cells)}")
        yield line, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}


def _flat_field(spec: PolicySpec, name: str) -> Field:
    for field in spec.flat_fields:
        if field.name == name and field.width == 1:
            return field
    raise UnableToUseTable(f"there is no single request field {name!r}; the spec has {', '.join(spec.request_columns)}")


def _code(field: Field, text: str, path: Path, line: int) -> int:
    """Return the code of a field's value: a word's place in the vocabulary (0 where empty), else the whole number."""
    if field.vocabulary is not None:
        if text and text not in field.vocabulary:
            raise UnableToUseTable(f"{path}, line {line}: {text!r} is not in the vocabulary of {field.name}")
        return field.vocabulary.index(text) + 1 if text else 0
    number = _numbers([text], path, line)[0]
    if number != int(number) or not 0 <= number <= max(field.uppers):
        raise UnableToUseTable(f"{path}, line {line}: {field.name} must be a whole number from 0, found {text!r}")
    return int(number)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnableToReadTable(f"expected a CSV of probabilities at {path}: {error}") from error


def _numbers(cells: Sequence[str], path: Path, line: int) -> list[float]:
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError as error:
        raise UnableToReadTable(f"{path}, line {line}: expected probabilities, found {list(cells)[:6]}") from error
    if any(not 0.0 <= number < float("inf") for number in numbers):
        raise UnableToReadTable(
            f"{path}, line {line}: numbers must be finite and not negative, found {list(cells)[:6]}"
        )
    return numbers


def _check_sums(rows: NDArray[np.float64], path: Path) -> None:
    off = np.abs(rows.sum(axis=1) - 1.0)
    if not rows.size or off.max() > _SUM_TOLERANCE:
        found = f"{rows.sum(axis=1)[off.argmax()]:.9g} for code {off.argmax()}" if rows.size else "no row"
        raise UnableToReadTable(f"{path}: probabilities must sum to 1 within {_SUM_TOLERANCE:g}, found {found}")
