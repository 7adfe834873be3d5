"""Score a log for a target: each weighable choice with its reward, its propensity and the target's probability of it.

What cannot be weighed is counted, not dropped in silence: rewards still pending, and rows excluded because a fallback
or a shadow decided, no propensity was logged, or the reward was retracted. A reward of the whole of a many-slot request
is one row whose probabilities are products over its slots.
"""

# B request, S slot, A action, N row of the log, K scored row

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from policies.choose import ONE, folds_of, to_lattice
from policies.encode import Bucket, Encoder
from policies.evaluation.features import choice_features, logged_features
from policies.evaluation.reward_model import FittedRewardModel, RewardModel
from policies.evaluation.scored import Scored, UnableToScore
from policies.feedback import Feedback, LoggedChoices, logged_choices
from policies.log import PENDING
from policies.policy import Policy
from policies.spec import PolicySpec

Reals = NDArray[np.float64]
_BATCH_CELLS: Final = 2**16
"""Actions of all slots of all requests that are encoded at once: a reward model sees up to 256 numbers of each."""

_LARGEST_BATCH: Final = 16_384
_SHADOW: Final = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredLog:
    """Hold the scored rows of a log, their places in it (int64 [K], ascending), and how many others there are, why."""

    scored: Scored
    rows: NDArray[np.int64]
    excluded: int
    pending: int


class ActionValues(Protocol):
    """Predict what each action would earn."""

    def predict(self, bucket: Bucket, *, fold: NDArray[np.int64]) -> Reals:
        """Return the predicted reward of every action, float64 [B, S, A]; `fold` [B] is each request's."""


class RidgeValues:
    """The default reward model: ridge per (fold, action), each fold predicted by the model of the others."""

    def __init__(self, fitted: FittedRewardModel, spec: PolicySpec) -> None:
        self._fitted, self._spec = fitted, spec

    def predict(self, bucket: Bucket, *, fold: NDArray[np.int64]) -> Reals:
        """Return the predicted reward of every action, float64 [B, S, A]."""
        features = choice_features(bucket.arrays, mask=bucket.mask, spec=self._spec)
        per_choice = np.repeat(fold, bucket.mask.shape[1])
        flat = features.reshape(len(per_choice), *features.shape[2:])
        return self._fitted.predict(flat, fold=per_choice).reshape(bucket.mask.shape)


class OnnxValues:
    """A reward model from an ONNX file; whoever trained it kept it apart from the log that is scored."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def predict(self, bucket: Bucket, *, fold: NDArray[np.int64]) -> Reals:
        """Return the predicted reward of every action, float64 [B, S, A]; folds do not matter."""
        values: Reals = self._model.predict(bucket.arrays, bucket.mask)
        return values


def score(
    feedback: Feedback, target: Policy | None, *, reward: Mapping[str, float], values: ActionValues | None = None
) -> ScoredLog:
    """Score a log for a target.

    Args:
        feedback: the log.
        target: proposes probabilities; None is the policy that wrote the log, whose weights are all one.
        reward: what is maximized, as a weighted sum of rewards by name.
        values: a model of the rewards, for dm and dr; None leaves them out.

    Raises:
        UnableToScore: a reward is unknown, or every choice of the log is deterministic (see `simulate`).
        UnableToUseFeedback: the log does not fit the target's spec.
    """
    totals, status = _rewards(feedback, reward)
    parts = _Parts(len(feedback), is_modelled=values is not None)
    folds = np.zeros(len(feedback), dtype=np.int64) if values is None else fold_of(feedback)
    encoder = Encoder(feedback.spec if target is None else target.spec)
    for choices in logged_choices(feedback, encoder, batch_size=_batch_size(feedback)):
        parts.take(choices, target, values, feedback, folds)
    if feedback.spec.has_slots:
        parts.multiply_out(feedback)
    return _assemble(feedback, totals, status, parts)


def fit_values(feedback: Feedback, *, reward: Mapping[str, float], ridge: float = 1.0) -> RidgeValues:
    """Fit the default reward model on a log, cross-fitted by the folds of its units.

    Raises:
        UnableToModelRewards: there are too many columns, or all units lie in one fold.
        UnableToScore: a reward is unknown, or the log has no choice at all.
    """
    totals, status = _rewards(feedback, reward)
    usable = _usable(feedback, feedback.propensity) & (status == _GIVEN)
    folds = fold_of(feedback)
    model: RewardModel | None = None
    is_shared = bool(feedback.spec.on("action"))
    for choices in logged_choices(feedback, Encoder(feedback.spec), batch_size=_batch_size(feedback)):
        kept = usable[choices.rows]
        request, slot, action = choices.request[kept], choices.slot[kept], choices.action[kept]
        features = logged_features(choices.bucket.arrays, spec=feedback.spec, request=request, action=action, slot=slot)
        if model is None:
            count = 1 if is_shared else choices.bucket.mask.shape[2]
            model = RewardModel.empty(feature_count=features.shape[-1], action_count=count)
        model = model.add(
            features,
            actions=np.zeros_like(action) if is_shared else action,
            reward=totals[choices.rows[kept]],
            fold=folds[choices.rows[kept]],
        )
    if model is None:
        raise UnableToScore("the log has no choice that a reward model could learn from")
    return RidgeValues(model.fit(ridge=ridge), feedback.spec)


def fold_of(feedback: Feedback) -> NDArray[np.int64]:
    """Return the cross-fitting fold of each row, from its unit alone: int64 [N]."""
    return folds_of(feedback.units)


def _batch_size(feedback: Feedback) -> int:
    """Return how many requests are encoded at once, fewer the more actions and slots they have."""
    ids, columns = feedback.spec.actions.ids, feedback.columns
    most = (
        len(ids) if ids is not None else 1 if columns.actions is None else int(columns.actions.lengths.max(initial=1))
    )
    slots = 1 if columns.slots is None else int(columns.slots.lengths.max(initial=1))
    return max(1, min(_LARGEST_BATCH, _BATCH_CELLS // (most * slots)))


_GIVEN, _IS_PENDING, _IS_RETRACTED, _NOT_EXPECTED = 0, 1, 2, 3


def _rewards(feedback: Feedback, reward: Mapping[str, float]) -> tuple[Reals, NDArray[np.int64]]:
    """Return the weighted sum of rewards of each row and what became of it, by the worst of its parts."""
    totals, status = np.zeros(len(feedback)), np.zeros(len(feedback), dtype=np.int64)
    for name, weight in reward.items():
        if name not in feedback.rewards:
            raise UnableToScore(f"there is no reward {name!r} in the log; it has {', '.join(feedback.rewards)}")
        given = feedback.rewards[name]
        totals += weight * given
        absent = np.flatnonzero(np.isnan(given))
        words = feedback.statuses[name]
        found = [_fate(words[row]) for row in absent.tolist()]
        status[absent] = np.maximum(status[absent], np.array(found, dtype=np.int64))
    return totals, status


def _fate(word: str | None) -> int:
    if word is None:
        return _NOT_EXPECTED
    return _IS_PENDING if word == PENDING else _IS_RETRACTED


def _usable(feedback: Feedback, propensity: Reals) -> NDArray[np.bool_]:
    """Say which rows may be weighed: drawn by a policy that was in charge, with a propensity."""
    count = len(feedback)
    in_charge = np.fromiter((role != _SHADOW for role in feedback.roles), dtype=bool, count=count)
    drawn = np.fromiter((reason is None for reason in feedback.fallbacks), dtype=bool, count=count)
    usable: NDArray[np.bool_] = in_charge & drawn & np.isfinite(propensity)
    return usable


class _Parts:
    """What is gathered of a log, bucket by bucket: the target's probability of each row, and predictions."""

    def __init__(self, count: int, *, is_modelled: bool) -> None:
        self.target = np.full(count, np.nan)
        self.propensity = np.full(count, np.nan)
        self.q_logged = np.full(count, np.nan) if is_modelled else None
        self.q_target = np.full(count, np.nan) if is_modelled else None

    def take(
        self,
        choices: LoggedChoices,
        target: Policy | None,
        values: ActionValues | None,
        feedback: Feedback,
        folds: NDArray[np.int64],
    ) -> None:
        bucket, rows = choices.bucket, choices.rows
        cells = (choices.request, choices.slot, choices.action)
        self.propensity[rows] = feedback.propensity[rows]
        table = None if target is None else _served(target.propose(bucket.arrays, bucket.mask), bucket.mask)
        self.target[rows] = feedback.propensity[rows] if table is None else table[cells]
        if values is None or self.q_logged is None or self.q_target is None:
            return
        by_request = np.zeros(len(bucket.rows), dtype=np.int64)
        by_request[choices.request] = folds[rows]
        predicted = values.predict(bucket, fold=by_request)
        self.q_logged[rows] = self.q_target[rows] = predicted[cells]
        if table is not None:
            expected = (table * np.where(bucket.mask, predicted, 0.0)).sum(axis=2)
            self.q_target[rows] = expected[choices.request, choices.slot]

    def multiply_out(self, feedback: Feedback) -> None:
        """Give the row of a whole request the product over its slots; a fallback among them leaves it without one."""
        whole = np.flatnonzero(np.fromiter((slot == "" for slot in feedback.slots), bool, len(feedback)))
        slots = np.setdiff1d(np.arange(len(feedback)), whole)
        for column in (self.target, self.propensity):
            products = np.ones(feedback.columns.count)
            np.multiply.at(products, feedback.request_rows[slots], column[slots])
            column[whole] = products[feedback.request_rows[whole]]


def _served(proposal: NDArray[np.floating], mask: NDArray[np.bool_]) -> Reals:
    """Return the probabilities as they would be served: a graph's float32 on the lattice, a table's as it is given."""
    if proposal.dtype != np.float32:
        return proposal.astype(np.float64)
    flat = proposal.reshape(-1, proposal.shape[-1])
    real = mask.reshape(flat.shape).any(axis=1)
    served = np.zeros(flat.shape)
    served[real] = to_lattice(flat[real]) / ONE
    return served.reshape(proposal.shape)


def _assemble(feedback: Feedback, totals: Reals, status: NDArray[np.int64], parts: _Parts) -> ScoredLog:
    expected = status != _NOT_EXPECTED
    pending = expected & (status == _IS_PENDING)
    usable = _usable(feedback, parts.propensity)
    kept = np.flatnonzero(expected & ~pending & (status == _GIVEN) & usable & np.isfinite(parts.target))
    if not len(kept) and np.isnan(feedback.propensity).all():
        raise UnableToScore(
            "propensity is in no row: a log of quantities, deterministic choices or fallbacks cannot be weighed; "
            "judge such a policy with `simulate`"
        )
    excluded = int(expected.sum() - pending.sum() - len(kept))
    scored = Scored(
        reward=totals[kept],
        propensity=parts.propensity[kept],
        target=parts.target[kept],
        unit=None if feedback.is_row_unit else feedback.unit_hashes[kept],
        q_logged=_kept(parts.q_logged, kept),
        q_target=_kept(parts.q_target, kept),
    )
    _refuse_deterministic(feedback, scored.propensity)
    return ScoredLog(scored=scored, rows=kept, excluded=excluded, pending=int(pending.sum()))


def _kept(column: Reals | None, kept: NDArray[np.int64]) -> Reals | None:
    """Return the predictions of the kept rows; none at all where some row has none (a reward of a whole request)."""
    if column is None or not np.isfinite(column[kept]).all():
        return None
    return column[kept]


def _refuse_deterministic(feedback: Feedback, propensity: Reals) -> None:
    """Refuse a log whose scored rows, [K], were all certain although another action was eligible.

    Raises:
        UnableToScore: nothing was left to chance, so the log says nothing of other policies.
    """
    if len(propensity) and (propensity == 1.0).all() and _has_alternatives(feedback):
        raise UnableToScore(
            "propensity is 1 in every row although other actions were eligible: a deterministic log cannot be weighed; "
            "judge policies with `simulate`, or log with an exploration floor"
        )


def _has_alternatives(feedback: Feedback) -> bool:
    ids, actions = feedback.spec.actions.ids, feedback.columns.actions
    if actions is not None:
        return bool((actions.lengths > 1).any())
    return ids is not None and len(ids) > 1
