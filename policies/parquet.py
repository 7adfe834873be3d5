"""Feedback on disk: Parquet with one row per choice, in the columns that the reference of formats names.

A log of our own and a foreign one are read alike: a foreign one needs action, propensity and one reward, and takes
defaults for the rest. Unknown columns are left alone; missing ones are named.
"""

# N row, V eligible actions of all rows end to end

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.arrow import (
    arrow,
    integers,
    list_array,
    lists,
    number_array,
    numbers,
    text_array,
    texts,
    times,
    vector_array,
    write_table,
)
from policies.assemble import assemble, canonical_order
from policies.cells import cells_of, slot_places
from policies.choose import unit_hashes
from policies.columns import Values
from policies.errors import ContentRefused
from policies.gather import gather
from policies.log import DEFAULT, PENDING, RETRACTED, Feedback, LogNotFound, Ragged, pick
from policies.spec import Field, PolicySpec, read_spec, spec_path_of

_DISTINCT = {"request_id", "unit", "time"}
_COLUMNS = {"request_id", "slot", "time", "unit", "unit_hash", "step", "eligible", "policy", "role", "fallback"} | {
    *("action", "action_value", "applied_action", "applied_value"),
    *("propensity", "probabilities", "propensity_floor"),
}
_STATUSES = {PENDING, RETRACTED, DEFAULT, None}
_ROLES = {"live", "canary", "shadow"}


class UnableToReadFeedback(ContentRefused):
    """A Parquet file is not a feedback log: a column is missing, or holds what it must not."""


def write_feedback(feedback: Feedback, path: Path) -> None:
    """Write feedback as zstd Parquet, in one step: a temporary file beside it, then a rename.

    Raises:
        UnableToUseParquet: pyarrow is not installed.
    """
    write_table(arrow().table(_columns(feedback)), path)


def _columns(feedback: Feedback) -> dict[str, Any]:
    spec, rows = feedback.spec, feedback.request_rows
    request = feedback.columns.request
    columns = {
        "request_id": text_array(feedback.request_ids),
        "slot": text_array(feedback.slots),
        "time": arrow().array(feedback.times),
        "unit": text_array(feedback.units),
        "unit_hash": arrow().array(feedback.unit_hashes),
        "step": arrow().array(feedback.steps),
        **{f"context_{f.name}": _field_array(f, pick(request[f.name], rows)) for f in spec.on("request")},
        **_action_columns(feedback),
        **_slot_columns(feedback),
        "action": text_array(feedback.actions),
        "action_value": _vectors(feedback.action_values, len(feedback)),
        "applied_action": text_array(feedback.applied_actions or [None] * len(feedback)),
        "applied_value": _vectors(feedback.applied_values, len(feedback)),
        "propensity": number_array(feedback.propensity),
        "probabilities": _ragged(feedback.probabilities, len(feedback)),
        "propensity_floor": number_array(feedback.propensity_floor),
    }
    for name, values in feedback.rewards.items():
        columns[f"reward_{name}"] = number_array(values)
        columns[f"status_{name}"] = text_array(feedback.statuses[name])
    columns["policy"] = text_array(feedback.policies)
    columns["role"] = text_array(feedback.roles)
    columns["fallback"] = text_array(feedback.fallbacks)
    return columns


def _action_columns(feedback: Feedback) -> dict[str, Any]:
    if feedback.spec.is_quantity:
        return {"eligible": vector_array([None] * len(feedback)).cast(arrow().list_(arrow().string()))}
    cells = cells_of(feedback)
    is_null = cells.lengths == 0
    columns = {"eligible": list_array(cells.lengths, text_array(cells.ids), is_null=is_null)}
    table = feedback.columns.actions
    if table is None or cells.places is None:
        return columns
    for field in feedback.spec.on("action"):
        if field.name in table.fields:
            values = _field_array(field, pick(table.fields[field.name], cells.places))
            columns[f"action_{field.name}"] = list_array(cells.lengths, values, is_null=is_null)
    return columns


def _slot_columns(feedback: Feedback) -> dict[str, Any]:
    table = feedback.columns.slots
    if table is None:
        return {}
    places = slot_places(feedback)
    columns = {}
    for field in feedback.spec.on("slot"):
        if field.name in table.fields:
            values = table.fields[field.name]
            picked = [None if place < 0 else values[place] for place in places.tolist()]
            columns[f"slot_{field.name}"] = _field_array(field, picked)
    return columns


def _field_array(field: Field, values: Values) -> Any:
    if field.is_category:
        return text_array(list(values))
    if field.steps is not None:
        inner = arrow().float64() if field.width == 1 else arrow().list_(arrow().float64())
        rows = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
        return arrow().array(rows, type=arrow().list_(inner))
    return number_array(values) if field.width == 1 else vector_array(values)


def _vectors(values: NDArray[np.float64] | None, count: int) -> Any:
    return vector_array([None] * count if values is None else values)


def _ragged(values: Ragged | None, count: int) -> Any:
    if values is None:
        return vector_array([None] * count)
    return list_array(values.lengths, number_array(values.values), is_null=values.lengths == 0)


def read_feedback(path: Path, *, spec: PolicySpec | None = None) -> Feedback:
    """Read a log and check every row once; without a spec, the one beside the log is read.

    Raises:
        LogNotFound, SpecNotFound: there is no such file.
        UnableToReadFeedback: a column is missing, of another kind, or some row's value is not what it must be; the
            message names column, row and value.
        UnableToUseParquet: pyarrow is not installed.
    """
    if not path.exists():
        raise LogNotFound(f"expected a log at {path}: there is no such file")
    file = _open(path)  # first, so that a base install is told of its missing extra before anything else
    spec = read_spec(spec_path_of(path)) if spec is None else spec
    _check_names(path, file.schema_arrow.names, spec)
    table = _read(path, file, _known(file.schema_arrow.names, spec))
    if not table.num_rows:
        raise UnableToReadFeedback(f"{path}: expected at least one row, found none")
    try:
        return feedback_of_table(table, spec=spec)
    except ContentRefused as error:
        raise UnableToReadFeedback(f"{path}: {error}") from error


def feedback_of_table(table: Any, *, spec: PolicySpec) -> Feedback:
    """Make feedback of an Arrow table in the columns of a log.

    Raises:
        ContentRefused: a column is of another kind, or some row's value is not what it must be.
    """
    columns = _Table(table)
    count = table.num_rows
    request_ids = columns.names("request_id")
    slots = columns.names("slot")
    units = request_ids if columns.is_same("unit", "request_id") else columns.names("unit")
    actions: list[str | None] = [None] * count if spec.is_quantity else columns.texts("action")
    rewards = {r.name: columns.numbers(f"reward_{r.name}") for r in spec.rewards}
    probabilities = columns.ragged("probabilities")
    gathered = gather(table, spec=spec, request_ids=request_ids, slots=slots, probabilities=probabilities)
    statuses = {r.name: columns.statuses(f"status_{r.name}") for r in spec.rewards}
    return assemble(
        spec,
        columns=gathered.columns,
        request_ids=request_ids,
        request_rows=gathered.request_rows,
        slots=slots,
        units=units,
        hashes=None if units is None else columns.hashes(),
        steps=columns.integers("step"),
        times=times(table["time"], name="time") if "time" in columns else None,
        actions=actions,
        action_values=columns.vectors("action_value", spec),
        applied_actions=None if spec.is_quantity else columns.some_texts("applied_action"),
        applied_values=columns.vectors("applied_value", spec),
        propensity=columns.numbers("propensity"),
        probabilities=gathered.probabilities,
        propensity_floor=columns.numbers("propensity_floor"),
        rewards=rewards,
        statuses={name: values for name, values in statuses.items() if values is not None},
        policies=columns.texts("policy"),
        roles=columns.roles(),
        fallbacks=columns.texts("fallback"),
    )


def read_columns(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read some columns of a log as arrays [N]: numbers float64 (NaN for null), texts object.

    The rows are in the order in which `read_feedback` holds them, so that extra columns (p_eval, q_logged, q_pi) stand
    beside the feedback's rows.

    Raises:
        LogNotFound: there is no such file.
        UnableToReadFeedback: a column is missing, or holds neither numbers nor texts.
    """
    if not path.exists():
        raise LogNotFound(f"expected a log at {path}: there is no such file")
    file = _open(path)
    present = file.schema_arrow.names
    missing = [name for name in names if name not in present]
    if missing:
        raise UnableToReadFeedback(
            f"{path}: expected the columns {', '.join(names)}; missing: {', '.join(missing)}; "
            f"it has {', '.join(present)}"
        )
    keys = [name for name in ("request_id", "slot", "unit") if name in present]
    table = _read(path, file, list({*names, *keys}))
    try:
        order = _order_of(_Table(table), table.num_rows)
        return {name: _any_column(table[name], name)[order] for name in names}
    except ContentRefused as error:
        raise UnableToReadFeedback(f"{path}: {error}") from error


def _order_of(columns: "_Table", count: int) -> NDArray[np.int64]:
    request_ids = columns.names("request_id") or [str(row) for row in range(count)]
    units = columns.names("unit") or request_ids
    return canonical_order(unit_hashes(units), request_ids, columns.names("slot") or [""] * count)


def _any_column(column: Any, name: str) -> NDArray[Any]:
    types = arrow().types
    if types.is_dictionary(column.type) or types.is_string(column.type) or types.is_large_string(column.type):
        return texts(column, name=name)
    return numbers(column, name=name)


def _open(path: Path) -> Any:
    try:
        return arrow("pyarrow.parquet").ParquetFile(path)
    except (arrow("pyarrow.lib").ArrowException, OSError) as error:
        raise UnableToReadFeedback(f"{path}: expected a Parquet file, found {error}") from error


def _read(path: Path, file: Any, names: list[str]) -> Any:
    """Read some columns; texts that repeat stay dictionaries, which spares making each one anew."""
    paths = [file.schema.column(at) for at in range(len(file.schema))]
    repeated = [c.path for c in paths if c.physical_type == "BYTE_ARRAY" and c.path.split(".")[0] not in _DISTINCT]
    try:
        return arrow("pyarrow.parquet").read_table(path, columns=names, partitioning=None, read_dictionary=repeated)
    except (arrow("pyarrow.lib").ArrowException, OSError) as error:
        raise UnableToReadFeedback(f"{path}: expected a Parquet file, found {error}") from error


def _known(names: list[str], spec: PolicySpec) -> list[str]:
    wanted = {f"reward_{r.name}" for r in spec.rewards} | {f"status_{r.name}" for r in spec.rewards}
    wanted |= {f"{'context' if f.axis == 'request' else f.axis}_{f.name}" for f in spec.fields}
    return [name for name in names if name in wanted | _COLUMNS]


def _check_names(path: Path, names: list[str], spec: PolicySpec) -> None:
    needed = ["action_value"] if spec.is_quantity else ["action", "propensity"]
    needed += [f"context_{f.name}" for f in spec.on("request") if f.missing == "refuse"]
    if spec.has_own_actions:
        needed += ["eligible", *(f"action_{f.name}" for f in spec.on("action") if f.missing == "refuse")]
    if spec.has_slots:
        needed += ["request_id", "slot", *(f"slot_{f.name}" for f in spec.on("slot") if f.missing == "refuse")]
    missing = [name for name in needed if name not in names]
    if spec.rewards and not any(f"reward_{r.name}" in names for r in spec.rewards):
        missing.append(" or ".join(f"reward_{r.name}" for r in spec.rewards))
    if missing:
        hint = " A missing propensity is never taken as 1." if "propensity" in missing else ""
        raise UnableToReadFeedback(f"{path}: missing columns: {', '.join(missing)}; found {', '.join(names)}.{hint}")


def _first_null(values: Sequence[str | None]) -> int:
    return list(values).index(None)


class _Table:
    """Reads the columns of one Arrow table, each with its default where it is absent."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self._present = set(table.column_names)

    def __contains__(self, name: str) -> bool:
        return name in self._present

    def texts(self, name: str) -> list[str | None]:
        return self.some_texts(name) or [None] * self._table.num_rows

    def some_texts(self, name: str) -> list[str | None] | None:
        """Return a column of texts; None where it is absent or all null."""
        if name not in self or self._table[name].null_count == self._table.num_rows:
            return None
        found: list[str | None] = texts(self._table[name], name=name).tolist()
        return found

    def names(self, name: str) -> list[str] | None:
        """Return a column of ids without nulls; None where it is absent."""
        if name not in self:
            return None
        found: list[str] = texts(self._table[name], name=name).tolist()
        if self._table[name].null_count:
            raise UnableToReadFeedback(f"{name} must not be null, found null in row {_first_null(found)}")
        return found

    def is_same(self, one: str, other: str) -> bool:
        return one in self and other in self and bool(self._table[one].equals(self._table[other]))

    def numbers(self, name: str) -> NDArray[np.float64]:
        return numbers(self._table[name], name=name) if name in self else np.full(self._table.num_rows, np.nan)

    def integers(self, name: str) -> NDArray[np.int64] | None:
        return integers(self._table[name], name=name) if name in self else None

    def hashes(self) -> NDArray[np.uint64] | None:
        """Return the hashes of the units that the log carries; None where it carries none."""
        if "unit_hash" not in self or self._table["unit_hash"].type != arrow().uint64():
            return None
        if self._table["unit_hash"].null_count:
            return None
        found: NDArray[np.uint64] = self._table["unit_hash"].to_numpy()
        return found

    def ragged(self, name: str) -> Ragged | None:
        if name not in self or self._table[name].null_count == self._table.num_rows:
            return None
        column = lists(self._table[name], name=name)
        return Ragged(lengths=column.lengths, values=numbers(column.values, name=name))

    def vectors(self, name: str, spec: PolicySpec) -> NDArray[np.float64] | None:
        if not spec.is_quantity or name not in self or self._table[name].null_count == self._table.num_rows:
            return None
        column = lists(self._table[name], name=name)
        size = len(spec.actions.names)
        wrong = (column.lengths != size) & ~column.is_null
        if wrong.any():
            row = int(wrong.argmax())
            raise UnableToReadFeedback(f"{name} must have {size} values, found {column.lengths[row]} in row {row}")
        rows = np.full((len(wrong), size), np.nan)
        rows[~column.is_null] = numbers(column.values, name=name).reshape(-1, size)
        return rows

    def statuses(self, name: str) -> list[str | None] | None:
        return self._among(name, _STATUSES)

    def roles(self) -> list[str] | None:
        found = self._among("role", _ROLES)
        return None if found is None else [role or "live" for role in found]

    def _among(self, name: str, allowed: set[Any]) -> list[str | None] | None:
        if name not in self:
            return None
        found = self.texts(name)
        wrong = set(found) - allowed - {None}
        if wrong:
            row = next(row for row, value in enumerate(found) if value in wrong)
            words = ", ".join(sorted(filter(None, allowed)))
            raise UnableToReadFeedback(f"{name} must be one of {words}, found {found[row]!r} in row {row}")
        return found
