"""Generated samples that stand in for public data, and say so: one with full information, one of rare clicks.

Their shapes follow UCI pendigits (10 classes, 16 whole numbers from 0 to 100) and the Open Bandit sample (10,000 rows,
34 items, 3 positions, a few dozen clicks; and a log that starves some items, which nothing can be told from).
"""

# N row, K item, P position, D feature

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from policies.assemble import assemble
from policies.columns import Columns
from policies.importers.classification import FLOOR, LabelledSet, labelled_set
from policies.log import Feedback, Numbers
from policies.spec import ActionSet, Field, PolicySpec, Reward

CLASS_COUNT: Final = 10
FEATURE_COUNT: Final = 16
ITEM_COUNT: Final = 34
POSITION_COUNT: Final = 3
CLICK_RATE: Final = 0.0045
_START_US: Final = 1_700_000_000_000_000
_STEP_US: Final = 30_000_000
_STARVED: Final = 2e-5


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClickSample:
    """Hold a generated log of rare clicks, and the table of another policy to judge by it: float64 [P, K]."""

    feedback: Feedback
    table: Numbers


def labelled_sample(*, seed: int, count: int = 6_000, floor: float = FLOOR, bound_share: float = 1.0) -> LabelledSet:
    """Generate a labelled set like pendigits: three gaussian clusters per class, rounded and clipped to 0…100.

    A linear classifier names about nine of ten labels: there is something to learn, and something left to get wrong.
    """
    draws = np.random.default_rng([seed, 1])
    centers = draws.uniform(20, 80, size=(CLASS_COUNT, 1, FEATURE_COUNT))
    centers = centers + draws.normal(0, 12, size=(CLASS_COUNT, 3, FEATURE_COUNT))
    labels = draws.integers(CLASS_COUNT, size=count)
    clusters = draws.integers(3, size=count)
    noise = draws.normal(0, 18, size=(count, FEATURE_COUNT))
    features = np.clip(np.round(centers[labels, clusters] + noise), 0, 100)
    names = [str(label) for label in labels.tolist()]
    return labelled_set("generated-digits", features, names, seed=seed, floor=floor, bound_share=bound_share)


def click_sample(*, seed: int, count: int = 10_000) -> ClickSample:
    """Generate a log of a policy that shows items uniformly, and a greedier policy's table, which it cannot judge."""
    draws = np.random.default_rng([seed, 2])
    table = _greedy(draws)
    uniform = np.full((POSITION_COUNT, ITEM_COUNT), 1 / ITEM_COUNT)
    return ClickSample(feedback=_log(draws, uniform, count), table=table)


def starved_sample(*, seed: int, count: int = 10_000) -> ClickSample:
    """Generate a log in which half of the items are shown next to never, and the uniform table, to be refused by it.

    The propensities are exact, but the few impressions of starved items weigh as much as thousands of the others.
    """
    draws = np.random.default_rng([seed, 3])
    greedy = _greedy(draws)
    starved = np.argsort(greedy, axis=1)[:, : ITEM_COUNT // 2]
    np.put_along_axis(greedy, starved, _STARVED, axis=1)
    rest = greedy.sum(axis=1, keepdims=True) - _STARVED * starved.shape[1]
    scaled = greedy * (1 - _STARVED * starved.shape[1]) / rest
    np.put_along_axis(scaled, starved, _STARVED, axis=1)
    uniform = np.full((POSITION_COUNT, ITEM_COUNT), 1 / ITEM_COUNT)
    return ClickSample(feedback=_log(draws, scaled, count), table=uniform)


def _greedy(draws: np.random.Generator) -> Numbers:
    powers = np.exp(draws.normal(size=(POSITION_COUNT, ITEM_COUNT)))
    table: Numbers = powers / powers.sum(axis=1, keepdims=True)
    return table


def _log(draws: np.random.Generator, table: Numbers, count: int) -> Feedback:
    """Log a policy by its table, float64 [P, K]: clicks are rare whatever is shown."""
    positions = draws.integers(POSITION_COUNT, size=count)
    cumulative = table.cumsum(axis=1)[positions]
    items = np.minimum((cumulative < draws.random(count)[:, None]).sum(axis=1), ITEM_COUNT - 1)
    groups = draws.integers(4, size=count)
    rates = CLICK_RATE * np.exp(0.3 * draws.normal(size=ITEM_COUNT))
    ids = tuple(str(item) for item in range(ITEM_COUNT))
    spec = PolicySpec(
        domain="generated-clicks",
        fields=(
            Field(name="position", lower=0, upper=POSITION_COUNT - 1, outside="clip"),
            Field(name="user_group", vocabulary=("g0", "g1", "g2", "g3"), outside="clip"),
        ),
        actions=ActionSet(kind="choice", ids=ids, fallback="first"),
        rewards=(Reward(name="click", units="clicks", lower=0, upper=1),),
    )
    words = np.array([f"g{group}" for group in groups.tolist()], dtype=object)
    return assemble(
        spec,
        columns=Columns(count=count, request={"position": positions.astype(np.float64), "user_group": words}),
        actions=[ids[item] for item in items.tolist()],
        propensity=table[positions, items],
        rewards={"click": (draws.random(count) < rates[items]).astype(np.float64)},
        times=_START_US + _STEP_US * np.arange(count),
    )
