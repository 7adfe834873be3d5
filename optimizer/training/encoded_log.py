"""A log as arrays for training: encoded once, one group per padded size, split by the unit.

The units of one fold are held out: no step of training sees them, and what is chosen is chosen by them. Rows that
cannot be weighed (fallbacks, shadows, no propensity, no reward yet) are left out and counted.
"""

# R request of the log, B request of a group, S slot, A action, N row of the feedback

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from policies.choose import FOLD_COUNT, folds_of
from policies.encode import Encoder
from policies.errors import ContentRefused
from policies.feedback import Feedback, LoggedChoices, logged_choices
from policies.log import first_rows
from policies.spec import PolicySpec

HELD_OUT_FOLD: Final = 0

Reals = NDArray[np.float64]
Bools = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)


class UnableToLearn(ContentRefused):
    """The log does not hold what learning from it needs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Hold the requests of one padded size with their logged choices.

    Attributes:
        arrays: the graph's inputs but the mask, float64 [B, ...].
        mask: bool [B, S, A], eligible actions.
        action: int64 [B, S], the logged action's place; 0 where there is none.
        propensity: float64 [B, S] in (0, 1]; 1 where there is none.
        reward: float64 [B, S]; 0 where there is none.
        is_weighed: bool [B, S], whether the choice has a propensity and a reward of its own.
        is_acted: bool [B, S], whether the choice has a propensity.
        whole_reward: float64 [B], the reward of the whole request; 0 where there is none.
        is_whole_weighed: bool [B], whether the request has such a reward and every choice of it a propensity.
        fold: int64 [B], of the unit.
        unit: uint64 [B], the unit's hash.
    """

    arrays: Mapping[str, Reals]
    mask: Bools
    action: NDArray[np.int64]
    propensity: Reals
    reward: Reals
    is_weighed: Bools
    is_acted: Bools
    whole_reward: Reals
    is_whole_weighed: Bools
    fold: NDArray[np.int64]
    unit: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def columns(self) -> dict[str, NDArray[np.generic]]:
        """All arrays by name, those of the graph's inputs as `arrays.NAME`."""
        own = {name: getattr(self, name) for name in self.__slots__ if name != "arrays"}
        return {**own, **{f"arrays.{name}": array for name, array in self.arrays.items()}}

    def take(self, rows: Bools) -> "Group":
        """Return the requests that a mask, bool [B], picks."""
        return _group({name: column[rows] for name, column in self.columns.items()})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedLog:
    """Hold a log for training.

    Attributes:
        spec: what it is encoded by.
        groups: one per padded size.
        is_row_unit: whether every unit has one row.
        reward_low, reward_high: what a reward can be: the spec's bounds, else the least and the largest one seen.
        excluded: rows that cannot be weighed.
    """

    spec: PolicySpec
    groups: tuple[Group, ...]
    is_row_unit: bool
    reward_low: float
    reward_high: float
    excluded: int

    @property
    def row_count(self) -> int:
        """The number of rows that are weighed: choices with a reward, and whole requests with one."""
        return sum(int(group.is_weighed.sum() + group.is_whole_weighed.sum()) for group in self.groups)

    @property
    def has_whole_rewards(self) -> bool:
        """Whether some reward is of a whole request of several slots."""
        return any(bool(group.is_whole_weighed.any()) for group in self.groups)

    @property
    def is_uniform(self) -> bool:
        """Whether every logged propensity is 1 ÷ (eligible actions) to float32's digits: the log explored evenly."""
        return all(
            np.allclose((group.propensity * group.mask.sum(axis=2))[group.is_acted], 1.0, rtol=0, atol=1e-6)
            for group in self.groups
        )

    @property
    def least_propensity(self) -> float:
        """The smallest logged propensity."""
        return min(float(group.propensity.min()) for group in self.groups)

    def rewards(self) -> Reals:
        """Return all rewards that are weighed, choices first within each group: float64 [row_count]."""
        parts = [[g.reward[g.is_weighed], g.whole_reward[g.is_whole_weighed]] for g in self.groups]
        return np.concatenate([part for pair in parts for part in pair])

    def digest(self) -> str:
        """Return 16 hex that tell this log from any other."""
        state = blake2b(repr(self.spec).encode(), digest_size=8)
        for group in self.groups:
            for name, column in sorted(group.columns.items()):
                state.update(f"{name} {column.dtype} {column.shape}".encode())
                state.update(np.ascontiguousarray(column).data)
        return state.hexdigest()


def encode_log(feedback: Feedback, *, spec: PolicySpec, reward: Mapping[str, float]) -> EncodedLog:
    """Encode a log for training.

    Args:
        feedback: the log.
        spec: of the policy to be learned; over the log's actions.
        reward: weight by name; what is maximized is the weighted sum.

    Raises:
        UnableToLearn: a reward is not in the log, no row can be weighed, or the log never explored.
        UnableToUseFeedback: the spec does not fit the log, or a request does not encode.
    """
    rows = _Rows.of(feedback, reward)
    parts: dict[str, list[Group]] = {}
    for choices in logged_choices(feedback, Encoder(spec)):
        group = rows.group(choices)
        parts.setdefault(_key(group), []).append(group)
    groups = tuple(_concatenated(part) for part in parts.values())
    low, high = _bounds(feedback.spec, reward, groups)
    log = EncodedLog(
        spec=spec,
        groups=groups,
        is_row_unit=feedback.is_row_unit,
        reward_low=low,
        reward_high=high,
        excluded=len(feedback) - sum(int(g.is_weighed.sum() + g.is_whole_weighed.sum()) for g in groups),
    )
    _check(log)
    return log


def split_by_unit(log: EncodedLog) -> tuple[EncodedLog, EncodedLog]:
    """Return the part to train on and the part that is held out; no unit lies in both.

    Raises:
        UnableToLearn: one of the two has no row.
    """
    kept = _part(log, [group.fold != HELD_OUT_FOLD for group in log.groups])
    held_out = _part(log, [group.fold == HELD_OUT_FOLD for group in log.groups])
    if not kept.row_count or not held_out.row_count:
        raise UnableToLearn(
            f"expected units on both sides of the split (one fold of {FOLD_COUNT} is held out), found "
            f"{kept.row_count} rows to train on and {held_out.row_count} held out; log more units"
        )
    return kept, held_out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """What the feedback says of each row [N] and of each request [R]."""

    reward: Reals
    propensity: Reals
    is_acted: Bools
    whole_reward: Reals
    fold: NDArray[np.int64]
    unit: NDArray[np.uint64]
    request_is_acted: Bools

    @classmethod
    def of(cls, feedback: Feedback, weights: Mapping[str, float]) -> "_Rows":
        reward = _combined(feedback, weights)
        decided = np.array([role != "shadow" for role in feedback.roles], dtype=bool)
        decided &= np.array([fallback is None for fallback in feedback.fallbacks], dtype=bool)
        is_choice = np.array([action is not None for action in feedback.actions], dtype=bool)
        firsts = first_rows(feedback.request_rows)
        is_acted = decided & is_choice & np.isfinite(feedback.propensity)
        whole = np.full(feedback.columns.count, np.nan)
        wholes = np.flatnonzero(~is_choice & decided)
        whole[feedback.request_rows[wholes]] = reward[wholes]
        request_is_acted = np.ones(feedback.columns.count, dtype=bool)
        np.logical_and.at(request_is_acted, feedback.request_rows[is_choice], is_acted[is_choice])
        return cls(
            reward=reward,
            propensity=feedback.propensity,
            is_acted=is_acted,
            whole_reward=whole,
            fold=folds_of(feedback.units[row] for row in firsts.tolist()),
            unit=feedback.unit_hashes[firsts],
            request_is_acted=request_is_acted,
        )

    def group(self, choices: LoggedChoices) -> Group:
        """Lay the logged choices of one bucket out by request and slot."""
        bucket, rows = choices.bucket, choices.rows
        shape = bucket.mask.shape[:2]
        where = choices.request, choices.slot
        is_acted = self.is_acted[rows]
        whole = self.whole_reward[bucket.rows]
        is_whole = np.isfinite(whole) & self.request_is_acted[bucket.rows]
        return Group(
            arrays=bucket.arrays,
            mask=bucket.mask,
            action=_laid(shape, where, choices.action, fill=0),
            propensity=_laid(shape, where, np.where(is_acted, self.propensity[rows], 1.0), fill=1.0),
            reward=_laid(shape, where, np.where(np.isfinite(self.reward[rows]), self.reward[rows], 0.0), fill=0.0),
            is_weighed=_laid(shape, where, is_acted & np.isfinite(self.reward[rows]), fill=False),
            is_acted=_laid(shape, where, is_acted, fill=False),
            whole_reward=np.where(is_whole, whole, 0.0),
            is_whole_weighed=is_whole,
            fold=self.fold[bucket.rows],
            unit=self.unit[bucket.rows],
        )


def _laid(
    shape: tuple[int, ...],
    where: tuple[NDArray[np.int64], NDArray[np.int64]],
    values: NDArray[Scalar],
    *,
    fill: float,
) -> NDArray[Scalar]:
    laid = np.full(shape, fill, dtype=values.dtype)
    laid[where] = values
    return laid


def _combined(feedback: Feedback, weights: Mapping[str, float]) -> Reals:
    unknown = sorted(set(weights) - set(feedback.rewards))
    if unknown or not weights:
        known = ", ".join(feedback.rewards) or "none"
        raise UnableToLearn(f"expected rewards of the log ({known}), found {', '.join(unknown) or 'none'} to maximize")
    total = np.zeros(len(feedback))
    for name, weight in weights.items():
        total += weight * feedback.rewards[name]
    return total


def _bounds(spec: PolicySpec, weights: Mapping[str, float], groups: Iterable[Group]) -> tuple[float, float]:
    told = spec.reward_bounds(weights)
    if told is not None:
        return told
    seen = [g.reward[g.is_weighed] for g in groups] + [g.whole_reward[g.is_whole_weighed] for g in groups]
    values = np.concatenate([*seen, np.zeros(1)])
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1.0


def _check(log: EncodedLog) -> None:
    if not log.row_count:
        raise UnableToLearn(
            f"expected rows with an action, a propensity and a reward, found none among {log.excluded}; fallbacks, "
            "shadows and rewards that are pending or retracted do not count"
        )
    explored = any(bool((g.is_acted & (g.propensity < 1.0)).any()) for g in log.groups)
    had_choice = any(bool((g.is_acted & (g.mask.sum(axis=2) > 1)).any()) for g in log.groups)
    if had_choice and not explored:
        raise UnableToLearn(
            "expected a log that explores, found propensity 1 in every row although other actions were eligible: "
            "nothing tells what they would have earned. Log with an exploration floor."
        )


def _part(log: EncodedLog, picked: list[Bools]) -> EncodedLog:
    groups = [group.take(rows) for group, rows in zip(log.groups, picked, strict=True)]
    return EncodedLog(
        spec=log.spec,
        groups=tuple(group for group in groups if len(group)),
        is_row_unit=log.is_row_unit,
        reward_low=log.reward_low,
        reward_high=log.reward_high,
        excluded=0,
    )


def _key(group: Group) -> str:
    return repr([(name, column.shape[1:]) for name, column in sorted(group.columns.items())])


def _concatenated(groups: list[Group]) -> Group:
    if len(groups) == 1:
        return groups[0]
    columns = [group.columns for group in groups]
    return _group({name: np.concatenate([part[name] for part in columns]) for name in columns[0]})


def _group(columns: Mapping[str, NDArray[np.generic]]) -> Group:
    own = {name: column for name, column in columns.items() if not name.startswith("arrays.")}
    arrays = {name.removeprefix("arrays."): c for name, c in columns.items() if name.startswith("arrays.")}
    return Group(arrays=arrays, **own)  # type: ignore[arg-type]
