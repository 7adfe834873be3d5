"""Logs of contextual bandits whose true value is known, and the Open Bandit sample as scored rows."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from policies.evaluation.scored import Scored

CONTEXTS: Final = 40
ACTIONS: Final = 20

Array = NDArray[np.float64]


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


@dataclass(frozen=True, kw_only=True)
class World:
    """A bandit of 40 equally likely contexts and 20 actions, with a logging policy and a target."""

    reward: Array
    logging: Array
    target: Array

    @property
    def value(self) -> float:
        """What the target truly earns."""
        return float((self.target * self.reward).sum(axis=1).mean())

    @property
    def weight_bound(self) -> float:
        """The largest possible weight."""
        return float((self.target / self.logging).max())

    def log(self, count: int, generator: np.random.Generator, *, prediction: Array | None = None) -> Scored:
        """Draw a log of `count` rows and score it for the target; predictions [CONTEXTS, ACTIONS] make q columns."""
        context = generator.integers(CONTEXTS, size=count)
        below = self.logging.cumsum(axis=1)[context] <= generator.random(count)[:, None]
        action = below.sum(axis=1).clip(max=ACTIONS - 1)
        reward = (generator.random(count) < self.reward[context, action]).astype(np.float64)
        q_logged = None if prediction is None else prediction[context, action]
        q_target = None if prediction is None else (self.target * prediction).sum(axis=1)[context]
        return Scored(
            reward=reward,
            propensity=self.logging[context, action],
            target=self.target[context, action],
            q_logged=q_logged,
            q_target=q_target,
        )


def world(seed: int, *, logging_scale: float, target_scale: float, base: float) -> World:
    """Return the bandit whose logits are standard normal times the scales; rewards get rarer as `base` falls."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((CONTEXTS, ACTIONS))
    reward = 1 / (1 + np.exp(-(base + 0.8 * logits)))
    logging = _softmax(logging_scale * generator.standard_normal((CONTEXTS, ACTIONS)))
    return World(reward=reward, logging=logging, target=_softmax(target_scale * logits))


GRID: Final = {
    "good overlap": world(1, logging_scale=0.3, target_scale=0.6, base=-1),
    "rare reward": world(2, logging_scale=0.3, target_scale=0.6, base=-6),
    "poor overlap": world(3, logging_scale=1.5, target_scale=3.0, base=-1),
    "poor overlap and rare reward": world(4, logging_scale=1.5, target_scale=3.0, base=-5),
}


def random_scored(count: int, *, seed: int, unit_count: int | None = None, model: bool = True) -> Scored:
    """Return rows without any meaning whose weights average to about one."""
    generator = np.random.default_rng(seed)
    units = None
    if unit_count is not None:
        hashes = generator.integers(2**64, size=unit_count, dtype=np.uint64)
        units = hashes[generator.integers(unit_count, size=count)]
    return Scored(
        reward=generator.normal(size=count),
        propensity=generator.uniform(0.2, 0.8, count),
        target=generator.uniform(0.0, 0.9, count),
        unit=units,
        q_logged=generator.normal(size=count) if model else None,
        q_target=generator.normal(size=count) if model else None,
    )


def take(scored: Scored, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Scored:
    """Return some rows of a Scored."""
    return Scored(
        reward=scored.reward[rows],
        propensity=scored.propensity[rows],
        target=scored.target[rows],
        unit=None if scored.unit is None else scored.unit[rows],
        q_logged=None if scored.q_logged is None else scored.q_logged[rows],
        q_target=None if scored.q_target is None else scored.q_target[rows],
    )


def open_bandit(root: Path, *, campaign: str, logger: str) -> Scored:
    """Return a campaign of the Open Bandit sample, logged by one of its two policies and scored for the other."""
    folder = root / "open_bandit"
    with (folder / logger / campaign / f"{campaign}.csv").open(newline="") as file:
        reader = csv.reader(file)
        place = {name: index for index, name in enumerate(next(reader))}
        names = ("item_id", "position", "click", "propensity_score")
        rows = np.array([[row[place[name]] for name in names] for row in reader], dtype=np.float64)
    table = np.loadtxt(folder / f"bts_action_dist_{campaign}_seed12345_nsim100000.csv", delimiter=",")
    item, position = rows[:, 0].astype(int), rows[:, 1].astype(int) - 1  # the CSV counts positions from 1
    target = table[item, position] if logger == "random" else np.full(len(rows), 1.0 / len(table))
    return Scored(reward=rows[:, 2], propensity=rows[:, 3], target=target)
