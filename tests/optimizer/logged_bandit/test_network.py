import pytest
import torch

from optimizer.logged_bandit.network import uniform_network
from optimizer.training.encoded_log import encode_log
from tests.helpers.taught_logs import Taught, cluster, market, shop


@pytest.mark.parametrize(
    "log", [shop(60, seed=1), market(60, seed=1), cluster(60, seed=1)], ids=["ids", "own", "slots"]
)
def test_a_fresh_network_is_the_uniform_policy(log: Taught) -> None:
    network = uniform_network(log.spec, width=8, depth=2)
    for group in encode_log(log.feedback, spec=log.spec, reward={"click": 1.0}).groups:
        mask = torch.from_numpy(group.mask)
        with torch.no_grad():
            p = network(**{name: torch.from_numpy(array) for name, array in group.arrays.items()}, mask=mask)
        assert torch.allclose(p, mask / mask.sum(dim=2, keepdim=True).clamp_min(1), atol=1e-6)


def test_a_fresh_network_can_still_learn() -> None:
    log = shop(60, seed=1)
    network = uniform_network(log.spec, width=8, depth=2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    inputs = torch.tensor([[2.0, 0.5]], dtype=torch.float64)
    mask = torch.ones((1, 1, 4), dtype=torch.bool)
    for _ in range(20):
        optimizer.zero_grad()
        loss = -network(request=inputs, mask=mask)[0, 0, 2]
        loss.backward()
        optimizer.step()
    assert all(bool(parameter.grad is not None and parameter.grad.any()) for parameter in network.parameters())
    assert float(network(request=inputs, mask=mask)[0, 0, 2].detach()) > 0.5
