"""A labelled set as a bandit: each row asks for its label, and a decision earns 1 when it names it.

The labels give full information: what any policy earns is known exactly. The policy that writes the log is a softened
classifier, fitted on rows of its own; the log holds only what it chose, as a real one would.

Source: the reduction from classification to bandits, Beygelzimer and Langford, The Offset Tree, KDD 2009, section 6.
"""

# N row, D feature, A class

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from policies.assemble import assemble
from policies.choose import ONE, draw, draw_uniforms, to_lattice
from policies.columns import Columns, Values
from policies.encode import Encoder
from policies.errors import ContentRefused
from policies.events import Decision, DecisionRequest, Outcome, from_bytes, microseconds
from policies.importers.inference import domain_of, number_field
from policies.importers.lines import read_rows
from policies.log import Feedback, Numbers, Places, Ragged
from policies.policy import Policy
from policies.spec import ActionSet, Field, PolicySpec, Reward

FEATURES: Final = "features"
REWARD: Final = "correct"
LOGGING_VALUE: Final = 0.65
"""How often the logging policy is right: enough to learn from, and room to improve."""

LOGGER_SHARE: Final = 0.1
FLOOR: Final = 0.1
_START_US: Final = 1_700_000_000_000_000
_STEP_US: Final = 1_000_000
_RIDGE: Final = 1.0
_BISECTIONS: Final = 60
_BATCH: Final = 16_384


class UnableToImportLabels(ContentRefused):
    """A file is not a labelled set: features that are numbers, then a class."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledSet:
    """Hold a labelled set, its rows shuffled, as a bandit with full information.

    Attributes:
        name: the domain, and the first part of each request's id.
        features: float64 [N, D].
        labels: int64 [N], places among the spec's action ids.
        spec: one vector field, the classes as actions, one reward in [0, 1].
    """

    name: str
    features: Numbers
    labels: Places
    spec: PolicySpec

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names: the spec's action ids."""
        return self.spec.actions.ids or ()

    def columns(self, rows: Places) -> Columns:
        """Return some rows, int64 [K], as the encoder reads requests."""
        request: dict[str, Values] = {FEATURES: self.features[rows]}
        return Columns(count=len(rows), request=request)

    def request_ids(self, rows: Places) -> list[str]:
        """Return the ids of some rows' requests."""
        return [f"{self.name}-{row:07d}" for row in rows.tolist()]

    def requests(self, rows: Places) -> list[DecisionRequest]:
        """Return some rows, int64 [K], as requests, without their labels."""
        return [
            DecisionRequest(
                request_id=request_id,
                domain=self.spec.domain,
                time=_time_of(row),
                unit=request_id,
                fields={FEATURES: self.features[row].tolist()},
            )
            for row, request_id in zip(rows.tolist(), self.request_ids(rows), strict=True)
        ]

    def outcomes(self, decisions: Iterable[Decision], *, delay_us: int = _STEP_US) -> list[Outcome]:
        """Return what came of each decision: 1 where its applied choice is the row's label, else 0, and that is final.

        Raises:
            ValueError: a decision is on a request that is not of this set.
        """
        return [self._outcome(decision, delay_us) for decision in decisions]

    def _outcome(self, decision: Decision, delay_us: int) -> Outcome:
        request_id = from_bytes(bytes(decision.request), DecisionRequest).request_id
        prefix, _, number = request_id.rpartition("-")
        if prefix != self.name or not number.isdigit() or int(number) >= len(self):
            raise ValueError(f"request {request_id!r} is not of the labelled set {self.name!r}")
        choice = decision.choices[0]
        action = choice.action if choice.applied is None else choice.applied
        return Outcome(
            request_id=request_id,
            domain=self.spec.domain,
            time=microseconds(decision.time) + delay_us,
            rewards={REWARD: float(action == self.classes[int(self.labels[int(number)])])},
            final=True,
        )

    def value(self, rows: Places, policy: Policy) -> float:
        """Return what a policy earns on some rows, int64 [K], exactly: its mean probability of the label."""
        return float(self.probabilities(rows, policy)[np.arange(len(rows)), self.labels[rows]].mean())

    def probabilities(self, rows: Places, policy: Policy) -> Numbers:
        """Return a policy's probabilities on some rows, as they are served: multiples of 2^-32, float64 [K, A]."""
        encoder = Encoder(self.spec)
        parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        lattices = []
        for part in parts:
            (bucket,) = encoder.encode(self.columns(part)).buckets
            lattices.append(to_lattice(policy.propose(bucket.arrays, bucket.mask)[:, 0]))
        return np.concatenate(lattices).astype(np.float64) / ONE

    def as_feedback(self, rows: Places, policy: Policy, *, salt: bytes = b"") -> Feedback:
        """Log a policy's choices on some rows, int64 [K]: what it drew, how probable that was, and what it earned."""
        probabilities = self.probabilities(rows, policy)
        request_ids = self.request_ids(rows)
        uniforms = draw_uniforms(request_ids, [""] * len(rows), salt=salt)
        actions = draw((probabilities * ONE).astype(np.int64), uniforms)
        width = probabilities.shape[1]
        floor = np.floor(policy.spec.floor / width * ONE) / ONE
        return assemble(
            self.spec,
            columns=self.columns(rows),
            request_ids=request_ids,
            actions=[self.classes[action] for action in actions.tolist()],
            propensity=probabilities[np.arange(len(rows)), actions],
            probabilities=Ragged(lengths=np.full(len(rows), width, dtype=np.int64), values=probabilities.ravel()),
            propensity_floor=np.full(len(rows), floor if floor > 0 else np.nan),
            rewards={REWARD: (actions == self.labels[rows]).astype(np.float64)},
            times=np.array([_time_of(row) for row in rows.tolist()], dtype=np.int64),
            policies=[policy.identity[:32]] * len(rows),
        )


def labelled_set(
    name: str, features: Numbers, labels: Sequence[str], *, seed: int, bound_share: float = 1.0, floor: float = FLOOR
) -> LabelledSet:
    """Make a labelled set of features, float64 [N, D], and class names [N]; its rows are shuffled by the seed.

    Bounds are those of the first share of the shuffled rows, so that what comes after them stays unseen.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    classes = sorted(set(labels), key=_by_number)
    places = {word: place for place, word in enumerate(classes)}
    seen = np.arange(max(1, round(len(labels) * bound_share)))
    spec = PolicySpec(
        domain=domain_of(name),
        fields=(number_field(FEATURES, features[shuffled], rows=seen),),
        actions=ActionSet(kind="choice", ids=tuple(classes), fallback="first"),
        rewards=(Reward(name=REWARD, lower=0, upper=1),),
        floor=floor,
    )
    return LabelledSet(
        name=domain_of(name),
        features=features[shuffled],
        labels=np.array([places[labels[row]] for row in shuffled.tolist()], dtype=np.int64),
        spec=spec,
    )


def read_labelled(source: Path, *, seed: int = 0, bound_share: float = 1.0, floor: float = FLOOR) -> LabelledSet:
    """Read a CSV of features and, last, a class, as UCI's pendigits and optdigits; a header is skipped.

    Raises:
        UnableToImportLabels: a line has another number of values, or a feature is not a finite number.
        UnableToReadRows: the file is no CSV.
    """
    lines = [[cell.strip() for cell in row] for row in read_rows(source)]
    lines = lines[1:] if lines and not any(map(_is_number, lines[0][:-1])) else lines
    if len(lines) < 2 or len(lines[0]) < 2:
        raise UnableToImportLabels(f"{source}: expected lines of features and, last, a class, found {len(lines)} lines")
    for number, line in enumerate(lines):
        if len(line) != len(lines[0]) or not all(map(_is_number, line[:-1])) or not line[-1]:
            raise UnableToImportLabels(
                f"{source}: expected {len(lines[0]) - 1} finite numbers and a class in each line, found {line} "
                f"in row {number}"
            )
    features = np.array([line[:-1] for line in lines], dtype=np.float64)
    labels = [line[-1] for line in lines]
    return labelled_set(source.stem, features, labels, seed=seed, bound_share=bound_share, floor=floor)


def split_rows(count: int, *, shares: Sequence[float]) -> list[Places]:
    """Return consecutive runs of rows by their shares; what is left over goes to the last.

    >>> [len(part) for part in split_rows(10, shares=(0.1, 0.5, 0.4))]
    [1, 5, 4]
    """
    stops = [round(count * share) for share in np.cumsum(shares).tolist()]
    stops[-1] = count
    return [np.arange(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


@final
class SoftenedClassifier:
    """Choose by softmax over a linear classifier's scores, mixed with the spec's exploration floor."""

    def __init__(self, spec: PolicySpec, *, weights: Numbers, sharpness: float) -> None:
        """Keep the weights, float64 [D + 1, A] (the last row is the intercept), and what scores are multiplied by."""
        (field,) = spec.flat_fields
        self.spec = spec
        self._field = field
        self._weights = weights
        self._sharpness = sharpness
        self.identity = sha256(weights.tobytes() + repr(sharpness).encode()).hexdigest()

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Return probabilities, float64 [B, 1, A]."""
        scores = _design(arrays["request"], self._field) @ self._weights
        soft = _soften(scores, self._sharpness, self.spec.floor)
        proposed: NDArray[np.floating] = soft[:, None, :] * mask
        return proposed


def fit_logger(labelled: LabelledSet, rows: Places, *, value: float = LOGGING_VALUE) -> SoftenedClassifier:
    """Fit a classifier by ridge regression on some rows, int64 [K], and soften it until it earns about `value` there.

    These rows must not be logged: the log would know their labels.
    """
    (field,) = labelled.spec.flat_fields
    design = _design(np.clip(labelled.features[rows], field.lowers, field.uppers), field)
    labels = labelled.labels[rows]
    targets = np.eye(len(labelled.classes))[labels]
    gram = design.T @ design + _RIDGE * np.eye(design.shape[1])
    weights: Numbers = np.linalg.solve(gram, design.T @ targets).astype(np.float64)
    sharpness = _sharpness(design @ weights, labels, floor=labelled.spec.floor, value=value)
    return SoftenedClassifier(labelled.spec, weights=weights, sharpness=sharpness)


def _sharpness(scores: Numbers, labels: Places, *, floor: float, value: float) -> float:
    """Return by bisection what the scores [K, A] must be multiplied by; the most there is where no value suffices."""
    low, high = 0.0, 100.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        earned = _soften(scores, middle, floor)[np.arange(len(labels)), labels].mean()
        low, high = (middle, high) if earned < value else (low, middle)
    return low


def _design(values: Numbers, field: Field) -> Numbers:
    """Scale values [N, D] to [0, 1] by the field's bounds and add the constant: [N, D + 1]."""
    lower, upper = np.array(field.lowers), np.array(field.uppers)
    scaled = (values - lower) / np.maximum(upper - lower, np.finfo(np.float64).tiny)
    return np.concatenate([scaled, np.ones((len(values), 1))], axis=1)


def _soften(scores: Numbers, sharpness: float, floor: float) -> Numbers:
    powers = np.exp(sharpness * (scores - scores.max(axis=1, keepdims=True)))
    soft: Numbers = (1 - floor) * powers / powers.sum(axis=1, keepdims=True) + floor / scores.shape[1]
    return soft


def import_classification(source: Path, *, train_share: float | None = None, seed: int = 0) -> Feedback:
    """Read a labelled CSV as a log: a tenth of its shuffled rows fits the logging policy, which logs all others.

    Raises:
        UnableToImportLabels: the file is not a labelled set.
    """
    share = 1.0 if train_share is None else LOGGER_SHARE + (1 - LOGGER_SHARE) * train_share
    labelled = read_labelled(source, seed=seed, bound_share=share)
    fitted, logged = split_rows(len(labelled), shares=(LOGGER_SHARE, 1 - LOGGER_SHARE))
    return labelled.as_feedback(logged, fit_logger(labelled, fitted))


def _time_of(row: int) -> int:
    return _START_US + row * _STEP_US


def _by_number(word: str) -> tuple[float, str]:
    return (float(word), word) if _is_number(word) else (np.inf, word)


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
