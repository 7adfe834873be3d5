"""A policy network in two steps: normalize what never changes once, then learn on it for many epochs."""

# B batch, S slot, A action

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class TwoStepPolicy(nn.Module, ABC):
    """Propose probabilities in two steps; the first has no parameters and is taken once per training."""

    @abstractmethod
    def prepare(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Turn the graph's inputs, float64 [B, ...] and the mask, into features, float32 [B, ...] each."""

    @abstractmethod
    def probabilities(self, prepared: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        """Return float32 [B, S, A], zero where `mask`, bool [B, S, A], is; the exploration floor is inside."""

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the probabilities of the graph's inputs, float32 [B, S, A]: this is what is exported."""
        return self.probabilities(self.prepare(inputs), inputs["mask"])
