import pytest
import torch
from torch import nn

from optimizer.networks.perceptron import Perceptron


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_counts_hidden_layers(depth: int) -> None:
    network = Perceptron(4, 2, width=8, depth=depth)

    assert sum(isinstance(layer, nn.Linear) for layer in network.modules()) == depth + 1
    assert network(torch.zeros(5, 3, 4)).shape == (5, 3, 2)


def test_the_last_layer_has_no_activation() -> None:
    torch.manual_seed(0)

    assert float(Perceptron(4, 64, width=8, depth=1)(torch.ones(1, 4)).detach().min()) < 0


def test_the_activation_can_be_chosen() -> None:
    network = Perceptron(4, 2, width=8, depth=2, activation=nn.Tanh)

    assert sum(isinstance(layer, nn.Tanh) for layer in network.modules()) == 2
