import numpy as np
import pytest
import torch
from torch import Tensor

from optimizer.hydrothermal.network import ServedTargets, TargetNetwork, _precise_sigmoid
from optimizer.hydrothermal.reach import stretched_sigmoid
from tests.helpers.hydrothermal_policies import ENCODERS, STAGES, random_network, small_problem
from tests.helpers.small_case import small_case

SAME = 1e-11


def _step_by_step(network: TargetNetwork, inflow: Tensor) -> Tensor:
    """Roll out by ordinary operations, one stage after another."""
    volume, targets = network.volume_initial.expand(inflow.shape[0], -1), []
    features = None if network.encoder is None else network.encoder(inflow)
    for stage in range(network.stages):
        outside = network.stage_part(torch.tensor([stage]))
        if features is not None:
            outside = outside + network.inflow_part(features[stage])
        water = volume + network.volume_per_flow * inflow[:, stage]
        fraction = stretched_sigmoid(network.scores(water, outside, network.score_bias[stage]))
        volume = network.reach(water, fraction)
        targets.append(volume)
    return torch.stack(targets, dim=1)


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_the_roll_out_and_its_adjoint_are_those_of_ordinary_operations(encoder: str) -> None:
    inflow = small_problem().scenarios(3, split="train", seed=1).inflow
    weight = torch.randn(3, STAGES, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found, expected = (random_network(seed=5, encoder=encoder) for _ in range(2))
    targets, by_hand = found.roll_out(inflow), _step_by_step(expected, inflow)
    torch.testing.assert_close(targets, by_hand, rtol=SAME, atol=SAME)
    targets.backward(weight)  # type: ignore[no-untyped-call]
    by_hand.backward(weight)  # type: ignore[no-untyped-call]
    names = dict(expected.named_parameters())
    for name, parameter in found.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, names[name].grad, rtol=SAME, atol=SAME)


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_what_is_exported_proposes_what_was_rolled_out(encoder: str) -> None:
    problem, network = small_problem(), random_network(seed=6, encoder=encoder)
    scenarios = problem.scenarios(4, split="test", seed=3)
    targets = network.roll_out(scenarios.inflow).detach()
    served = ServedTargets(network, case=small_case(), margin=np.zeros(4))
    before = torch.cat([network.volume_initial.expand(4, 1, -1), targets[:, :-1]], dim=1)
    for stage in range(STAGES):
        with torch.no_grad():
            found = served(**problem.observe(before[:, stage], scenarios, stage))
        torch.testing.assert_close(found, targets[:, stage], rtol=2e-5, atol=2e-5)


def test_targets_that_touch_their_reach_are_lowered_by_the_margin() -> None:
    network = random_network(seed=7)
    with torch.no_grad():
        network.score_bias.fill_(30.0)
    margin = np.array([0.01, 0.02, 0.0, 0.5])
    scenarios = small_problem().scenarios(1, split="test", seed=4)
    little = torch.tensor([[1.0, 0.3, 0.0, 0.2]], dtype=torch.float64)
    observed = small_problem().observe(little, scenarios, 0)
    full, lowered = (
        ServedTargets(network, case=small_case(), margin=m)(**observed).detach() for m in (np.zeros(4), margin)
    )
    assert ((full - lowered)[0, [0, 1, 3]] > 0.5 * torch.tensor(margin)[[0, 1, 3]]).all()
    assert (lowered >= 0.0).all()


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_later_inflows_change_no_earlier_target(encoder: str) -> None:
    network = random_network(seed=8, encoder=encoder)
    inflow = small_problem().scenarios(2, split="train", seed=5).inflow
    other = inflow.clone()
    other[:, 7:] *= 3.0
    with torch.no_grad():
        one, two = network.roll_out(inflow), network.roll_out(other)
    assert torch.equal(one[:, :7], two[:, :7])
    assert not torch.equal(one[:, 7], two[:, 7])


def test_water_beyond_what_was_trained_gets_the_scores_of_the_most_that_was() -> None:
    served = ServedTargets(random_network(seed=9), case=small_case(), margin=np.zeros(4))
    scenarios = small_problem().scenarios(1, split="test", seed=4)
    observed = small_problem().observe(torch.tensor(small_case().volume_max)[None, :], scenarios, 0)
    fractions = []
    for times in (1e3, 1e6):
        observed["sequence_inflow"] = torch.full((1, 1, 4), times, dtype=torch.float64)
        fractions.append(served(**observed)[0, [0, 1, 3]] / served.reach.volume_max[[0, 1, 3]])
    assert torch.equal(fractions[0], fractions[1])


def test_the_served_sigmoid_is_exact_far_beyond_float32_and_the_same_in_any_batch() -> None:
    values = torch.linspace(-60.0, 60.0, 4801, dtype=torch.float64)
    found = _precise_sigmoid(values)
    torch.testing.assert_close(found, torch.sigmoid(values), rtol=0.0, atol=2e-9)
    assert found[[0, -1]].tolist() == pytest.approx([0.0, 1.0], abs=1e-12)
    alone = torch.cat([_precise_sigmoid(values[at : at + 1]) for at in range(64)])
    assert torch.equal(alone, found[:64])
