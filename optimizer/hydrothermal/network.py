"""The policy's network: from the water of a stage to scores, and its whole roll-out with an adjoint written by hand.

Where inflows are independent, the water a = v⁻ + K w and the stage are all that matters: every constraint of the stage
and everything after it depends on them alone. So the water is what the network sees, and inflows beside it only where
they say something of the next ones (`encoder`).

A roll-out is sequential, and automatic differentiation pays for each of its thousand small operations twice. Here the
forward pass keeps what the adjoint needs, the adjoint goes back through the stages in closed form, and the gradients of
all weights are one matrix product over all stages and paths. `training.dual` proves it against finite differences.
"""

# B path, T stage, R reservoir, H hidden unit, W inflow of a window, P period

import math
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.encoder import LARGEST_SHARE, Encoder
from optimizer.hydrothermal.inflow import InflowTable
from optimizer.hydrothermal.reach import FULLEST, STRETCH, ReachableMap, Step, stretched_sigmoid

_EMBEDDING_SIZE = 16
_silu_slope = torch.ops.aten.silu_backward
_sigmoid_slope = torch.ops.aten.sigmoid_backward
_LAST_STAGES = 16


class Kept(NamedTuple):
    """Hold what the adjoint of one stage needs: arrays [B, .] of the forward pass, and the reachable map's own.

    water: whole, and as far as it can be kept. first_in, second_in: what enters the activations of the hidden layers.
    """

    water: Tensor
    first_in: Tensor
    first: Tensor
    second_in: Tensor
    second: Tensor
    sigmoid: Tensor
    step: Step


class TargetNetwork(nn.Module):
    """Propose target volumes for each stage of a horizon; two hidden layers over the water of the stage.

    What does not depend on the policy's own doing (stage, season, inflows seen) enters the first layer as one sum, so
    that a roll-out computes it for all stages at once.
    """

    water_scale: Tensor
    water_center: Tensor
    season: Tensor
    volume_initial: Tensor

    def __init__(self, case: Case, *, stages: int, width: int, encoder: Encoder | None) -> None:
        super().__init__()
        self.stages, self.encoder = stages, encoder
        self.reservoirs = len(case.hydros)
        self.volume_per_flow = case.volume_per_flow
        self.reach = ReachableMap(case, dtype=torch.float32)
        scale, center = _water_scales(case)
        self.register_buffer("water_scale", _floats(scale))
        self.register_buffer("water_center", _floats(center))
        self.register_buffer("season", _floats(_season(stages, case.inflow.periods)))
        self.register_buffer("volume_initial", _floats(case.volume_initial))
        count, when = self.reservoirs, _EMBEDDING_SIZE + self.season.shape[1]
        self.embedding = nn.Parameter(0.3 * torch.randn(stages, _EMBEDDING_SIZE))
        self.from_water = nn.Parameter(_drawn(2 * count, width))
        self.from_stage = nn.Parameter(_drawn(when, width))
        self.from_inflow = None if encoder is None else nn.Parameter(_drawn(encoder.size, width))
        self.first_bias = nn.Parameter(torch.zeros(width))
        self.between = nn.Parameter(_drawn(width, width))
        self.second_bias = nn.Parameter(torch.zeros(width))
        self.to_score = nn.Parameter(torch.zeros(width, count))
        self.score_bias = nn.Parameter(torch.full((stages, count), 0.5))

    def roll_out(self, inflow_BTR: Tensor) -> Tensor:
        """Return the targets of paths of inflow, [B, T, R] each, differentiable in the weights.

        The first stage begins at the case's own volumes; each later one at the targets before it.
        """
        water_TBR = self.volume_per_flow * inflow_BTR.transpose(0, 1)
        outside = self.stage_part(torch.arange(self.stages, device=inflow_BTR.device))[:, None, :]
        if self.encoder is not None:
            outside = outside + self.inflow_part(self.encoder(inflow_BTR))
        scale, center = self.water_scale.repeat(2), self.water_center.repeat(2)
        outside = outside - center @ self.from_water
        from_water = scale[:, None] * self.from_water
        weights = (from_water, self.between, self.second_bias, self.to_score, self.score_bias)
        targets_TBR: Tensor = _RollOut.apply(self, water_TBR, outside, *weights)
        return targets_TBR.transpose(0, 1)

    def stage_part(self, stage: Tensor) -> Tensor:
        """Return what stages (from 0), int64 [S], add to the first layer, [S, H]."""
        when = torch.cat([self.embedding[stage], self.season[stage]], dim=1)
        return when @ self.from_stage + self.first_bias

    def inflow_part(self, features: Tensor) -> Tensor:
        """Return what the encoder's features, [..., E], add to the first layer, [..., H]."""
        assert self.from_inflow is not None
        return features @ self.from_inflow

    def scores(self, water_BR: Tensor, outside_BH: Tensor, bias_BR: Tensor) -> Tensor:
        """Return the scores of water and of what the first layer gets beside it, [B, R], by ordinary operations."""
        first = nn.functional.silu(self.water_features(water_BR) @ self.from_water + outside_BH)
        second = nn.functional.silu(first @ self.between + self.second_bias)
        return second @ self.to_score + bias_BR

    def water_features(self, water_BR: Tensor) -> Tensor:
        """Return the water, whole and as far as it can be kept, each scaled, [B, 2 R]."""
        kept = torch.minimum(water_BR, self.reach.volume_max)
        scaled = [part * self.water_scale - self.water_center for part in (water_BR, kept)]
        return torch.cat(scaled, dim=1)


class _RollOut(torch.autograd.Function):
    """The roll-out of a network as one differentiable operation."""

    @staticmethod
    def forward(ctx: Any, network: TargetNetwork, water_TBR: Tensor, outside: Tensor, *weights: Tensor) -> Tensor:
        """Return the targets [T, B, R]; `water_TBR` is what flows in, `outside` [T, B or 1, H]."""
        volume_BR = network.volume_initial.expand(water_TBR.shape[1], -1)
        kept, targets = [], []
        for stage in range(water_TBR.shape[0]):
            volume_BR, one = _forward(network, volume_BR + water_TBR[stage], outside[stage], stage, weights)
            kept.append(one)
            targets.append(volume_BR)
        ctx.network, ctx.kept, ctx.is_shared, ctx.weights = network, kept, outside.shape[1] == 1, weights
        return torch.stack(targets)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Go back through the stages, then sum up each weight's gradient over all of them at once."""
        (by_target_TBR,) = gradients
        slopes = _backward(ctx.network, ctx.kept, by_target_TBR, ctx.weights)
        first, second, score = (torch.stack(part[::-1]) for part in zip(*slopes, strict=True))

        def product(name: str, slope: Tensor) -> Tensor:
            left = torch.cat([getattr(one, name) for one in ctx.kept])
            return left.T @ slope.flatten(0, 1)

        outside = first.sum(dim=1, keepdim=True) if ctx.is_shared else first
        by_weight = (product("water", first), product("first", second), second.sum(dim=(0, 1)))
        return None, None, outside, *by_weight, product("second", score), score.sum(dim=1)


def _forward(
    network: TargetNetwork, water_BR: Tensor, outside: Tensor, stage: int, weights: tuple[Tensor, ...]
) -> tuple[Tensor, Kept]:
    """Return the targets of one stage, and what its adjoint needs."""
    from_water, between, second_bias, to_score, score_bias = weights
    both = torch.cat([water_BR, torch.minimum(water_BR, network.reach.volume_max)], dim=1)
    first_in = torch.addmm(outside, both, from_water)
    first = nn.functional.silu(first_in)
    second_in = torch.addmm(second_bias, first, between)
    second = nn.functional.silu(second_in)
    sigmoid = torch.sigmoid(torch.addmm(score_bias[stage], second, to_score))
    fraction = ((1.0 + 2.0 * STRETCH) * sigmoid).sub_(STRETCH).clamp_(0.0, FULLEST)
    target_BR, step = network.reach.trace(water_BR, fraction)
    return target_BR, Kept(both, first_in, first, second_in, second, sigmoid, step)


def _backward(
    network: TargetNetwork, kept: list[Kept], by_target_TBR: Tensor, weights: tuple[Tensor, ...]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return the gradients at the inputs of both hidden layers and at the scores, from the last stage to the first.

    The derivatives of activations and of the reach do not depend on each other: they are taken of all stages at once.
    """
    from_water, between, _, to_score, _ = weights
    count = network.reservoirs
    to_second, to_first = to_score.T.contiguous(), between.T.contiguous()
    to_water, to_kept = from_water[:count].T.contiguous(), from_water[count:].T.contiguous()
    slopes = network.reach.slopes([one.step for one in kept])
    scores, seconds, firsts, is_kept = (part.unbind() for part in _slopes(network, kept))
    by_volume = torch.zeros_like(by_target_TBR[0])
    found = []
    for stage in range(len(kept) - 1, -1, -1):
        by_water, by_fraction = network.reach.pull(slopes[stage], by_target_TBR[stage] + by_volume)
        by_score = by_fraction * scores[stage]
        by_second = (by_score @ to_second).mul_(seconds[stage])
        by_first = (by_second @ to_first).mul_(firsts[stage])
        by_volume = torch.addmm(by_water, by_first, to_water).addcmul_(by_first @ to_kept, is_kept[stage])
        found.append((by_first, by_second, by_score))
    return found


def _slopes(network: TargetNetwork, kept: list[Kept]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return derivatives of all stages: fractions by scores, both activations, and water that can be kept by water."""
    fraction = torch.stack([one.step.fraction for one in kept])
    second_in, first_in = (torch.stack(part) for part in zip(*((k.second_in, k.first_in) for k in kept), strict=True))
    is_inside = ((fraction > 0.0) & (fraction < FULLEST)).to(fraction.dtype)
    by_score = _sigmoid_slope(is_inside * (1.0 + 2.0 * STRETCH), torch.stack([one.sigmoid for one in kept]))
    second, first = (_silu_slope(torch.ones_like(entered), entered) for entered in (second_in, first_in))
    water = torch.stack([one.water[:, : network.reservoirs] for one in kept])
    return by_score, second, first, (water < network.reach.volume_max).to(water.dtype)


class ServedTargets(nn.Module):
    """The network as it is exported: from the graph's inputs to targets, the reachable map inside.

    Targets are lowered by a hair where they touch their reach: what is served is rounded to a decimal grid, and must
    stay feasible when every target is rounded up. Water beyond anything that was trained on gets the scores of the most
    that was: a network says nothing out there, and float32 says it with little precision. The reach knows all of it.
    """

    margin: Tensor
    largest_water: Tensor

    def __init__(self, network: TargetNetwork, *, case: Case, margin: Floats) -> None:
        super().__init__()
        self.network = deepcopy(network).double()
        if self.network.encoder is not None:
            self.network.encoder.prepare()
        self.reach = ReachableMap(case)
        self.register_buffer("margin", torch.tensor(margin, dtype=torch.float64))
        self.register_buffer("largest_water", torch.tensor(_largest_water(case), dtype=torch.float64))

    def forward(self, request: Tensor, sequence_inflow: Tensor, length_inflow: Tensor) -> Tensor:
        """Return targets, float64 [B, R]; `request` holds the stage from 1, then the volumes, then what else there is.

        `sequence_inflow` is [B, W, R], right-aligned; the last step is the inflow of this stage.
        """
        network = self.network
        stage = torch.floor(request[:, 0] - 0.5).clamp(0.0, network.stages - 1.0).long()
        water = request[:, 1 : 1 + network.reservoirs] + network.volume_per_flow * sequence_inflow[:, -1]
        outside = network.stage_part(stage)
        if network.encoder is not None:
            outside = outside + network.inflow_part(network.encoder.served(stage, sequence_inflow, length_inflow))
        known = torch.minimum(water, self.largest_water)
        first = _precise_silu(network.water_features(known) @ network.from_water + outside)
        second = _precise_silu(first @ network.between + network.second_bias)
        scores = second @ network.to_score + network.score_bias[stage]
        fraction = stretched_sigmoid(scores.float()).double()
        reached = self.reach.upper(water, fraction)
        return torch.minimum(fraction * reached, torch.relu(reached - self.margin))


def _precise_silu(value: Tensor) -> Tensor:
    """Return x · sigmoid(x), float64."""
    return value * _precise_sigmoid(value)


def _precise_sigmoid(value: Tensor) -> Tensor:
    """Return 1 / (1 + e⁻ˣ), float64, to 2e-9, of sums, products and quotients alone.

    onnxruntime's float64 sigmoid varies with the batch, and its float32 one differs from torch's in the last bit, which
    two hidden layers of grown weights made 1e-6 of the largest volume. These operations are the same bits everywhere.

    Source: Padé's approximation of order two, e^y ≈ (12 + 6 y + y²) / (12 − 6 y + y²), at y = −x / 64; e⁻ˣ = (e^y)^64.
    """
    part = (value * (-1.0 / 64.0)).clamp(-0.625, 0.625)
    even, odd = part * part + 12.0, 6.0 * part
    power = (even + odd) / (even - odd)
    for _ in range(6):
        power = power * power
    return 1.0 / (1.0 + power)


def _floats(values: Floats) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _drawn(inputs: int, outputs: int) -> Tensor:
    return torch.randn(inputs, outputs) / math.sqrt(max(inputs, 1))


def _water_scales(case: Case) -> tuple[Floats, Floats]:
    """Return what scales water to about one, and its middle: a lake by its volume, a river by its turbine."""
    passing = case.volume_per_flow * case.turbine_max
    is_lake = case.volume_max > 0.5 * passing
    scale = 1.0 / np.maximum(np.where(is_lake, case.volume_max, passing), 1e-6)
    inflow = case.volume_per_flow * case.inflow.typical.mean(axis=0)
    return scale, np.where(is_lake, 0.5 * case.volume_max, inflow) * scale


def _largest_water(case: Case) -> Floats:
    """Return the most water that a stage of training begins with, float64 [R]."""
    if isinstance(case.inflow, InflowTable):
        largest: Floats = case.inflow.flow.max(axis=(0, 1))
    else:
        largest = LARGEST_SHARE * np.maximum(case.inflow.initial, case.inflow.median.max(axis=0))
    return case.volume_max + case.volume_per_flow * largest


def _season(stages: int, periods: int) -> Floats:
    """Return what is known of each stage: sine and cosine of the season, the share gone, and how near the end is."""
    stage = np.arange(stages)
    angle = 2.0 * np.pi * stage / periods
    near_end = np.clip((stage - (stages - _LAST_STAGES)) / _LAST_STAGES, 0.0, 1.0)
    return np.stack([np.sin(angle), np.cos(angle), stage / stages, near_end], axis=1)
