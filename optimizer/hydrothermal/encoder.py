"""What the network is told of the inflows seen so far, beside the water: the last few, or all of them in a few numbers.

Inflows do not depend on what the policy does, so an encoder turns them into features of all stages at once, before the
roll-out begins. `forward` is for training, on whole paths; `served` is for the exported graph, on what one request
brings. Both see the same: no inflow from before the horizon, and none that a request cannot bring (`steps`).
"""

# B path, T stage, W inflow of a window, R reservoir, H unit, E feature

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from optimizer.hydrothermal.case import Case

LARGEST_SHARE = 8.0
"""Of an inflow in its median: what lies above is an outlier of a lognormal tail."""

_SHORTEST_MEMORY = 0.5
"""Stages after which the quickest unit holds one part in e, at first; the slowest then holds it as long as it may."""


class Encoder(nn.Module, ABC):
    """Tell features of the inflows seen so far, `size` of each stage.

    Inflows enter as roots of their shares of a typical inflow of their stage, less one: zero is the ordinary.
    """

    inflow_scale: Tensor

    def __init__(self, case: Case, *, stages: int, size: int) -> None:
        super().__init__()
        self.stages, self.size = stages, size
        typical = np.maximum(case.inflow.typical, 1e-6)[np.arange(stages) % case.inflow.periods]
        self.register_buffer("inflow_scale", torch.tensor(1.0 / typical, dtype=torch.float32))

    @abstractmethod
    def forward(self, inflow_BTR: Tensor) -> Tensor:
        """Return the features of all stages of paths, [T, B, E]; a stage's depend on its inflow and earlier ones."""

    @abstractmethod
    def served(self, stage_B: Tensor, sequence_BWR: Tensor, length_B: Tensor) -> Tensor:
        """Return the features of requests, float64 [B, E]: of stages from 0, inflows right-aligned, and how many."""

    def prepare(self) -> None:
        """Take the form that is exported."""

    def shares(self, inflow_BTR: Tensor) -> Tensor:
        """Return what inflows of all stages enter as, [T, B, R]."""
        return _shares(inflow_BTR.transpose(0, 1), self.inflow_scale[:, None, :])

    def last_shares(self, stage_B: Tensor, sequence_BWR: Tensor, length_B: Tensor, *, count: int) -> Tensor:
        """Return what the last `count` inflows of requests enter as, [B, count, R], oldest first.

        Where there was none, or none within the horizon, there is zero, whatever the sequence holds there.
        """
        lag = torch.arange(count - 1, -1, -1)
        earlier = stage_B[:, None] - lag
        is_seen = ((length_B[:, None] > lag) & (earlier >= 0))[:, :, None]
        padded = nn.functional.pad(sequence_BWR, (0, 0, max(count - sequence_BWR.shape[1], 0), 0))
        shares = _shares(padded[:, padded.shape[1] - count :], self.inflow_scale[earlier.clamp(min=0)])
        return torch.where(is_seen, shares, 0.0)


class WindowEncoder(Encoder):
    """Show the last `history` inflows as they are, the latest first; zero before the first."""

    def __init__(self, case: Case, *, stages: int, history: int) -> None:
        super().__init__(case, stages=stages, size=history * len(case.hydros))
        self.history = history

    def forward(self, inflow_BTR: Tensor) -> Tensor:
        """Return the windows of all stages, [T, B, W R]."""
        shares = self.shares(inflow_BTR)
        seen = [torch.cat([torch.zeros_like(shares[:lag]), shares[: self.stages - lag]]) for lag in range(self.history)]
        return torch.cat(seen, dim=-1)

    def served(self, stage_B: Tensor, sequence_BWR: Tensor, length_B: Tensor) -> Tensor:
        """Return the windows of requests, float64 [B, W R]."""
        shares = self.last_shares(stage_B, sequence_BWR, length_B, count=self.history)
        return shares.flip(1).flatten(1)


class RecurrentEncoder(Encoder):
    """Sum up the last `steps` inflows in units that forget, each at its own pace, and show the latest beside them.

        h_t = a ⊙ h_{t−1} + √(1 − a²) ⊙ (x_t B),   a = exp(−exp(ν)),   h = 0 before the first of the last `steps`

    A state is a weighted sum of what came, so the states of all stages are one product, over a short memory as over a
    long one, and a request's are one product in float64, with the same bits in any batch. What is not linear is left to
    the layers above: on a linear memory they come as near as wanted to whatever forgets (Boyd and Chua, 1985).

    Source: Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences" (2023), the diagonal linear
    recurrence in its exponential form, with the normalization of its inputs; here real.
    """

    by_lag: Tensor

    def __init__(self, case: Case, *, stages: int, width: int, steps: int) -> None:
        reservoirs = len(case.hydros)
        super().__init__(case, stages=stages, size=reservoirs + width)
        self.steps = min(steps, stages)
        longest = max(self.steps, _SHORTEST_MEMORY)
        paces = torch.logspace(math.log10(_SHORTEST_MEMORY), math.log10(longest), width)
        self.pace = nn.Parameter(-torch.log(paces))
        self.from_share = nn.Parameter(torch.randn(reservoirs, width) / math.sqrt(reservoirs))
        self.register_buffer("by_lag", torch.empty(0), persistent=False)

    def forward(self, inflow_BTR: Tensor) -> Tensor:
        """Return the latest shares and the states of all stages, [T, B, R + H]."""
        shares = self.shares(inflow_BTR)
        fed_HTB = (shares @ self.from_share).permute(2, 0, 1)
        states_HTB = self._memory(self._lags(inflow_BTR.device)) @ fed_HTB
        return torch.cat([shares, states_HTB.permute(1, 2, 0)], dim=2)

    def served(self, stage_B: Tensor, sequence_BWR: Tensor, length_B: Tensor) -> Tensor:
        """Return the latest shares and the states of requests, float64 [B, R + H]."""
        shares = self.last_shares(stage_B, sequence_BWR, length_B, count=self.steps)
        return torch.cat([shares[:, -1], shares.flatten(1) @ self.by_lag], dim=1)

    def prepare(self) -> None:
        """Hold what each inflow of a window, oldest first, adds to each state, [W R, H]."""
        with torch.no_grad():
            lag = torch.arange(self.steps - 1, -1, -1, device=self.pace.device)
            weight_WH = self._memory(lag[:, None])[:, :, 0].T
            self.by_lag = (weight_WH[:, None, :] * self.from_share).flatten(0, 1)

    def _lags(self, device: torch.device) -> Tensor:
        """Return how many stages before each stage each other lies, int64 [T, T]."""
        stage = torch.arange(self.stages, device=device)
        return stage[:, None] - stage

    def _memory(self, lag: Tensor) -> Tensor:
        """Return what is left of an inflow after so many stages, [H, *lag]; nothing of later and of forgotten ones."""
        forgotten = torch.exp(self.pace)[:, None, None]
        left = torch.sqrt(-torch.expm1(-2.0 * forgotten)) * torch.exp(-forgotten * lag.clamp(min=0))
        return left * ((lag >= 0) & (lag < self.steps))


def _shares(inflow: Tensor, scale: Tensor) -> Tensor:
    return torch.sqrt((inflow * scale).clamp(0.0, LARGEST_SHARE)) - 1.0
