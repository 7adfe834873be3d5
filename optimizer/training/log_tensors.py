"""An encoded log on a device: inputs normalized once, and what a policy would have made of each logged choice."""

# B request, S slot, A action, N weighed row

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from optimizer.networks.two_step import TwoStepPolicy
from optimizer.training.encoded_log import EncodedLog, Group
from policies.evaluation.estimators import DR, IPS, Estimate, error_of_ratio, estimate
from policies.evaluation.scored import Scored
from policies.evaluation.sums import Sums

CHUNK_REQUESTS = 8_192

Predictions = NDArray[np.float64]
"""Rewards that a model predicts for one group: float64 [B, S, A]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupTensors:
    """Hold a `Group` as tensors of one device.

    Attributes:
        prepared: what the network prepared, float32 [B, ...] each.
        mask, is_weighed, is_acted, is_whole_weighed: as in `Group`.
        action: int64 [B, S].
        propensity: float32 [B, S].
        advantage: float32 [B, S], (reward - mean) ÷ deviation, less the prediction for the logged action.
        whole_advantage: float32 [B].
        prediction: float32 [B, S, A], (predicted reward - mean) ÷ deviation; None without a model.
        log_anchor: float32 [B, S, A], the logarithm of the anchor's probabilities.
    """

    prepared: tuple[Tensor, ...]
    mask: Tensor
    action: Tensor
    propensity: Tensor
    advantage: Tensor
    is_weighed: Tensor
    is_acted: Tensor
    whole_advantage: Tensor
    is_whole_weighed: Tensor
    prediction: Tensor | None
    log_anchor: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def take(self, rows: Tensor) -> "GroupTensors":
        """Return some requests; rows: int64 on the device."""
        picked = {f.name: _pick(getattr(self, f.name), rows) for f in fields(self)}
        return GroupTensors(**picked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Hold a log scored for a network, and the largest weight it could have had; None where only the log tells."""

    scored: Scored
    weight_bound: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Say in what units rewards are learned from: (reward - mean) ÷ deviation, of the part that is trained on.

    The mean is a control variate: without one a policy earns by moving its mass off the log.
    Source: T. Joachims, A. Swaminathan, M. de Rijke, "Deep Learning with Logged Bandit Feedback", ICLR 2018.
    """

    mean: float
    deviation: float


def scale_of(log: EncodedLog) -> Scale:
    """Return mean and deviation of a log's rewards; a deviation of zero counts as one."""
    rewards = log.rewards()
    return Scale(mean=float(rewards.mean()), deviation=float(rewards.std()) or 1.0)


def to_tensors(
    group: Group, *, network: TwoStepPolicy, device: torch.device, scale: Scale, predicted: Predictions | None
) -> GroupTensors:
    """Move a group to a device; the anchor is the uniform policy until `with_anchor` says otherwise."""
    mask = torch.from_numpy(group.mask).to(device)
    inputs = {name: torch.from_numpy(array).to(device) for name, array in group.arrays.items()}
    with torch.no_grad():
        prepared = network.prepare({**inputs, "mask": mask})
    relative = None if predicted is None else (predicted - scale.mean) / scale.deviation
    logged = np.zeros_like(group.reward) if relative is None else _at_logged(relative, group)
    eligible = np.maximum(group.mask.sum(axis=2, keepdims=True), 1)

    def single(array: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(array.astype(np.float32)).to(device)

    return GroupTensors(
        prepared=prepared,
        mask=mask,
        action=torch.from_numpy(group.action).to(device),
        propensity=single(group.propensity),
        advantage=single((group.reward - scale.mean) / scale.deviation - logged),
        is_weighed=torch.from_numpy(group.is_weighed).to(device),
        is_acted=torch.from_numpy(group.is_acted).to(device),
        whole_advantage=single((group.whole_reward - scale.mean) / scale.deviation),
        is_whole_weighed=torch.from_numpy(group.is_whole_weighed).to(device),
        prediction=None if relative is None else single(relative),
        log_anchor=single(np.broadcast_to(-np.log(eligible), group.mask.shape)),
    )


def with_anchor(tensors: GroupTensors, *, network: TwoStepPolicy) -> GroupTensors:
    """Return the group with a network's own probabilities as the anchor."""
    return replace(tensors, log_anchor=log_of(probabilities_of(network, tensors)))


def probabilities_of(network: TwoStepPolicy, tensors: GroupTensors) -> Tensor:
    """Return a network's probabilities for a whole group without gradients, float32 [B, S, A], chunk by chunk."""
    with torch.no_grad():
        parts = [
            network.probabilities(tuple(part[start : start + CHUNK_REQUESTS] for part in tensors.prepared), mask)
            for start, mask in zip(
                range(0, len(tensors), CHUNK_REQUESTS), torch.split(tensors.mask, CHUNK_REQUESTS), strict=True
            )
        ]
        return torch.cat(parts)


def log_of(probabilities: Tensor) -> Tensor:
    """Return logarithms that stay finite where a probability is zero: a masked action, or one that underflowed."""
    return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


def weights_of(probabilities: Tensor, tensors: GroupTensors) -> Tensor:
    """Return importance weights of the logged choices, float32 [B, S]; meaningless where `is_acted` is not."""
    return probabilities.gather(2, tensors.action[:, :, None]).squeeze(2) / tensors.propensity


def score(
    network: TwoStepPolicy, *, log: EncodedLog, tensors: list[GroupTensors], predicted: list[Predictions] | None
) -> Judged:
    """Score a log for a network, on the device of its tensors; `predicted` is per group, in the reward's units."""
    parts = []
    for place, (group, tensor) in enumerate(zip(log.groups, tensors, strict=True)):
        probabilities = probabilities_of(network, tensor).double().cpu().numpy()
        parts.append(_scored_part(probabilities, group, None if predicted is None else predicted[place]))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    bound = max(float(columns.pop("largest").max()) / log.least_propensity, 1.0)
    unit = columns.pop("unit")
    scored = Scored(**columns, unit=None if log.is_row_unit else unit)
    return Judged(scored=scored, weight_bound=None if log.has_whole_rewards else bound)


def judge(judged: Judged, *, log: EncodedLog, confidence: float) -> Estimate:
    """Return what the network would have earned: by dr where a model predicts, else by ips."""
    sums = Sums.empty().add(judged.scored)
    estimates = estimate(
        sums,
        reward_low=log.reward_low,
        reward_high=log.reward_high,
        estimators=("ips", "dr"),
        confidence=confidence,
        weight_bound=judged.weight_bound,
    )
    return estimates.get("dr", estimates["ips"])


def paired_gain(one: Judged, other: Judged) -> tuple[float, float]:
    """Return by how much one network's value exceeds another's on the same rows, and the standard error over units."""
    estimator = IPS() if one.scored.q_logged is None else DR()
    gain = estimator.rows(one.scored)[1] - estimator.rows(other.scored)[1]
    unit = np.arange(len(gain)) if one.scored.unit is None else np.unique(one.scored.unit, return_inverse=True)[1]
    by_unit, rows = np.bincount(unit, weights=gain), np.bincount(unit)
    error = error_of_ratio(
        len(rows),
        y=gain.sum(),
        x=len(gain),
        yy=float(by_unit @ by_unit),
        xy=float(by_unit @ rows),
        xx=float(rows @ rows),
    )
    return float(gain.mean()), math.inf if error is None else error


def _scored_part(
    probabilities: Predictions, group: Group, predicted: Predictions | None
) -> dict[str, NDArray[np.generic]]:
    """Return the columns of a Scored for one group's choices and whole requests, float64 [N] each, and its units."""
    # A float32 row sums to one within 2e-7, so a single cell may exceed one by as much.
    target = np.minimum(_at_logged(probabilities, group), 1.0)
    choice, whole = group.is_weighed, group.is_whole_weighed
    product = [np.where(group.is_acted, column, 1.0).prod(axis=1)[whole] for column in (target, group.propensity)]
    columns: dict[str, NDArray[np.generic]] = {
        "reward": np.concatenate([group.reward[choice], group.whole_reward[whole]]),
        "target": np.concatenate([target[choice], product[0]]),
        "propensity": np.concatenate([group.propensity[choice], product[1]]),
        "unit": np.concatenate([np.broadcast_to(group.unit[:, None], choice.shape)[choice], group.unit[whole]]),
        "largest": np.array([min(float(probabilities.max(initial=0.0)), 1.0)]),
    }
    if predicted is not None:
        columns["q_logged"] = _at_logged(predicted, group)[choice]
        columns["q_target"] = (probabilities * predicted).sum(axis=2)[choice]
    return columns


def _at_logged(cells: Predictions, group: Group) -> Predictions:
    """Return the logged actions' cells, [B, S, A] -> [B, S]."""
    return np.take_along_axis(cells, group.action[:, :, None], axis=2)[:, :, 0]


def _pick(value: Any, rows: Tensor) -> Any:
    if isinstance(value, tuple):
        return tuple(part[rows] for part in value)
    return value[rows] if isinstance(value, Tensor) else value
