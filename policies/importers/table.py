"""Read a log kept as a plain table, CSV or Parquet: action, propensity, reward and the columns the policy saw.

`reward` is one goal, `reward_<name>` one of several. `request_id`, `unit`, `time` and `step` are taken where they are
there; every other column is context: texts are a category, numbers a number.
"""

# N row

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from policies.arrow import arrow, numbers, texts, times
from policies.assemble import assemble
from policies.columns import Columns, Values
from policies.errors import ContentRefused
from policies.events import microseconds
from policies.importers.inference import domain_of, infer_field, training_rows
from policies.importers.lines import read_rows
from policies.log import Feedback, Numbers, Places
from policies.spec import ActionSet, PolicySpec, Reward

_RESERVED: Final = {"", "action", "propensity", "request_id", "unit", "unit_hash", "time", "step", "slot"}
_NOT_SEEN: Final = {"p_eval", "q_logged", "q_pi", "propensity_floor", "policy", "role", "fallback", "probabilities"}
_CONTEXT: Final = "context_"
_REWARD: Final = "reward_"
_IDS: Final = frozenset({"action", "request_id", "unit"})
_LARGEST_WHOLE: Final = 2.0**53  # above it a float is no longer every whole number: ids would run together
_NULLS: Final = frozenset({"", "NA", "NaN", "nan", "null", "None"})

Column = NDArray[Any]


class UnableToImportTable(ContentRefused):
    """A table is not a log: a column is missing, or holds what it must not."""


def import_table(source: Path, *, train_share: float | None = None) -> Feedback:
    """Read a CSV (with a header) or a Parquet file as a log of choices among the actions that it names.

    Rows without a time are taken to be in order of time; without a unit, each is one.

    Raises:
        UnableToImportTable: a column is missing, or a value is not what it must be; the message names it.
        UnableToReadRows: a CSV is not one.
        UnableToUseParquet: a Parquet file needs pyarrow.
    """
    columns = _read_parquet(source) if source.suffix in (".parquet", ".pq") else _read_csv(source)
    rewards = {_reward_name(name): _numbers(source, name, columns) for name in columns if _is_reward(name)}
    _check_names(source, columns, rewards)
    count = len(columns["action"])
    actions = _texts(source, "action", columns)
    request_ids = (
        _texts(source, "request_id", columns) if "request_id" in columns else [str(row) for row in range(count)]
    )
    moments = _times(source, columns["time"]) if "time" in columns else np.arange(count, dtype=np.int64)
    rows = training_rows(moments, request_ids, train_share=train_share)
    seen = {name.removeprefix(_CONTEXT): values for name, values in columns.items() if _is_context(name)}
    spec = PolicySpec(
        domain=domain_of(source.stem),
        fields=tuple(infer_field(name, values, rows=rows) for name, values in seen.items()),
        actions=ActionSet(kind="choice", ids=tuple(sorted(set(actions), key=_natural)), fallback="first"),
        rewards=tuple(Reward(name=name) for name in rewards),
    )
    request: dict[str, Values] = {**seen}
    return assemble(
        spec,
        columns=Columns(count=count, request=request),
        request_ids=request_ids,
        actions=list(actions),
        propensity=_numbers(source, "propensity", columns),
        rewards=rewards,
        units=_texts(source, "unit", columns) if "unit" in columns else None,
        steps=_steps(source, columns) if "step" in columns else None,
        times=moments,
        propensity_floor=_numbers(source, "propensity_floor", columns) if "propensity_floor" in columns else None,
    )


def _is_reward(name: str) -> bool:
    return name == "reward" or name.startswith(_REWARD)


def _reward_name(name: str) -> str:
    return name.removeprefix(_REWARD)


def _is_context(name: str) -> bool:
    return not (name in _RESERVED | _NOT_SEEN or _is_reward(name) or name.startswith("status_"))


def _natural(action: str) -> tuple[int, str]:
    """Order whole numbers by value, before all other texts."""
    return (int(action), "") if action.isascii() and action.isdigit() else (1 << 62, action)


def _check_names(source: Path, columns: dict[str, Column], rewards: dict[str, Numbers]) -> None:
    missing = [name for name in ("action", "propensity") if name not in columns]
    missing += [] if rewards else ["reward (or reward_<name>)"]
    if missing:
        hint = " A missing propensity is never taken as 1." if "propensity" in missing else ""
        raise UnableToImportTable(f"{source}: missing columns: {', '.join(missing)}; found {', '.join(columns)}.{hint}")
    if not len(columns["action"]):
        raise UnableToImportTable(f"{source}: expected rows, found none")


def _read_csv(source: Path) -> dict[str, Column]:
    rows = read_rows(source)
    if not rows:
        raise UnableToImportTable(f"{source}: expected a header, found an empty file")
    wrong = next((line for line, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if wrong is not None:
        raise UnableToImportTable(
            f"{source}: expected {len(rows[0])} values in each line, found {len(rows[wrong])} in line {wrong + 1}"
        )
    cells = zip(*rows[1:], strict=True) if len(rows) > 1 else [()] * len(rows[0])
    return {
        name.strip(): _guess([cell.strip() for cell in column], is_id=name.strip() in _IDS)
        for name, column in zip(rows[0], cells, strict=True)
    }


def _guess(cells: list[str], *, is_id: bool) -> Column:
    """Return numbers where every cell is one or empty, float64 [N], else texts, object [N]; large ids are texts."""
    words = np.array([None if cell in _NULLS else cell for cell in cells], dtype=object)
    try:
        found = np.array([np.nan if cell is None else float(cell) for cell in words.tolist()], dtype=np.float64)
    except ValueError:
        return words
    return words if is_id and bool((np.abs(found) >= _LARGEST_WHOLE).any()) else found


def _read_parquet(source: Path) -> dict[str, Column]:
    reader = arrow("pyarrow.parquet")
    try:
        table = reader.read_table(source, partitioning=None)
    except arrow("pyarrow.lib").ArrowException as error:
        raise UnableToImportTable(f"{source}: expected a Parquet file, found {error}") from error
    kinds = arrow().types
    columns: dict[str, Column] = {}
    for name in table.column_names:
        kind = table[name].type
        if kinds.is_nested(kind):
            if name not in _NOT_SEEN:
                raise UnableToImportTable(
                    f"{source}: column {name} holds {kind}; lists need a spec: use --format feedback"
                )
        elif kinds.is_timestamp(kind):
            columns[name] = times(table[name], name=name).astype(np.float64)
        elif _is_text(kind) or (name in _IDS and kinds.is_integer(kind)):
            columns[name] = texts(table[name], name=name)
        else:
            columns[name] = numbers(table[name], name=name)
    return columns


def _is_text(kind: Any) -> bool:
    kinds = arrow().types
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_dictionary(kind))


def _numbers(source: Path, name: str, columns: dict[str, Column]) -> Numbers:
    values = columns[name]
    if values.dtype == object:
        row = next((row for row, value in enumerate(values.tolist()) if not _is_number(value)), 0)
        raise UnableToImportTable(f"{source}: {name} must hold numbers, found {values[row]!r} in row {row}")
    return values


def _steps(source: Path, columns: dict[str, Column]) -> Places:
    values = _numbers(source, "step", columns)
    wrong = ~(np.isfinite(values) & (values >= 0) & (values == np.floor(values)))
    if wrong.any():
        row = int(wrong.argmax())
        raise UnableToImportTable(f"{source}: step must be a whole number from 0, found {values[row]} in row {row}")
    return values.astype(np.int64)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _texts(source: Path, name: str, columns: dict[str, Column]) -> list[str]:
    """Return ids as texts; whole numbers are written without a point."""
    values: list[Any] = columns[name].tolist()
    if columns[name].dtype != object:
        values = [_id_of(value) for value in values]
    if None in values:
        raise UnableToImportTable(f"{source}: {name} must not be empty, found nothing in row {values.index(None)}")
    return values


def _times(source: Path, values: Column) -> Places:
    try:
        if values.dtype == object:
            return np.array([microseconds(value) for value in values.tolist()], dtype=np.int64)
        if np.isfinite(values).all():
            return values.astype(np.int64)
    except (ValueError, TypeError) as error:
        raise UnableToImportTable(f"{source}: time must be microseconds or ISO-8601: {error}") from error
    row = int((~np.isfinite(values)).argmax())
    raise UnableToImportTable(f"{source}: time must not be empty, found nothing in row {row}")


def _id_of(value: float) -> str | None:
    if value != value:
        return None
    return str(int(value)) if value.is_integer() else str(value)
