"""Logs that a policy can be learned from, with the truth beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.assemble import assemble
from policies.columns import Columns, TableColumns
from policies.feedback import Feedback
from policies.spec import ActionSet, Field, PolicySpec, Reward

Array = NDArray[np.float64]
IDS = ("a", "b", "c", "d")
CLICK = Reward(name="click", lower=0, upper=1)


def shop_spec(*, floor: float = 0.0, rewards: tuple[Reward, ...] = (CLICK,)) -> PolicySpec:
    """Four actions, two numbers."""
    fields = (Field(name="x", lower=0, upper=10), Field(name="y", lower=-1, upper=1))
    return PolicySpec(
        domain="shop", fields=fields, actions=ActionSet(kind="choice", ids=IDS), rewards=rewards, floor=floor
    )


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A log, the spec, and the mean reward of every action in fresh contexts: truth [M, A] for inputs [M, ...]."""

    spec: PolicySpec
    feedback: Feedback
    arrays: Mapping[str, Array]
    truth: Array
    logged_value: float

    def value_of(self, probabilities: Array) -> float:
        """Return what probabilities [M, A] truly earn."""
        return float((probabilities * self.truth).sum(axis=1).mean())


def shop(
    count: int, *, seed: int, skew: float = 0.0, base: float = 0.1, lift: float = 0.8, floor: float = 0.0
) -> Taught:
    """Return a log in which the quadrant of (x, y) tells the one action that earns; skew 0 logs uniformly."""
    generator = np.random.default_rng(seed)
    spec = shop_spec(floor=floor)
    x, y, truth = _contexts(generator, count, base, lift)
    logging = _logging(truth, skew)
    action = _draw(generator, logging)
    rows = np.arange(count)
    reward = (generator.random(count) < truth[rows, action]).astype(np.float64)
    feedback = assemble(
        spec,
        columns=Columns(count=count, request={"x": x, "y": y}),
        actions=[IDS[place] for place in action.tolist()],
        propensity=logging[rows, action],
        rewards={"click": reward},
    )
    fresh_x, fresh_y, fresh = _contexts(generator, 2_000, base, lift)
    return Taught(
        spec=spec,
        feedback=feedback,
        arrays={"request": np.stack([fresh_x, fresh_y], axis=1)},
        truth=fresh,
        logged_value=float((_logging(fresh, skew) * fresh).sum(axis=1).mean()),
    )


def market(count: int, *, seed: int) -> Taught:
    """Return a log whose requests bring two to five rows of their own; the cheapest row earns most."""
    generator = np.random.default_rng(seed)
    spec = PolicySpec(
        domain="market",
        fields=(Field(name="x", lower=0, upper=1), Field(name="price", axis="action", lower=0, upper=1)),
        actions=ActionSet(kind="choice"),
        rewards=(CLICK,),
    )
    lengths = generator.integers(2, 6, count)
    price = generator.random(int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    picked = (generator.random(count) * lengths).astype(np.int64)
    reward = (generator.random(count) < 1 - price[starts + picked]).astype(np.float64)
    table = _table(lengths, "row", {"price": price})
    feedback = assemble(
        spec,
        columns=Columns(count=count, request={"x": generator.random(count)}, actions=table),
        actions=[f"row{k}" for k in picked.tolist()],
        propensity=1.0 / lengths,
        rewards={"click": reward},
    )
    fresh = generator.random((2_000, 4))
    arrays = {"request": generator.random((2_000, 1)), "actions": fresh[:, :, None]}
    return Taught(spec=spec, feedback=feedback, arrays=arrays, truth=1 - fresh, logged_value=0.5)


def cluster(count: int, *, seed: int, is_whole: bool = False) -> Taught:
    """Return a log of many-slot requests: one or two tasks, each put on one of three nodes; idle nodes earn.

    With `is_whole` the reward is one of the whole request, the mean of its tasks'.
    """
    generator = np.random.default_rng(seed)
    spec = PolicySpec(
        domain="cluster",
        fields=(
            Field(name="load", axis="action", lower=0, upper=1),
            Field(name="size", axis="slot", lower=0, upper=1),
        ),
        actions=ActionSet(kind="assignment"),
        rewards=(CLICK,),
    )
    slots = generator.integers(1, 3, count)
    load = generator.random((count, 3))
    owner = np.repeat(np.arange(count), slots)
    picked = generator.integers(0, 3, len(owner))
    reward = (generator.random(len(owner)) < 1 - load[owner, picked]).astype(np.float64)
    names = [f"t{k}" for n in slots.tolist() for k in range(n)]
    actions: list[str | None] = [f"n{k}" for k in picked.tolist()]
    columns = Columns(
        count=count,
        request={},
        actions=_table(np.full(count, 3), "n", {"load": load.ravel()}),
        slots=_table(slots, "t", {"size": generator.random(len(owner))}),
    )
    rows: dict[str, Any] = {"rows": owner, "slots": names, "actions": actions}
    propensity = np.full(len(owner), 1 / 3)
    if is_whole:
        mean = np.bincount(owner, weights=reward) / slots
        rows = {
            "rows": np.concatenate([owner, np.arange(count)]),
            "slots": names + [""] * count,
            "actions": actions + [None] * count,
        }
        propensity = np.concatenate([propensity, np.full(count, np.nan)])
        reward = np.concatenate([np.full(len(owner), np.nan), mean])
    feedback = assemble(
        spec,
        columns=columns,
        actions=rows["actions"],
        propensity=propensity,
        rewards={"click": reward},
        statuses={"click": [None] * len(reward)},
        request_ids=[f"r{row:05d}" for row in rows["rows"].tolist()],
        request_rows=rows["rows"],
        slots=rows["slots"],
    )
    fresh = generator.random((2_000, 3))
    arrays = {"actions": fresh[:, :, None], "slots": np.full((2_000, 1, 1), 0.5)}
    return Taught(spec=spec, feedback=feedback, arrays=arrays, truth=1 - fresh, logged_value=0.5)


def _table(lengths: NDArray[np.int64], prefix: str, fields: Mapping[str, Array]) -> TableColumns:
    ids = [[f"{prefix}{k}" for k in range(n)] for n in lengths.tolist()]
    return TableColumns(lengths=lengths, ids=ids, order=None, fields=fields)


def _contexts(generator: np.random.Generator, count: int, base: float, lift: float) -> tuple[Array, Array, Array]:
    x, y = generator.uniform(0, 10, count), generator.uniform(-1, 1, count)
    best = (x > 5) * 2 + (y > 0)
    truth = np.full((count, len(IDS)), base)
    truth[np.arange(count), best.astype(np.int64)] += lift
    return x, y, truth


def _logging(truth: Array, skew: float) -> Array:
    powers = np.exp(skew * truth)
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def _draw(generator: np.random.Generator, probabilities: Array) -> NDArray[np.int64]:
    below = probabilities.cumsum(axis=1) <= generator.random(len(probabilities))[:, None]
    drawn: NDArray[np.int64] = below.sum(axis=1).clip(max=probabilities.shape[1] - 1)
    return drawn
