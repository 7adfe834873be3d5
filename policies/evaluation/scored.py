"""A log scored for a target: per row the reward, the propensity that was logged and the target's probability.

Scored is the only input of the estimates, whatever the log came from: importance weight = target / propensity.
"""

# N row (one choice, or one whole request whose probabilities are products over its slots)

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from policies.choose import unit_hashes
from policies.errors import ContentRefused

Column = NDArray[np.float64]

TOLERANCE: Final = 1e-9
"""Probabilities may exceed one by this much: products and renormalized tables round in the last digits of a double."""

LARGEST: Final = 1e50
"""Rewards, predictions and weights stay below this, so that squares of their products are finite doubles."""

_LEAST_PROPENSITY: Final = float(np.nextafter(0.0, 1.0))
_LARGEST_WHOLE: Final = 2.0**53  # above it neighbors of whole numbers are lost
_CHUNK_ROWS: Final = 16_384  # 128 KiB a column: checks run in the cache
_REQUIRED: Final = ("reward", "pscore", "p_eval")


class UnableToScore(ContentRefused):
    """A column of the log is missing or holds what cannot be weighted."""


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """Hold the columns that an estimate is made from, checked once when they are put together.

    Attributes:
        reward: float64 [N], finite.
        propensity: float64 [N] in (0, 1]: what the policy that acted gave the action it took.
        target: float64 [N] in [0, 1]: what the target gives that action.
        unit: uint64 [N], `policies.choose.unit_hashes` of the unit of correlation; None where the unit is the row.
        q_logged: float64 [N], a model's reward of the logged action; None without a model.
        q_target: float64 [N], the model's mean reward under the target; there exactly when q_logged is.

    Raises:
        UnableToScore: a value is not finite or outside its range; the message names the row.
        ValueError: columns differ in length, are not flat, or only one of q_logged and q_target is given.

    >>> one = np.ones(2)
    >>> Scored(reward=one, propensity=one / 2, target=one / 4).weight.tolist()
    [0.5, 0.5]
    """

    reward: Column
    propensity: Column
    target: Column
    unit: NDArray[np.uint64] | None = None
    q_logged: Column | None = None
    q_target: Column | None = None

    def __post_init__(self) -> None:
        for name in ("reward", "propensity", "target", "q_logged", "q_target"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, np.asarray(values, dtype=np.float64))
        self._check_shapes()
        _check_range(self.propensity, name="propensity", low=_LEAST_PROPENSITY, expected="lie in (0, 1]")
        _check_range(self.target, name="target probability", low=0.0, expected="lie in [0, 1]")
        for name in ("reward", "q_logged", "q_target"):
            _check_size(getattr(self, name), name=name)
        self._check_weights()

    @property
    def weight(self) -> Column:
        """The importance weight, float64 [N], not negative; its mean is one when the propensities are right."""
        return self.target / self.propensity

    def __len__(self) -> int:
        return len(self.reward)

    def _check_shapes(self) -> None:
        if (self.q_logged is None) != (self.q_target is None):
            raise ValueError("q_logged and q_target come together or not at all")
        if self.unit is not None and self.unit.dtype != np.uint64:
            raise ValueError(f"unit must be a uint64 column of unit_hashes, found {self.unit.dtype}")
        for name in ("reward", "propensity", "target", "unit", "q_logged", "q_target"):
            values = getattr(self, name)
            if values is not None and values.shape != (self.reward.size,):
                raise ValueError(
                    f"{name} must be flat and as long as reward ({self.reward.size}), found {values.shape}"
                )

    def _check_weights(self) -> None:
        if len(self) and float(self.propensity.min()) < 1.0 / LARGEST:
            with np.errstate(over="ignore"):
                _check_size(self.weight, name="importance weight")


def scored_from_columns(
    columns: Mapping[str, NDArray[Any]], *, unit_hashes: NDArray[np.uint64] | None = None
) -> Scored:
    """Make a Scored of named columns, as a golden npz holds them; columns of other names are left alone.

    Args:
        columns: reward, pscore (propensity), p_eval (target), each [N]; optionally unit [N] (texts or whole numbers)
            and, together, q_logged and q_pi [N].
        unit_hashes: `hashes_of` the unit, uint64 [N], for those who score one log for many targets; it is taken instead
            of the column.

    Raises:
        UnableToScore: a column is missing, is not numeric, differs in length, holds a value that cannot be weighted,
            or the log is deterministic.

    >>> half = np.full(2, 0.5)
    >>> len(scored_from_columns({"reward": np.array([0, 1]), "pscore": half, "p_eval": half}))
    2
    """
    _check_names(columns)
    flat = {name: _as_column(columns, name) for name in (*_REQUIRED, "q_logged", "q_pi") if name in columns}
    unit = hashes_of(columns["unit"]) if unit_hashes is None and "unit" in columns else unit_hashes
    _check_lengths({**flat, "unit": unit} if unit is not None else flat)
    refuse_deterministic(flat["pscore"], target=flat["p_eval"])
    return Scored(
        reward=flat["reward"],
        propensity=flat["pscore"],
        target=flat["p_eval"],
        unit=unit,
        q_logged=flat.get("q_logged"),
        q_target=flat.get("q_pi"),
    )


def refuse_deterministic(propensity: Column, *, target: Column) -> None:
    """Refuse a whole log whose propensities are all one although the target would have acted otherwise.

    Both are float64 [N]. A propensity of one beside a target below one means that there was another eligible action
    which the log never takes: nothing in it says what that action would have earned.

    Raises:
        UnableToScore: the log is deterministic.
    """
    if propensity.size and bool(np.all(propensity == 1.0)) and bool(np.any(target < 1.0 - TOLERANCE)):
        row = int(np.argmax(target < 1.0 - TOLERANCE))
        raise UnableToScore(
            f"expected a log that explores, found propensity 1 in all {propensity.size} rows although the target gives "
            f"the logged action {target[row]:.6g} in row {row}: other actions were possible and never taken. "
            "Deterministic logs are evaluated with simulate."
        )


def hashes_of(units: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the shard hash of each unit, uint64 [N]; units [N] are texts, or whole numbers taken as decimal text.

    Whole numbers may be held as floats, as a column that was read from a table often is.

    Raises:
        UnableToScore: the units are neither texts nor whole numbers.
    """
    units = whole_numbers(units)
    if units.ndim != 1 or units.dtype.kind not in "iuUSO":
        raise UnableToScore(f"unit must be a flat column of texts or whole numbers, found {units.dtype} {units.shape}")
    distinct, inverse = np.unique(units, return_inverse=True)
    return unit_hashes(_as_text(unit) for unit in distinct.tolist())[inverse]


def whole_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return a column of floats that are all whole as int64, anything else as it is.

    >>> whole_numbers(np.array([1.0, 2.0])).tolist(), whole_numbers(np.array([1.5])).tolist()
    ([1, 2], [1.5])
    """
    if values.dtype.kind != "f" or not bool((np.abs(values) < _LARGEST_WHOLE).all()):  # NaN is not below it
        return values
    whole = values.astype(np.int64)
    return whole if bool((whole == values).all()) else values


def _as_text(unit: object) -> str:
    if isinstance(unit, bytes):
        return unit.decode()
    if isinstance(unit, str) or (isinstance(unit, int) and not isinstance(unit, bool)):
        return str(unit)
    raise UnableToScore(f"unit must be a text or a whole number, found {unit!r}")


def _check_names(columns: Mapping[str, NDArray[Any]]) -> None:
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise UnableToScore(
            f"expected the columns {', '.join(_REQUIRED)}, found {', '.join(sorted(columns)) or 'none'}; "
            f"missing: {', '.join(missing)}. A missing propensity is never taken as 1."
        )
    if ("q_logged" in columns) != ("q_pi" in columns):
        raise UnableToScore(
            "the columns q_logged and q_pi come together: found only one of them; add or drop the other"
        )


def _as_column(columns: Mapping[str, NDArray[Any]], name: str) -> Column:
    values = np.asarray(columns[name])
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise UnableToScore(f"column {name} must be a flat column of numbers, found {values.dtype} {values.shape}")
    return values.astype(np.float64)


def _check_lengths(columns: Mapping[str, NDArray[Any]]) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UnableToScore(f"columns must have one length, found {found} rows")


def _check_size(values: Column | None, *, name: str) -> None:
    if values is None:
        return
    row = _first_outside(values, low=-LARGEST, high=LARGEST)
    if row is not None:
        raise UnableToScore(f"{name} must be finite and below {LARGEST:g} in size, found {values[row]} in row {row}")


def _check_range(values: Column, *, name: str, low: float, expected: str) -> None:
    row = _first_outside(values, low=low, high=1.0 + TOLERANCE)
    if row is None:
        return
    message = f"{name} must {expected}, found {values[row]} in row {row}"
    if name == "propensity":
        message += ". Log the probability of each action that is taken; deterministic logs are evaluated with simulate."
    raise UnableToScore(message)


def _first_outside(values: Column, *, low: float, high: float) -> int | None:
    # A comparison with NaN is false, so NaN counts as outside.
    for start in range(0, len(values), _CHUNK_ROWS):
        part = values[start : start + _CHUNK_ROWS]
        if not (part.min() >= low and part.max() <= high):
            return start + int(np.argmin((part >= low) & (part <= high)))
    return None
