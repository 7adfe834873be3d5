"""What a training run says of itself; written as `evaluation.json` beside the artifact's files, undigested."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from policies.evaluation.estimators import Estimate

Stopped = Literal["epochs", "patience", "wall_limit", "cpu_limit"]
"""Why a fit ended: all epochs done, no better held-out value for a while, or a budget spent."""


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """Record one epoch: the mean loss (minimized), the held-out value (maximized; None where not asked)."""

    epoch: int
    loss: float
    gradient_norm: float
    learning_rate: float
    held_out: float | None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Record one candidate and what it would have earned on units that no step of its training saw.

    `strength` is that of its pull towards the anchor; None is the anchor itself. The estimate's interval is that of one
    candidate, not corrected for choosing among several and among epochs: `penstock evaluate` on a log that training
    never saw is the judge.
    """

    name: str
    strength: float | None
    held_out: Estimate
    best_epoch: int
    stopped: Stopped
    history: tuple[Epoch, ...]


class TrainReport(msgspec.Struct, frozen=True, kw_only=True):
    """Say what was trained, from what, how it went, and what it cost."""

    recipe: str
    identity: str
    objective: str
    reward: str
    chosen: str
    held_out: Estimate
    candidates: tuple[Candidate, ...]
    epochs: int
    rows_trained: int
    rows_held_out: int
    rows_excluded: int
    device: str
    parameter_count: int
    cpu_s: float
    wall_s: float


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Record one look at held-out scenarios: when it was, and what the policy cost there, as training prices it.

    `loss`, `gradient_norm` and `learning_rate` are of the step before; None where the budget ended the training.
    """

    step: int
    cpu_s: float
    cost: float
    loss: float | None
    gradient_norm: float | None
    learning_rate: float | None


class SimulatedReport(msgspec.Struct, frozen=True, kw_only=True):
    """Say what was trained against a problem that is simulated, how it went, and what it cost.

    Attributes:
        recipe, identity: by what, and the artifact.
        cost_units: of every cost below; costs are minimized.
        mean_cost, low, high, confidence: of the exported policy on held-out scenarios, judged without the training's
            own prices, and the interval of the mean by t.
        scenarios: so many of them.
        looks: the learning curve: cost on other held-out scenarios against steps and CPU-seconds.
        details: what a domain says beside these; plain values.
    """

    recipe: str
    identity: str
    cost_units: str
    mean_cost: float
    low: float
    high: float
    confidence: float
    scenarios: int
    looks: tuple[Look, ...]
    steps: int
    stopped: Literal["steps", "wall_limit", "cpu_limit"]
    device: str
    parameter_count: int
    cpu_s: float
    wall_s: float
    details: dict[str, Any] = {}


def write_report(report: TrainReport | SimulatedReport, *, folder: Path) -> Path:
    """Write the report into an artifact's folder and return its path; no digest covers it."""
    path = folder / "evaluation.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return path
