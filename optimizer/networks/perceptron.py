"""A plain multilayer perceptron."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn


class Perceptron(nn.Module):
    """Map float32 [..., in_size] to float32 [..., out_size] through `depth` hidden layers of `width`.

    >>> import torch
    >>> Perceptron(3, 2, width=8, depth=2)(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self, in_size: int, out_size: int, *, width: int, depth: int, activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        sizes = [in_size] + [width] * depth
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), activation()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], out_size))

    def forward(self, values: Tensor) -> Tensor:
        """Return the last layer's values, without an activation."""
        result: Tensor = self.layers(values)
        return result
