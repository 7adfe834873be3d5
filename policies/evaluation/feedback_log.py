"""A log of feedback: its requests are encoded again, so that any policy over its actions can be its target."""

# B request, S slot, A action, N row of the log, K scored row

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from policies.arrow import arrow
from policies.errors import UsageProblem
from policies.evaluation.bounds import WeightBoundSource
from policies.evaluation.question import Objective, Question, Weighed
from policies.evaluation.reward_model import UnableToModelRewards
from policies.evaluation.score import ActionValues, OnnxValues, ScoredLog, fit_values, score
from policies.evaluation.sums import Sums
from policies.evaluation.targets import Target, UnableToFindTarget, policy_of
from policies.feedback import Feedback, read_columns, read_feedback
from policies.policy import Policy
from policies.spec import PolicySpec, read_spec

_FLOAT32_ROUNDING: Final = 1e-6
"""Served probabilities are float32 on a lattice of 2⁻³²: a weight may pass its bound by this share."""

_EXPECTED: Final = "p_eval"
_MODEL: Final = ("q_logged", "q_pi")


class SpecNotTaken(UsageProblem):
    """A spec is given for a log whose format brings its own."""


class UnableToUseRewardModel(UsageProblem):
    """A reward model predicts one reward, and several were asked for."""


@final
class ParquetColumns:
    """Read extra columns of a log's file; they stand beside the feedback's rows, in their order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names: Sequence[str] = arrow("pyarrow.parquet").read_schema(path).names

    def read(self, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Return some columns [N]: numbers float64, NaN for null."""
        return read_columns(self._path, names)


@final
class _Watched:
    """A policy that keeps the largest probability that it has proposed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.spec, self.identity = policy.spec, policy.identity
        self.largest = 0.0

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        proposed = self._policy.propose(arrays, mask)
        self.largest = max(self.largest, float(proposed.max(initial=0.0)))
        return proposed


@final
class FeedbackLog:
    """Weigh feedback for policies; predictions for dm and dr are fitted once per objective."""

    def __init__(self, feedback: Feedback, *, columns: ParquetColumns | None = None) -> None:
        """Keep the log; `columns` reads extra ones (p_eval, q_logged, q_pi) where its file may hold them."""
        self._feedback, self._columns = feedback, columns
        self._values: dict[str, tuple[ActionValues | None, Sequence[str]]] = {}

    @property
    def spec(self) -> PolicySpec:
        return self._feedback.spec

    @property
    def rewards(self) -> tuple[str, ...]:
        return tuple(self._feedback.rewards)

    def weigh(self, target: Target, objective: Objective, *, question: Question) -> Weighed:
        """Weigh every row for a target.

        Raises:
            UnableToScore: the log is deterministic, or a column holds what cannot be weighted.
            UnableToUseFeedback: the log does not fit the target's spec.
            UnableToFindTarget: `columns` of a log without p_eval.
        """
        if target.reference.kind == "logged":
            return _weighed(score(self._feedback, None, reward=objective.weights), question)
        if target.reference.kind == "columns":
            return self._weigh_columns(target, objective, question)
        values, notes = self._values_for(objective, question)
        policy = _Watched(policy_of(target.reference, spec=self.spec))
        log = score(self._feedback, policy, reward=objective.weights, values=values)
        if values is not None and log.scored.q_logged is None:
            notes = (*notes, "dm and dr are left out: a reward of a whole request of several slots has no prediction")
        bound = self._floor_bound(policy.largest, log)
        return _weighed(log, question, bound=bound, source="log" if bound is None else "floor", notes=notes)

    def _weigh_columns(self, target: Target, objective: Objective, question: Question) -> Weighed:
        """Take the target's probabilities, and predictions if there are any, from the log's own columns."""
        if self._columns is None or _EXPECTED not in self._columns.names:
            raise UnableToFindTarget(f"target {target.name!r} (columns) needs the column {_EXPECTED} in the log")
        expected = self._columns.read([_EXPECTED])[_EXPECTED]
        log = score(self._feedback, None, reward=objective.weights)
        q_logged, q_target, notes = self._predictions(objective, log.rows)
        scored = replace(log.scored, target=expected[log.rows], q_logged=q_logged, q_target=q_target)
        bound = self._floor_bound(1.0, log)  # p_eval is known of logged actions only; none can be above one
        source: WeightBoundSource = "log" if bound is None else "floor"
        return _weighed(replace(log, scored=scored), question, bound=bound, source=source, notes=notes)

    def _predictions(
        self, objective: Objective, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, Sequence[str]]:
        assert self._columns is not None
        if not set(_MODEL) <= set(self._columns.names):
            return None, None, ("dm and dr are left out: the log has no columns q_logged and q_pi",)
        if len(self.rewards) > 1:
            return None, None, ("dm and dr are left out: q_logged and q_pi do not say which reward they predict",)
        columns = self._columns.read(_MODEL)
        (weight,) = objective.weights.values()
        return weight * columns["q_logged"][rows], weight * columns["q_pi"][rows], ()

    def _values_for(self, objective: Objective, question: Question) -> tuple[ActionValues | None, Sequence[str]]:
        """Return the model for dm and dr, or why there is none."""
        if question.reward_model is not None:
            return self._given_values(question.reward_model, question), ()
        if objective.name not in self._values:
            try:
                self._values[objective.name] = fit_values(self._feedback, reward=objective.weights), ()
            except UnableToModelRewards as error:
                self._values[objective.name] = None, (f"dm and dr are left out: {error}",)
        return self._values[objective.name]

    def _given_values(self, path: Path, question: Question) -> ActionValues:
        from policies.onnx_policy import reward_model_from_onnx  # imports onnxruntime, which few questions need

        if len(question.objectives(self.rewards, spec=self.spec)) > 1:
            raise UnableToUseRewardModel("a reward model predicts one reward: name it with --reward, or weigh several")
        return OnnxValues(reward_model_from_onnx(path, spec=self.spec))

    def _floor_bound(self, largest_target: float, log: ScoredLog) -> float | None:
        """Return the largest target probability ÷ the smallest floor; None where some row has no floor.

        A row of a whole request has a weight per slot, and the product of their bounds.
        """
        floors = self._feedback.propensity_floor
        drawn = np.isfinite(self._feedback.propensity)
        if not len(log.rows) or not np.isfinite(floors[drawn]).all() or not (floors[drawn] > 0).all():
            return None
        bound = max(largest_target / float(floors[drawn].min()), 1.0)
        bound **= self._most_slots(log.rows)
        seen = float(log.scored.weight.max())
        return seen if bound < seen <= bound * (1 + _FLOAT32_ROUNDING) else bound

    def _most_slots(self, rows: NDArray[np.int64]) -> int:
        """Return the largest number of choices that one scored row stands for."""
        is_whole = np.isnan(self._feedback.propensity[rows])
        if not is_whole.any():
            return 1
        drawn = self._feedback.request_rows[np.isfinite(self._feedback.propensity)]
        slots = np.bincount(drawn, minlength=self._feedback.columns.count)
        return int(slots[self._feedback.request_rows[rows[is_whole]]].max())


def open_log(path: Path, *, format: str, spec: Path | None) -> FeedbackLog:  # noqa: A002
    """Open a log of a format other than npz.

    Raises:
        LogNotFound, SpecNotFound: a file is missing.
        SpecNotTaken: a spec is given for a format that brings its own.
        ContentRefused: the content is not what the format says.
        UnableToUseParquet: pyarrow is not installed.
    """
    if format == "feedback":
        feedback = read_feedback(path, spec=None if spec is None else read_spec(spec))
        return FeedbackLog(feedback, columns=ParquetColumns(path))
    if spec is not None:
        raise SpecNotTaken(f"a log of the format {format} brings its own spec; --spec goes with feedback")
    from policies.importers.importing import import_log

    is_parquet = path.suffix in (".parquet", ".pq")
    return FeedbackLog(import_log(path, format=format), columns=ParquetColumns(path) if is_parquet else None)


def _weighed(
    log: ScoredLog,
    question: Question,
    *,
    bound: float | None = None,
    source: WeightBoundSource = "log",
    notes: Sequence[str] = (),
) -> Weighed:
    sums = Sums.empty(clip=question.clip).add(log.scored, excluded=log.excluded, pending=log.pending)
    return Weighed(sums=sums, weight_bound=bound, source=source, notes=notes)
