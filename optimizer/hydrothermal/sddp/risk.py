"""How a stage weighs what nature may do: by the mean, by the worst of it, or by both.

EAVaR = λ E + (1 − λ) AVaR_β, where AVaR_β is the mean of the worst share β of the probability: β = 1 is the mean, β = 0
the worst case. It is used as changed probabilities, stage inside stage: the value is a nested one, not the AVaR of a
horizon's cost, and the bound of a training that is not neutral bounds no mean.

Source: Shapiro, "Analysis of stochastic dual dynamic programming method" (2011); conventions as SDDP.jl has them.
"""

from dataclasses import dataclass

import numpy as np

from optimizer.hydrothermal.case import Floats


@dataclass(frozen=True, kw_only=True)
class Risk:
    """Say how outcomes are weighed: expectation_weight λ and tail_share β, both in [0, 1].

    Raises:
        ValueError: a number lies outside.
    """

    expectation_weight: float = 1.0
    tail_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("expectation_weight", "tail_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], found {getattr(self, name)}")

    @property
    def is_neutral(self) -> bool:
        """Say whether the mean is all that counts."""
        return self.expectation_weight == 1.0 or self.tail_share == 1.0

    def weights(self, cost_S: Floats, *, probability_S: Floats) -> Floats:
        """Return the changed probabilities, float64 [S], which sum to one; their mean of the cost is the EAVaR.

        >>> cost, probability = np.array([1.0, 4.0, 2.0, 3.0]), np.full(4, 0.25)
        >>> Risk(expectation_weight=0.0, tail_share=0.5).weights(cost, probability_S=probability).tolist()
        [0.0, 0.5, 0.0, 0.5]
        >>> Risk(expectation_weight=0.5, tail_share=0.0).weights(cost, probability_S=probability).tolist()
        [0.125, 0.625, 0.125, 0.125]
        """
        if self.is_neutral:
            return probability_S
        tail_S = _tail(cost_S, probability_S, self.tail_share)
        weights_S: Floats = self.expectation_weight * probability_S + (1.0 - self.expectation_weight) * tail_S
        return weights_S


def _tail(cost_S: Floats, probability_S: Floats, share: float) -> Floats:
    """Return the weights of AVaR: p/β from the worst on until one is used up."""
    tail_S = np.zeros_like(probability_S)
    worst_first = np.argsort(-np.where(probability_S > 0, cost_S, -np.inf), kind="stable")
    if share == 0.0:
        tail_S[worst_first[0]] = 1.0
        return tail_S
    used = np.minimum(np.cumsum(probability_S[worst_first]), share)
    tail_S[worst_first] = np.diff(used, prepend=0.0) / used[-1]
    return tail_S
