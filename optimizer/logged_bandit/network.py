"""The network of a policy that is learned from a log: the default one, begun at the uniform policy."""

from torch import nn

from optimizer.networks.default import ChoiceNetwork
from optimizer.networks.perceptron import Perceptron
from policies.spec import PolicySpec


def uniform_network(spec: PolicySpec, *, width: int, depth: int) -> ChoiceNetwork:
    """Return a choice network whose last layers are zero: before it has learned, every eligible action is alike.

    >>> from policies.spec import ActionSet
    >>> import torch
    >>> spec = PolicySpec(domain="shop", actions=ActionSet(kind="choice", ids=("left", "right")))
    >>> uniform_network(spec, width=8, depth=1)(mask=torch.tensor([[[True, True]]])).tolist()
    [[[0.5, 0.5]]]
    """
    network = ChoiceNetwork(spec, width=width, depth=depth)
    for module in network.modules():
        if isinstance(module, Perceptron):
            last = module.layers[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return network
