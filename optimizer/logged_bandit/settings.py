"""What can be set for the recipe; in a module of its own, so that its help does not wait for torch."""

from typing import Literal

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what is learned and how; every setting is a flag of the command line.

    Attributes:
        objective: ips needs propensities alone; dr has less variance where rewards can be predicted.
        reward: NAME or NAME=WEIGHT of what is maximized, the weighted sum of several; empty: the log's only reward.
        floor: exploration floor of the policy, in [0, 1]; None: the spec's.
        epochs: passes over the log, for each candidate.
        batch_size: requests in a minibatch.
        learning_rate: the first step size; it falls to 0 along half a cosine.
        weight_decay: pull of the weights towards zero.
        gradient_clip: largest norm of a step's gradient.
        width: units of a hidden layer.
        depth: hidden layers.
        pulls: strengths of the pull towards the policy that is known, one candidate each (see `training.logged`).
        weight_clip: where importance weights are cut.
        variance_penalty: standard errors of the training value that are taken off it.
        confidence: of the held-out intervals that candidates are compared by.
        check_every: epochs between two looks at the held-out units, of which the best weights are kept; None: the last
            epoch's are.
        patience: looks without anything better before a candidate's fit stops; None: never.
        seed: of first weights and minibatches.
        device: auto (a GPU where there is one), cpu, cuda or cuda:N.
        threads: of torch on the CPU; small networks gain nothing from more, and bits repeat only for one number.
        wall_limit_s: seconds after which no epoch is begun; None: no limit.
        cpu_limit_s: the same in CPU-seconds.
        resume: keep a checkpoint beside the artifact's folder and continue from the one that is there.
    """

    objective: Literal["ips", "dr"] = "ips"
    reward: tuple[str, ...] = ()
    floor: float | None = None
    epochs: int = 30
    batch_size: int = 512
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    width: int = 64
    depth: int = 2
    pulls: tuple[float, ...] = (3.0, 0.3, 0.03)
    weight_clip: float = 100.0
    variance_penalty: float = 1.0
    confidence: float = 0.95
    check_every: int | None = None
    patience: int | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    wall_limit_s: float | None = None
    cpu_limit_s: float | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "width": 1, "depth": 0, "seed": 0, "threads": 1}
        for name, low in least.items():
            _require(getattr(self, name) >= low, f"{name} must be at least {low}, found {getattr(self, name)}")
        for name in ("learning_rate", "gradient_clip", "weight_clip"):
            _require(getattr(self, name) > 0, f"{name} must be above 0, found {getattr(self, name)}")
        every = self.check_every
        _require(every is None or every >= 1, f"check_every must be at least 1, found {every}")
        _require(self.floor is None or 0 <= self.floor <= 1, f"floor must lie in [0, 1], found {self.floor}")
        _require(0 < self.confidence < 1, f"confidence must lie between 0 and 1, found {self.confidence}")
        _require(all(pull >= 0 for pull in self.pulls), f"pulls must not be negative, found {self.pulls}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
