import math

import numpy as np
import pytest
import torch

from optimizer.logged_bandit.network import uniform_network
from optimizer.networks.default import ChoiceNetwork
from optimizer.training.encoded_log import EncodedLog, encode_log
from optimizer.training.log_tensors import (
    GroupTensors,
    judge,
    paired_gain,
    probabilities_of,
    scale_of,
    score,
    to_tensors,
    weights_of,
    with_anchor,
)
from policies.assemble import assemble
from tests.helpers.taught_logs import Taught, cluster, market, shop

CPU = torch.device("cpu")


def encoded(log: Taught) -> EncodedLog:
    return encode_log(log.feedback, spec=log.spec, reward={"click": 1.0})


def network_of(log: Taught, *, seed: int = 0) -> ChoiceNetwork:
    torch.manual_seed(seed)
    return ChoiceNetwork(log.spec, width=8, depth=1)


def tensors_of(log: EncodedLog, network: ChoiceNetwork) -> list[GroupTensors]:
    scale = scale_of(log)
    return [to_tensors(g, network=network, device=CPU, scale=scale, predicted=None) for g in log.groups]


@pytest.mark.parametrize(
    "log", [shop(80, seed=1), market(80, seed=1), cluster(80, seed=1)], ids=["ids", "own", "slots"]
)
def test_features_prepared_once_give_the_forward_passes_bits(log: Taught) -> None:
    network, whole = network_of(log), encoded(log)
    for group, tensors in zip(whole.groups, tensors_of(whole, network), strict=True):
        inputs = {name: torch.from_numpy(array) for name, array in group.arrays.items()}
        with torch.no_grad():
            expected = network(**inputs, mask=torch.from_numpy(group.mask))
        assert torch.equal(probabilities_of(network, tensors), expected)


def test_the_uniform_policy_weighs_a_uniform_log_by_one() -> None:
    log = market(60, seed=2)
    network = uniform_network(log.spec, width=8, depth=1)
    for tensors in tensors_of(encoded(log), network):
        weights = weights_of(probabilities_of(network, tensors), tensors)
        assert weights.numpy() == pytest.approx(1.0, abs=1e-6)


def test_a_log_scored_for_its_own_policy_earns_its_mean_reward() -> None:
    log = shop(500, seed=3)
    whole, network = encoded(log), uniform_network(log.spec, width=8, depth=1)
    found = judge(
        score(network, log=whole, tensors=tensors_of(whole, network), predicted=None), log=whole, confidence=0.95
    )
    assert found.value == pytest.approx(log.feedback.rewards["click"].mean(), rel=1e-6)
    assert found.mean_weight == pytest.approx(1.0, abs=1e-6)


def test_the_weight_of_a_whole_request_is_the_product_over_its_slots() -> None:
    log = cluster(40, seed=4, is_whole=True)
    whole, network = encoded(log), network_of(log)
    judged = score(network, log=whole, tensors=tensors_of(whole, network), predicted=None)
    expected = []
    for group, tensors in zip(whole.groups, tensors_of(whole, network), strict=True):
        weights = weights_of(probabilities_of(network, tensors), tensors).numpy()
        expected += [row[is_acted].prod() for row, is_acted in zip(weights, group.is_acted, strict=True)]
    assert judged.scored.weight == pytest.approx(np.array(expected), rel=1e-5)
    assert judged.weight_bound is None


def test_the_anchor_is_uniform_until_a_network_is_named() -> None:
    log = market(50, seed=5)
    network = network_of(log)
    for tensors in tensors_of(encoded(log), network):
        eligible = tensors.mask.sum(dim=2, keepdim=True)
        assert torch.allclose(
            tensors.log_anchor.exp()[tensors.mask], (1 / eligible).expand_as(tensors.mask)[tensors.mask]
        )
        anchored = with_anchor(tensors, network=network)
        found = anchored.log_anchor.exp()[tensors.mask]
        assert torch.allclose(found, probabilities_of(network, tensors)[tensors.mask])


def test_advantages_have_mean_zero_and_deviation_one() -> None:
    log = shop(300, seed=6)
    whole = encoded(log)
    (tensors,) = tensors_of(whole, network_of(log))
    assert float(tensors.advantage.mean()) == pytest.approx(0, abs=1e-5)
    assert float(tensors.advantage.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_a_constant_reward_does_not_divide_by_zero() -> None:
    log = shop(30, seed=7, base=0.0, lift=0.0)
    assert scale_of(encoded(log)).deviation == 1.0


def test_the_paired_gain_of_a_policy_over_itself_is_zero() -> None:
    log = shop(100, seed=8)
    whole, network = encoded(log), network_of(log)
    judged = score(network, log=whole, tensors=tensors_of(whole, network), predicted=None)
    assert paired_gain(judged, judged) == (0.0, 0.0)


def test_the_paired_error_counts_units_and_not_rows() -> None:
    log = shop(200, seed=9)
    doubled = assemble(
        log.spec,
        columns=log.feedback.columns,
        actions=log.feedback.actions,
        propensity=log.feedback.propensity,
        rewards=log.feedback.rewards,
        units=[f"user{row // 20}" for row in range(200)],
    )
    found = []
    for feedback in (log.feedback, doubled):
        whole = encode_log(feedback, spec=log.spec, reward={"click": 1.0})
        judged = [
            score(network, log=whole, tensors=tensors_of(whole, network), predicted=None)
            for network in (network_of(log, seed=1), network_of(log, seed=2))
        ]
        found.append(paired_gain(*judged))
    (row_gain, row_error), (unit_gain, unit_error) = found
    assert row_gain == pytest.approx(unit_gain)
    assert row_error > 0
    assert not math.isclose(row_error, unit_error, rel_tol=1e-3)
