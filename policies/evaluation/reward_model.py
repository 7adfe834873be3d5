"""The default model of rewards, for dm and dr: ridge regressions from Gram sums that merge, one per fold and action.

Two passes over a log: `add` (and `merge`) every part and `fit`; then `predict`, where the model of a fold has learned
from the other folds only, so that no reward predicts itself. Fold = fold hash of the unit modulo 5, so that the rows of
a unit are never on both sides. Features come scaled by the spec's bounds: unscaled ones lose digits in the Gram sums.
"""

# N row, P feature, F fold, A action, C column (the constant, then features)

from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray

from policies.choose import FOLD_COUNT
from policies.errors import Unable

MAX_COLUMNS: Final = 256
_MAX_GRAM_CELLS: Final = 2**26  # 512 MiB of doubles
_PART_ROWS: Final = 16_384


class UnableToModelRewards(Unable):
    """There are too many columns, or too few rows, for the default model; dm and dr are left out for this reason."""


class OwnRowFeatures(NamedTuple):
    """Features of a request's own action rows and whether products of request and action features are among them."""

    columns: NDArray[np.float64]
    has_products: bool

    @property
    def note(self) -> str:
        """What to tell the reader of an estimate, empty when nothing was left out."""
        reason = f"the reward model leaves out products of request and action features (above {MAX_COLUMNS} columns)"
        return "" if self.has_products else reason


def own_row_features(request: NDArray[np.float64], actions: NDArray[np.float64]) -> OwnRowFeatures:
    """Return the features of own action rows for one shared model: [x, z, x⊗z], or [x, z] above 256 columns.

    Args:
        request: float64 [N, X], scaled.
        actions: float64 [N, A, Z], scaled; padded rows may hold anything finite.

    Raises:
        UnableToModelRewards: even [x, z] has more than 256 columns.

    >>> own_row_features(np.ones((2, 3)), np.ones((2, 4, 5))).columns.shape
    (2, 4, 23)
    """
    count, width, depth = len(request), request.shape[1], actions.shape[2]
    _check_columns(1 + width + depth)
    repeated = np.broadcast_to(request[:, None, :], (count, actions.shape[1], width))
    has_products = 1 + width + depth + width * depth <= MAX_COLUMNS
    parts = [repeated, actions]
    if has_products:
        parts.append((repeated[..., :, None] * actions[..., None, :]).reshape(*actions.shape[:2], width * depth))
    return OwnRowFeatures(np.concatenate(parts, axis=2), has_products)


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RewardModel:
    """Hold the Gram sums of a log; `add` and `merge` return new sums and leave these as they are.

    Attributes:
        gram: float64 [F, A, C, C], Σ x xᵀ with x = (1, features).
        moment: float64 [F, A, C], Σ x r; its first column sums the rewards, the gram's first cell counts the rows.
        square: float64 [F], Σ r².
        reward_low: the smallest reward seen; predictions stay above it.
        reward_high: the largest reward seen; predictions stay below it.
    """

    gram: NDArray[np.float64]
    moment: NDArray[np.float64]
    square: NDArray[np.float64]
    reward_low: float
    reward_high: float

    @classmethod
    def empty(cls, *, feature_count: int, action_count: int) -> Self:
        """Return the sums of no rows for features [N, P]; own action rows share one model: `action_count` 1.

        Raises:
            UnableToModelRewards: more than 256 columns, or columns² × actions beyond 512 MiB.
        """
        columns = 1 + feature_count
        _check_columns(columns)
        cells = FOLD_COUNT * action_count * columns**2
        if cells > _MAX_GRAM_CELLS:
            raise UnableToModelRewards(
                f"the reward model needs {cells:,} sums for {columns} columns and {action_count} actions, at most "
                f"{_MAX_GRAM_CELLS:,} are kept: give a reward model of your own, or do without dm and dr"
            )
        return cls(
            gram=np.zeros((FOLD_COUNT, action_count, columns, columns)),
            moment=np.zeros((FOLD_COUNT, action_count, columns)),
            square=np.zeros(FOLD_COUNT),
            reward_low=np.inf,
            reward_high=-np.inf,
        )

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return int(self.gram[:, :, 0, 0].sum())

    def add(
        self,
        features: NDArray[np.float64],
        *,
        actions: NDArray[np.integer],
        reward: NDArray[np.float64],
        fold: NDArray[np.integer],
    ) -> Self:
        """Return the sums with rows added.

        Args:
            features: float64 [N, P], scaled, of the logged choice; the constant is added here.
            actions: [N], index of the logged action; all 0 where own action rows share one model.
            reward: float64 [N].
            fold: [N], in 0…4: `policies.choose.folds_of` the units.

        Raises:
            ValueError: shapes, action indices or folds do not fit; or a value is not finite.
        """
        self._check(features, actions, reward, fold)
        if not len(reward):
            return self
        gram, moment = self.gram.copy(), self.moment.copy()
        columns = _with_constant(features)
        group = fold.astype(np.int64) * self.gram.shape[1] + actions
        order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.concatenate(([True], np.diff(group[order]) != 0)))
        for rows in np.split(order, starts[1:]):
            place = int(fold[rows[0]]), int(actions[rows[0]])
            for first in range(0, len(rows), _PART_ROWS):
                part = columns[rows[first : first + _PART_ROWS]]
                gram[place] += part.T @ part
                moment[place] += part.T @ reward[rows[first : first + _PART_ROWS]]
        return replace(
            self,
            gram=gram,
            moment=moment,
            square=self.square + np.bincount(fold, weights=reward * reward, minlength=FOLD_COUNT),
            reward_low=min(self.reward_low, float(reward.min())),
            reward_high=max(self.reward_high, float(reward.max())),
        )

    def merge(self, other: Self) -> Self:
        """Return the sums of both logs together.

        Raises:
            ValueError: the two differ in features or actions.
        """
        if self.gram.shape != other.gram.shape:
            raise ValueError(f"Gram sums of shapes {self.gram.shape} and {other.gram.shape} do not merge")
        return replace(
            self,
            gram=self.gram + other.gram,
            moment=self.moment + other.moment,
            square=self.square + other.square,
            reward_low=min(self.reward_low, other.reward_low),
            reward_high=max(self.reward_high, other.reward_high),
        )

    def fit(self, *, ridge: float = 1.0) -> "FittedRewardModel":
        """Return one model per fold, each learned from the other folds.

        Per action it is mean + x·β with β = (Σ x xᵀ + ridge I)⁻¹ Σ x (r − mean) and the mean of all rewards of those
        folds: what an action's few rows cannot say is drawn to that mean, and an action that was never logged there is
        predicted at the mean.

        Raises:
            UnableToModelRewards: all rows lie in one fold, so that nothing is left to learn its model from.
            ValueError: ridge is not positive.
        """
        if not ridge > 0:
            raise ValueError(f"ridge must be positive, found {ridge}")
        fits = [self._fit_without(fold, ridge) for fold in range(FOLD_COUNT)]
        mean = np.array([fit[0] for fit in fits])
        coefficients = np.stack([fit[1] for fit in fits])
        return FittedRewardModel(
            mean=mean,
            coefficients=coefficients,
            reward_low=self.reward_low,
            reward_high=self.reward_high,
            out_of_fold_error=self._error(mean, coefficients),
        )

    def _fit_without(self, fold: int, ridge: float) -> tuple[float, NDArray[np.float64]]:
        others = [other for other in range(FOLD_COUNT) if other != fold]
        gram, moment = self.gram[others].sum(axis=0), self.moment[others].sum(axis=0)
        count = gram[:, 0, 0].sum()
        if not count:
            raise UnableToModelRewards(
                f"the reward model of fold {fold} learns from the other {FOLD_COUNT - 1} folds, which hold none of the "
                f"{self.row_count} rows: more units are needed, or do without dm and dr"
            )
        mean = float(moment[:, 0].sum() / count)
        residual = moment - mean * gram[:, 0, :]
        penalized = gram + ridge * np.eye(gram.shape[1])
        return mean, np.linalg.solve(penalized, residual[..., None])[..., 0]

    def _error(self, mean: NDArray[np.float64], coefficients: NDArray[np.float64]) -> float:
        # Σ (r - mean - xβ)² of each fold follows from its own sums: β moved by the mean is linear in the columns.
        beta = coefficients.copy()
        beta[:, :, 0] += mean[:, None]
        cross = np.einsum("fac,fac->", beta, self.moment)
        squares = np.einsum("fac,facd,fad->", beta, self.gram, beta, optimize=True)
        return float(np.sqrt(max(self.square.sum() - 2 * cross + squares, 0.0) / self.row_count))

    def _check(
        self,
        features: NDArray[np.float64],
        actions: NDArray[np.integer],
        reward: NDArray[np.float64],
        fold: NDArray[np.integer],
    ) -> None:
        expected = (len(reward), self.gram.shape[2] - 1)
        if features.shape != expected or actions.shape != reward.shape or fold.shape != reward.shape:
            raise ValueError(
                f"expected features {expected} and flat actions, reward and fold, found {features.shape}, "
                f"{actions.shape}, {reward.shape} and {fold.shape}"
            )
        if len(reward):
            _check_index(actions, self.gram.shape[1], "actions")
            _check_index(fold, FOLD_COUNT, "fold")
        if not (np.isfinite(features).all() and np.isfinite(reward).all()):
            raise ValueError("features and reward must be finite")


@final
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FittedRewardModel:
    """Predict rewards by the model of each row's fold.

    Attributes:
        mean: float64 [F], the mean reward of the other folds.
        coefficients: float64 [F, A, C], of the constant and the features.
        reward_low: predictions are not below it.
        reward_high: predictions are not above it.
        out_of_fold_error: root mean square error on rows that the model has not learned from, in units of the reward.
    """

    mean: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    reward_low: float
    reward_high: float
    out_of_fold_error: float

    def predict(self, features: NDArray[np.float64], *, fold: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the predicted reward of every action, float64 [N, A], within the rewards that were seen.

        Args:
            features: float64 [N, P] with one model per action, or [N, A, P] of own action rows with the shared one.
            fold: [N], in 0…4, as in `add`.

        Raises:
            ValueError: shapes or folds do not fit.
        """
        if fold.shape != (len(features),) or features.shape[-1] != self.coefficients.shape[2] - 1:
            raise ValueError(f"features {features.shape} and fold {fold.shape} do not fit {self.coefficients.shape}")
        if features.ndim == 3 and self.coefficients.shape[1] != 1:
            raise ValueError("features of own action rows need a shared model (action_count 1)")
        if len(fold):
            _check_index(fold, FOLD_COUNT, "fold")
        shape = (len(features), features.shape[1] if features.ndim == 3 else self.coefficients.shape[1])
        predicted = np.empty(shape)
        for place in range(FOLD_COUNT):
            rows = np.flatnonzero(fold == place)
            if len(rows):
                constant = self.mean[place] + self.coefficients[place, :, 0]
                product = features[rows] @ self.coefficients[place, :, 1:].T
                predicted[rows] = (constant + product).reshape(len(rows), shape[1])
        return predicted.clip(self.reward_low, self.reward_high)


def _with_constant(features: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.ones((*features.shape[:-1], 1)), features], axis=-1)


def _check_columns(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise UnableToModelRewards(
            f"the reward model has {columns} columns, at most {MAX_COLUMNS} are fitted: drop fields, give a reward "
            "model of your own, or do without dm and dr"
        )


def _check_index(index: NDArray[np.integer], count: int, name: str) -> None:
    if int(index.min()) < 0 or int(index.max()) >= count:
        raise ValueError(f"{name} must lie in 0…{count - 1}, found {int(index.min())} to {int(index.max())}")
