"""The spec of a policy: which fields it sees, which actions it may take, which rewards judge it.

A spec is data. It travels inside the artifact's manifest, beside a log (`LOG.spec.json`) and nowhere else; both
training and serving encode by it, so there is one place where bounds, vocabularies and orders are said.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from policies.errors import ContentRefused, UsageProblem

Bound = float | tuple[float, ...]
Constant = str | float | tuple[float, ...]
Axis = Literal["request", "action", "slot"]

MAX_ID_BYTES = 256
BOUND_TOLERANCE = 1e-6
"""A value within this share of (upper - lower) outside a bound is clipped, whatever the field's mode."""

_DOMAIN = re.compile(r"[a-z0-9][a-z0-9_\-]*")


class UnableToReadSpec(ContentRefused):
    """A spec file is not a spec."""


class SpecNotFound(UsageProblem):
    """There is no spec file where one was expected."""


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Frozen, and strict about unknown keys."""


class Field(_Data, frozen=True, kw_only=True):
    """Say what one field of a request, an action or a slot may hold.

    A number has `lower` and `upper`; a category has a `vocabulary` (code 0 is any value outside it). `width` is the
    length of a vector; `steps` is the maximal length of a sequence (right-aligned when encoded). A vector's bounds are
    one number for all components or one per component. `missing` is what a null stands for; a missing sequence has no
    steps.
    """

    name: str
    units: str = ""
    axis: Axis = "request"
    width: int = 1
    steps: int | None = None
    lower: Bound | None = None
    upper: Bound | None = None
    vocabulary: tuple[str, ...] | None = None
    outside: Literal["refuse", "clip"] = "refuse"
    missing: Constant = "refuse"

    def __post_init__(self) -> None:
        where = f"field {self.name!r}"
        _require(bool(self.name), "a field's name must not be empty")
        _require(self.width >= 1, f"{where}: width must be at least 1, found {self.width}")
        _require(self.steps is None or self.steps >= 1, f"{where}: steps must be at least 1, found {self.steps}")
        _require(self.steps is None or self.axis == "request", f"{where}: only a request's field may be a sequence")
        if self.is_category:
            self._check_category(where)
        else:
            self._check_number(where)

    @property
    def is_category(self) -> bool:
        """Say whether the field is a category (else it is a number)."""
        return self.vocabulary is not None

    @property
    def lowers(self) -> tuple[float, ...]:
        """Return the lower bound of each of the `width` components; codes of a category start at 0."""
        return self._spread(0.0 if self.is_category else self.lower)

    @property
    def uppers(self) -> tuple[float, ...]:
        """Return the upper bound of each of the `width` components; a category's is its number of words."""
        return self._spread(float(len(self.vocabulary)) if self.vocabulary is not None else self.upper)

    def _spread(self, bound: Bound | None) -> tuple[float, ...]:
        if bound is None:
            raise ValueError(f"field {self.name!r} has no bound")
        return bound if isinstance(bound, tuple) else (bound,) * self.width

    def _check_category(self, where: str) -> None:
        words = self.vocabulary or ()
        _require(self.lower is None and self.upper is None, f"{where}: a category has no bounds")
        _require(len(set(words)) == len(words), f"{where}: the vocabulary names a word twice")
        _require(self.width == 1 and self.steps is None, f"{where}: a category is a single value, not a vector")
        _require(isinstance(self.missing, str), f"{where}: missing must be 'refuse' or a word, found {self.missing!r}")

    def _check_number(self, where: str) -> None:
        _require(self.lower is not None and self.upper is not None, f"{where}: a number needs lower and upper bounds")
        lowers, uppers = self.lowers, self.uppers
        _require(len(lowers) == len(uppers) == self.width, f"{where}: give one bound, or one for each of {self.width}")
        for low, high in zip(lowers, uppers, strict=True):
            _require(math.isfinite(low) and math.isfinite(high), f"{where}: bounds must be finite")
            _require(low <= high, f"{where}: lower must not exceed upper, found {low} > {high}")
        self._check_fill(where)

    def _check_fill(self, where: str) -> None:
        if self.missing == "refuse":
            return
        fills = self.missing if isinstance(self.missing, tuple) else (self.missing,) * self.width
        wanted = "a number" if self.width == 1 else f"a number or {self.width} numbers"
        is_numbers = all(type(fill) in (float, int) for fill in fills) and len(fills) == self.width
        _require(is_numbers, f"{where}: missing must be 'refuse' or {wanted}, found {self.missing!r}")
        _require(all(map(math.isfinite, map(float, fills))), f"{where}: missing must be finite, found {self.missing!r}")
        if self.outside == "refuse":
            for fill, low, high in zip(fills, self.lowers, self.uppers, strict=True):
                _require(low <= float(fill) <= high, f"{where}: missing must lie in [{low}, {high}], found {fill}")


class ActionSet(_Data, frozen=True, kw_only=True):
    """Say what may be done: one of some ids, a vector of quantities, or one id for each slot.

    `ids` None means that each request brings its own rows. `features` holds the action fields of fixed ids, one value
    per id in their order. `names`, `units`, `lower` and `upper` describe the components of a quantity.
    """

    kind: Literal["choice", "quantity", "assignment"]
    ids: tuple[str, ...] | None = None
    features: dict[str, tuple[Constant, ...]] = {}
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    fallback: str | tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind == "quantity":
            self._check_quantity()
        else:
            self._check_choice()

    def _check_quantity(self) -> None:
        size = len(self.names)
        _require(size > 0, "a quantity needs the names of its components")
        _require(self.ids is None and not self.features, "a quantity has no action ids")
        lengths = {len(self.units), len(self.lower), len(self.upper)}
        _require(lengths == {size}, f"give units, lower and upper for each of the {size} components")
        _require(all(map(math.isfinite, (*self.lower, *self.upper))), "the bounds of a quantity must be finite")
        _require(all(a <= b for a, b in zip(self.lower, self.upper, strict=True)), "lower must not exceed upper")
        if self.fallback is not None:
            _require(
                isinstance(self.fallback, tuple) and len(self.fallback) == size,
                f"the fallback of a quantity is a vector of {size}, found {self.fallback!r}",
            )
            fallback = [float(value) for value in self.fallback]
            components = zip(fallback, self.lower, self.upper, strict=True)
            is_within = all(low <= value <= high for value, low, high in components)
            _require(is_within, f"the fallback must lie within the bounds, found {self.fallback!r}")

    def _check_choice(self) -> None:
        _require(not isinstance(self.fallback, tuple), "the fallback of a choice is 'first' or an id, not a vector")
        if self.ids is None:
            _require(not self.features, "features of actions are for fixed ids; own actions bring theirs")
            return
        _require(len(self.ids) > 0, "give at least one action id")
        _require(len(set(self.ids)) == len(self.ids), "an action id is named twice")
        _require(all(map(is_id, self.ids)), "an action id has 1 to 256 bytes and holds no U+0000")
        _require(
            self.fallback in (None, "first", *self.ids), f"the fallback {self.fallback!r} is neither 'first' nor an id"
        )
        for name, values in self.features.items():
            _require(len(values) == len(self.ids), f"feature {name!r}: give one value for each of {len(self.ids)} ids")


class Reward(_Data, frozen=True, kw_only=True):
    """Name one goal: maximized, within [lower, upper]; after `horizon_s` without an outcome it is `default`."""

    name: str
    units: str = ""
    lower: float | None = None
    upper: float | None = None
    default: float | None = None
    horizon_s: float | None = None

    def __post_init__(self) -> None:
        where = f"reward {self.name!r}"
        _require(bool(self.name), "a reward's name must not be empty")
        for title, value in (("lower", self.lower), ("upper", self.upper), ("default", self.default)):
            _require(value is None or math.isfinite(value), f"{where}: {title} must be finite, found {value}")
        if self.lower is not None and self.upper is not None:
            found = f"{self.lower} > {self.upper}"
            _require(self.lower <= self.upper, f"{where}: lower must not exceed upper, found {found}")
        if self.horizon_s is not None:
            is_time = math.isfinite(self.horizon_s) and self.horizon_s >= 0
            _require(is_time, f"{where}: horizon_s must be a number of seconds, found {self.horizon_s}")


class Output(_Data, frozen=True, kw_only=True):
    """Name one output of recourse with its units; `names` are the components of a vector."""

    name: str
    units: str = ""
    names: tuple[str, ...] = ()


class RecourseSpec(_Data, frozen=True, kw_only=True):
    """Say which recourse turns a proposed action into an applied one, and what it reports."""

    kind: str
    outputs: tuple[Output, ...] = ()


class PolicySpec(_Data, frozen=True, kw_only=True):
    """Say everything that encoding, choosing and judging need to know of a policy.

    `floor` is the exploration floor: each eligible action has at least probability floor / (number of eligible ones).

    >>> spec = PolicySpec(domain="shop", actions=ActionSet(kind="choice", ids=("left", "right")),
    ...                   fields=(Field(name="hour", units="h", lower=0, upper=24),), rewards=(Reward(name="click"),))
    >>> spec.request_columns
    ('hour',)
    """

    domain: str
    fields: tuple[Field, ...] = ()
    actions: ActionSet
    rewards: tuple[Reward, ...] = ()
    floor: float = 0.0
    recourse: RecourseSpec | None = None

    def __post_init__(self) -> None:
        _require(bool(_DOMAIN.fullmatch(self.domain)), f"a domain is lower case [a-z0-9_-], found {self.domain!r}")
        _require(0.0 <= self.floor <= 1.0, f"the exploration floor lies in [0, 1], found {self.floor}")
        for title, names in (("field", [f.name for f in self.fields]), ("reward", [r.name for r in self.rewards])):
            _require(len(set(names)) == len(names), f"a {title} is named twice")
        columns = column_names(self.on("request"))
        _require(len(set(columns)) == len(columns), "a field is named like a component of a vector")
        reserved = {"id", "eligible"} & {f.name for f in self.fields if f.axis != "request"}
        _require(not reserved, f"{sorted(reserved)} are columns of every table, not names of fields")
        self._check_actions()

    def on(self, axis: Axis) -> tuple[Field, ...]:
        """Return the fields of one axis, in the spec's order."""
        return tuple(field for field in self.fields if field.axis == axis)

    @property
    def flat_fields(self) -> tuple[Field, ...]:
        """Return the request's fields that are not sequences: the columns of the graph's input `request`."""
        return tuple(field for field in self.on("request") if field.steps is None)

    @property
    def sequence_fields(self) -> tuple[Field, ...]:
        """Return the request's sequences; each is a graph input of its own."""
        return tuple(field for field in self.on("request") if field.steps is not None)

    @property
    def request_columns(self) -> tuple[str, ...]:
        """Return the names of the columns of the graph's input `request`; a vector's carry `:index`."""
        return column_names(self.flat_fields)

    @property
    def is_quantity(self) -> bool:
        """Say whether the policy proposes quantities (else it draws from probabilities)."""
        return self.actions.kind == "quantity"

    @property
    def has_own_actions(self) -> bool:
        """Say whether each request brings its own action rows."""
        return not self.is_quantity and self.actions.ids is None

    @property
    def has_slots(self) -> bool:
        """Say whether one request asks for several choices."""
        return self.actions.kind == "assignment"

    def reward(self, name: str) -> Reward:
        """Return the reward of that name.

        Raises:
            UsageProblem: no reward has that name.
        """
        for reward in self.rewards:
            if reward.name == name:
                return reward
        names = ", ".join(r.name for r in self.rewards) or "none"
        raise UsageProblem(f"there is no reward {name!r} in the spec of {self.domain!r}; it has {names}")

    def reward_bounds(self, weights: Mapping[str, float]) -> tuple[float, float] | None:
        """Return the least and the largest weighted sum of rewards, None where the spec does not bound all of them."""
        rewards = {reward.name: reward for reward in self.rewards}
        low = high = 0.0
        for name, weight in weights.items():
            reward = rewards.get(name)
            if reward is None or reward.lower is None or reward.upper is None:
                return None
            ends = weight * reward.lower, weight * reward.upper
            low, high = low + min(ends), high + max(ends)
        return low, high

    def _check_actions(self) -> None:
        if self.is_quantity:
            found = [f.name for f in self.fields if f.axis != "request"]
            _require(not found, f"a quantity has no action or slot fields, found {found}")
        _require(not self.on("slot") or self.has_slots, "slot fields need actions of kind 'assignment'")
        if self.actions.ids is not None:
            named = {f.name for f in self.on("action")}
            unknown = set(self.actions.features) - named
            _require(not unknown, f"features {sorted(unknown)} are not action fields")


def column_names(fields: tuple[Field, ...]) -> tuple[str, ...]:
    """Return one name per encoded column: the field's, or `name:index` for each component of a vector."""
    return tuple(
        field.name if field.width == 1 else f"{field.name}:{index}" for field in fields for index in range(field.width)
    )


def is_id(text: str) -> bool:
    """Say whether a text may be an id: 1 to 256 bytes of UTF-8, no U+0000.

    >>> is_id("store-17"), is_id(""), is_id("é" * 129)
    (True, False, False)
    """
    if not text or "\x00" in text or len(text) > MAX_ID_BYTES:
        return False
    if text.isascii():
        return True
    try:
        return len(text.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:
        return False


def spec_to_bytes(spec: PolicySpec) -> bytes:
    """Write a spec as readable JSON; equal specs give equal bytes, whether their numbers were whole or not."""
    canonical = msgspec.json.decode(msgspec.json.encode(spec), type=PolicySpec)
    return msgspec.json.format(msgspec.json.encode(canonical), indent=2) + b"\n"


def spec_from_bytes(data: bytes, *, where: str = "spec") -> PolicySpec:
    """Read a spec from JSON.

    Raises:
        UnableToReadSpec: the bytes are not JSON, or not a consistent spec; the message names the place.
    """
    try:
        return msgspec.json.decode(data, type=PolicySpec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnableToReadSpec(f"{where}: {error}") from error


def read_spec(path: Path) -> PolicySpec:
    """Read a spec file.

    Raises:
        SpecNotFound: there is no such file.
        UnableToReadSpec: it is not a spec.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SpecNotFound(f"expected a spec at {path}: {error.strerror}; name one with --spec") from error
    return spec_from_bytes(data, where=str(path))


def spec_path_of(log: Path) -> Path:
    """Return where the spec of a log lies: `LOG.spec.json` beside `LOG.parquet`, shared by its parts.

    >>> spec_path_of(Path("demo/feedback.parquet")).name
    'feedback.spec.json'
    >>> spec_path_of(Path("men.train.parquet")).name
    'men.spec.json'
    """
    name = log.name.removesuffix(".parquet")
    own = log.with_name(f"{name}.spec.json")
    whole = log.with_name(f"{name.removesuffix('.train').removesuffix('.test')}.spec.json")
    return whole if whole != own and not own.exists() else own


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
