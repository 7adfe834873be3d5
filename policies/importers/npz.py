"""Read a log kept as npz: reward, pscore (propensity) and action, and whatever else was seen, one array per column."""

# N row, W component

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from policies.assemble import assemble
from policies.columns import Columns, Values
from policies.errors import ContentRefused
from policies.importers.inference import action_ids, domain_of, infer_field, training_rows
from policies.log import Feedback, Numbers, Places
from policies.npz import UnableToReadArrays, load_npz
from policies.spec import ActionSet, PolicySpec, Reward

_NEEDED: Final = ("reward", "pscore", "action")
_NOT_SEEN: Final = {*_NEEDED, "p_eval", "q_logged", "q_pi", "unit", "time"}


class UnableToImportArrays(ContentRefused):
    """The arrays of an npz are not the columns of a log."""


def import_npz(source: Path, *, train_share: float | None = None) -> Feedback:
    """Read arrays reward, pscore and action [N]; `unit` and `time` if there; others are what the policy saw.

    An array [N, W] is a vector. Rows without a time are taken to be in order of time; without a unit, each is one.

    Raises:
        UnableToImportArrays: the file is no npz of plain arrays; an array is missing, has another length, or
            holds what a log cannot.
    """
    arrays = _arrays(source)
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise UnableToImportArrays(
            f"{source}: expected the arrays {', '.join(_NEEDED)}; missing: {', '.join(missing)}. "
            "A missing propensity is never taken as 1."
        )
    reward = _flat(source, "reward", arrays["reward"])
    count = len(reward)
    if not count:
        raise UnableToImportArrays(f"{source}: expected rows, found none")
    wrong = next((name for name, array in arrays.items() if len(array.shape) < 1 or len(array) != count), None)
    if wrong is not None:
        raise UnableToImportArrays(f"{source}: {wrong} must have {count} rows as reward, found {arrays[wrong].shape}")
    seen = {name: _column(source, name, array) for name, array in arrays.items() if name not in _NOT_SEEN}
    actions = _whole(source, "action", arrays["action"])
    times = _whole(source, "time", arrays["time"]) if "time" in arrays else np.arange(count, dtype=np.int64)
    rows = training_rows(times, [str(row) for row in range(count)], train_share=train_share)
    ids = action_ids(actions)
    spec = PolicySpec(
        domain=domain_of(source.stem),
        fields=tuple(infer_field(name, values, rows=rows) for name, values in seen.items()),
        actions=ActionSet(kind="choice", ids=ids, fallback="first"),
        rewards=(Reward(name="reward"),),
    )
    request: dict[str, Values] = {**seen}
    return assemble(
        spec,
        columns=Columns(count=count, request=request),
        actions=[ids[action] for action in actions.tolist()],
        propensity=_flat(source, "pscore", arrays["pscore"]),
        rewards={"reward": reward},
        units=_units(source, arrays["unit"]) if "unit" in arrays else None,
        times=times,
    )


def _arrays(source: Path) -> dict[str, NDArray[Any]]:
    try:
        return load_npz(source.read_bytes(), where=str(source))
    except UnableToReadArrays as error:
        raise UnableToImportArrays(str(error)) from error


def _units(source: Path, array: NDArray[Any]) -> list[str]:
    """Return the units as texts; whole numbers are written without a point."""
    if array.dtype.kind in "US":
        return [str(unit) for unit in array.astype(str).tolist()]
    if array.dtype.kind in "iu":
        return [str(unit) for unit in array.tolist()]
    return [str(unit) for unit in _whole(source, "unit", array).tolist()]


def _flat(source: Path, name: str, array: NDArray[Any]) -> Numbers:
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise UnableToImportArrays(
            f"{source}: {name} must be a flat array of numbers, found {array.dtype} {array.shape}"
        )
    return array.astype(np.float64)


def _whole(source: Path, name: str, array: NDArray[Any]) -> Places:
    values = _flat(source, name, array)
    wrong = ~(np.isfinite(values) & (values >= 0) & (values == np.floor(values)))
    if wrong.any():
        row = int(wrong.argmax())
        raise UnableToImportArrays(f"{source}: {name} must be a whole number from 0, found {values[row]} in row {row}")
    return values.astype(np.int64)


def _column(source: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return what was seen: texts as objects [N], numbers as float64 [N] or [N, W]."""
    if array.dtype.kind in "US" and array.ndim == 1:
        return np.array([str(word) for word in array.astype(str).tolist()], dtype=object)
    if array.dtype.kind in "biuf" and array.ndim in (1, 2) and array.size:
        return array.astype(np.float64)
    raise UnableToImportArrays(f"{source}: {name} must be numbers [N] or [N, W] or texts [N], found {array.dtype}")
