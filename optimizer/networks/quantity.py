"""From scores to quantities within their bounds."""

# B batch, N component of the quantity

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class BoundedQuantities(nn.Module):
    """Squeeze scores into [lower, upper] by a sigmoid; a score of 0 is the middle.

    The sigmoid is float32 (onnxruntime's float64 one varies with the batch), its stretching to units float64.

    >>> BoundedQuantities((0.0, 10.0), (8.0, 30.0))(torch.zeros(1, 2)).tolist()
    [[4.0, 20.0]]
    """

    lower: Tensor
    span: Tensor

    def __init__(self, lower: Sequence[float], upper: Sequence[float]) -> None:
        super().__init__()
        low = torch.tensor(lower, dtype=torch.float64)
        self.register_buffer("lower", low)
        self.register_buffer("span", torch.tensor(upper, dtype=torch.float64) - low)

    def forward(self, scores: Tensor) -> Tensor:
        """Turn float32 [B, N] into float64 [B, N] in the units of the bounds."""
        return self.lower + self.span * torch.sigmoid(scores).double()
