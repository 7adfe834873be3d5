"""Read the Open Bandit Dataset's form: a CSV of impressions and, beside it, the items' features.

The data name neither a user nor a session (the hashed user features are no key), so the unit is the row. The CSV's
position is 1 to 3; ours is 0 to 2.

Source: Saito et al., Open Bandit Dataset and Pipeline, arXiv 2008.07146; the data set's own README.
"""

# N row, K item

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from policies.assemble import assemble
from policies.columns import Columns, TableColumns, Values
from policies.errors import ContentRefused, UsageProblem
from policies.events import microseconds
from policies.importers.inference import action_ids, category_field, number_field, training_rows
from policies.importers.lines import read_rows
from policies.log import Feedback, Numbers, Places
from policies.spec import ActionSet, Constant, Field, PolicySpec, Reward

DOMAIN: Final = "open_bandit"
POSITION_COUNT: Final = 3
_AFFINITY: Final = "user-item_affinity_"
_PROPENSITIES: Final = ("propensity_score", "action_prob")
_ITEMS: Final = "item_context.csv"


class UnableToImportObd(ContentRefused):
    """A CSV is not of the Open Bandit Dataset's form."""


class ObdNotFound(UsageProblem):
    """There is no CSV of impressions where one was expected."""


def import_obd(source: Path, *, train_share: float | None = None) -> Feedback:
    """Read a folder of the sample (random/men) or its CSV.

    Raises:
        ObdNotFound: there is no such CSV.
        UnableToImportObd: a column is missing, or a value is not what the data set's README says.
        UnableToReadRows: the CSV is not one.
    """
    path = _csv_of(source)
    columns = _read_csv(path)
    position = _position(path, columns)
    count = len(position)
    affinity = _affinity(path, columns)
    items = _items(path.with_name(_ITEMS))
    actions = _integers(path, columns, "item_id")
    ids = action_ids(actions, count=max(affinity.shape[1], len(next(iter(items.values()), []))))
    times = _times(path, columns)
    rows = training_rows(times, [str(row) for row in range(count)], train_share=train_share)
    users = {
        name: np.array(columns[name], dtype=object) for name in sorted(columns) if name.startswith("user_feature_")
    }
    spec = PolicySpec(
        domain=DOMAIN,
        fields=(
            Field(name="position", lower=0, upper=POSITION_COUNT - 1, outside="clip"),
            *(category_field(name, values, rows=rows) for name, values in users.items()),
            *_affinity_fields(affinity, rows),
            *_item_fields(items),
        ),
        actions=ActionSet(kind="choice", ids=ids, features=_features(path, items, len(ids)), fallback="first"),
        rewards=(Reward(name="click", units="clicks", lower=0, upper=1),),
    )
    return assemble(
        spec,
        columns=Columns(count=count, request={"position": position, **users}, actions=_table(affinity, ids)),
        actions=[ids[action] for action in actions.tolist()],
        propensity=_propensity(path, columns),
        rewards={"click": _numbers(path, columns, "click")},
        times=times,
    )


def _csv_of(source: Path) -> Path:
    if source.is_file():
        return source
    found = sorted(path for path in source.glob("*.csv") if path.name != _ITEMS)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ObdNotFound(f"expected one CSV of impressions in {source}, found {names}; name the file")
    return found[0]


def _read_csv(path: Path) -> dict[str, tuple[str, ...]]:
    rows = read_rows(path)
    if len(rows) < 2:
        raise UnableToImportObd(f"{path}: expected a header and rows, found {len(rows)} lines")
    short = next((line for line, row in enumerate(rows, start=1) if len(row) != len(rows[0])), None)
    if short is not None:
        raise UnableToImportObd(
            f"{path}: expected {len(rows[0])} values in each line, found {len(rows[short - 1])} in line {short}"
        )
    return dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))


def _numbers(path: Path, columns: dict[str, tuple[str, ...]], name: str) -> Numbers:
    if name not in columns:
        raise UnableToImportObd(
            f"{path}: expected a column {name}, found {', '.join(filter(None, list(columns)[:12]))}"
        )
    try:
        return np.array(columns[name], dtype=np.float64)
    except ValueError as error:
        raise UnableToImportObd(f"{path}: column {name} must hold numbers: {error}") from error


def _integers(path: Path, columns: dict[str, tuple[str, ...]], name: str) -> Places:
    values = _numbers(path, columns, name)
    wrong = ~np.isfinite(values) | (values < 0) | (values != np.floor(values))
    if wrong.any():
        row = int(wrong.argmax())
        raise UnableToImportObd(f"{path}: {name} must be a whole number from 0, found {values[row]} in row {row}")
    return values.astype(np.int64)


def _position(path: Path, columns: dict[str, tuple[str, ...]]) -> Numbers:
    """Return the position from 0, float64 [N]."""
    values = _integers(path, columns, "position")
    wrong = (values < 1) | (values > POSITION_COUNT)
    if wrong.any():
        row = int(wrong.argmax())
        raise UnableToImportObd(f"{path}: position must be 1 to {POSITION_COUNT}, found {values[row]} in row {row}")
    return (values - 1).astype(np.float64)


def _propensity(path: Path, columns: dict[str, tuple[str, ...]]) -> Numbers:
    name = next((name for name in _PROPENSITIES if name in columns), None)
    if name is None:
        raise UnableToImportObd(
            f"{path}: expected a column {' or '.join(_PROPENSITIES)}; a missing propensity is never taken as 1"
        )
    return _numbers(path, columns, name)


def _times(path: Path, columns: dict[str, tuple[str, ...]]) -> Places:
    if "timestamp" not in columns:
        return np.arange(len(columns["item_id"]), dtype=np.int64)
    try:
        return np.array([microseconds(text) for text in columns["timestamp"]], dtype=np.int64)
    except ValueError as error:
        raise UnableToImportObd(f"{path}: timestamp must be ISO-8601: {error}") from error


def _affinity(path: Path, columns: dict[str, tuple[str, ...]]) -> Numbers:
    """Return how often each row's user clicked each item before: float64 [N, K]; [N, 0] where the file says nothing."""
    named = [name for name in columns if name.startswith(_AFFINITY) and name.removeprefix(_AFFINITY).isdecimal()]
    names = sorted(named, key=lambda name: int(name.removeprefix(_AFFINITY)))
    if not names:
        return np.zeros((len(columns["item_id"]), 0))
    return np.stack([_numbers(path, columns, name) for name in names], axis=1)


def _affinity_fields(affinity: Numbers, rows: Places) -> tuple[Field, ...]:
    if not affinity.shape[1]:
        return ()
    flat = affinity[rows].ravel()
    return (number_field("affinity", flat, rows=np.arange(len(flat)), axis="action", units="clicks"),)


def _items(path: Path) -> dict[str, list[str]]:
    """Return the items' features by name, in the order of their ids; nothing where there is no such file."""
    if not path.exists():
        return {}
    columns = _read_csv(path)
    order = np.argsort(_integers(path, columns, "item_id"))
    names = sorted(name for name in columns if name.startswith("item_feature_"))
    for name in filter(_is_number, names):
        _numbers(path, columns, name)
    return {name: [columns[name][row] for row in order.tolist()] for name in names}


def _item_fields(items: dict[str, list[str]]) -> tuple[Field, ...]:
    fields = []
    for name, texts in items.items():
        every = np.arange(len(texts))
        if _is_number(name):
            fields.append(number_field(name, np.array(texts, dtype=np.float64), rows=every, axis="action"))
        else:
            values: NDArray[np.object_] = np.array(texts, dtype=object)
            fields.append(category_field(name, values, rows=every, axis="action"))
    return tuple(fields)


def _is_number(name: str) -> bool:
    return name == "item_feature_0"


def _features(path: Path, items: dict[str, list[str]], count: int) -> dict[str, tuple[Constant, ...]]:
    short = next((name for name, texts in items.items() if len(texts) != count), None)
    if short is not None:
        raise UnableToImportObd(
            f"{path.with_name(_ITEMS)}: expected {count} items, as the impressions name, found {len(items[short])}"
        )
    return {
        name: tuple(float(text) for text in texts) if _is_number(name) else tuple(texts)
        for name, texts in items.items()
    }


def _table(affinity: Numbers, ids: tuple[str, ...]) -> TableColumns | None:
    """Make the action rows that carry the affinity; None where there is none, and the spec's features are all."""
    count, width = affinity.shape
    if not width:
        return None
    if width != len(ids):
        raise UnableToImportObd(f"expected one affinity per item, found {width} for {len(ids)} items")
    fields: dict[str, Values] = {"affinity": affinity.ravel()}
    return TableColumns(
        lengths=np.full(count, width, dtype=np.int64), ids=[list(ids)] * count, order=None, fields=fields
    )
