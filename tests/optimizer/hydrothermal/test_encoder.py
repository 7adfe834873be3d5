import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from optimizer.hydrothermal.encoder import LARGEST_SHARE, Encoder, RecurrentEncoder, WindowEncoder
from optimizer.hydrothermal.network import TargetNetwork
from optimizer.hydrothermal.problem import HydrothermalProblem, Scenarios
from optimizer.training.dual import UnableToTrust, check_gradient
from tests.helpers.hydrothermal_policies import ENCODERS, STAGES, random_network, small_problem
from tests.helpers.small_case import small_case, small_stage

TELLING = sorted(ENCODERS.keys() - {"none"})
RECURRENT = sorted(name for name in TELLING if name.startswith("recurrent"))


def _encoder(name: str, *, seed: int = 3) -> Encoder:
    encoder = random_network(seed=seed, encoder=name).encoder
    assert encoder is not None
    return encoder


def _paths(count: int = 2, *, seed: int = 1) -> Tensor:
    return small_problem().scenarios(count, split="train", seed=seed).inflow


def _served(encoder: Encoder, inflow: Tensor, stage: int, *, length: int | None = None) -> Tensor:
    """Return what a request of a stage is told, its sequence as long as the horizon and padded on its left."""
    sequence = torch.zeros_like(inflow)
    sequence[:, STAGES - stage - 1 :] = inflow[:, : stage + 1]
    lengths = torch.full((len(inflow),), float(stage + 1 if length is None else length))
    with torch.no_grad():
        return encoder.served(torch.full((len(inflow),), stage), sequence, lengths)


@pytest.mark.parametrize("name", RECURRENT)
def test_the_gradient_by_the_weights_is_that_of_finite_differences(name: str) -> None:
    encoder, inflow = _encoder(name), _paths(1)
    names, weights = zip(*encoder.named_parameters(), strict=True)

    def features(*values: Tensor) -> Tensor:
        told: Tensor = functional_call(encoder, dict(zip(names, values, strict=True)), (inflow,))
        return told

    assert torch.autograd.gradcheck(features, weights, fast_mode=True)


class _Deaf(HydrothermalProblem):
    """Roll out with the encoder's weights held constant, as if they had no gradient."""

    def propose(self, module: TargetNetwork, scenarios: Scenarios) -> Tensor:
        assert module.encoder is not None
        module.encoder.requires_grad_(not torch.is_grad_enabled())
        targets = super().propose(module, scenarios)
        module.encoder.requires_grad_()
        return targets


def test_an_encoder_without_its_gradient_is_caught_before_training() -> None:
    problem = _Deaf(small_stage(), stages=STAGES, dtype=torch.float64)
    problem.restore(small_problem().state())
    scenarios = problem.scenarios(2, split="validation", seed=1)
    with pytest.raises(UnableToTrust, match="expected the gradient to equal finite differences"):
        check_gradient(random_network(seed=4, encoder="recurrent"), problem, scenarios, seed=1, step=1e-7)


@pytest.mark.parametrize("name", TELLING)
def test_a_stage_is_told_of_its_own_inflow_and_of_no_later_one(name: str) -> None:
    encoder, inflow = _encoder(name), _paths()
    other = inflow.clone()
    other[:, 7:] *= 3.0
    with torch.no_grad():
        one, two = encoder(inflow), encoder(other)
    assert one.shape == (STAGES, 2, encoder.size)
    assert torch.equal(one[:7], two[:7])
    assert (one[7] != two[7]).any(dim=1).all()


def _by_hand(encoder: RecurrentEncoder, inflow_BTR: Tensor, stage: int) -> Tensor:
    """Return the state of a stage step by step, over the last inflows alone."""
    kept = torch.exp(-torch.exp(encoder.pace))
    state = inflow_BTR.new_zeros(len(inflow_BTR), len(kept))
    for at in range(max(stage + 1 - encoder.steps, 0), stage + 1):
        share = torch.sqrt((inflow_BTR[:, at] * encoder.inflow_scale[at]).clamp(max=LARGEST_SHARE)) - 1.0
        state = kept * state + torch.sqrt(1.0 - kept**2) * (share @ encoder.from_share)
    return state


@pytest.mark.parametrize("name", RECURRENT)
def test_each_state_is_that_of_the_last_inflows_from_a_state_of_zero(name: str) -> None:
    encoder, inflow = _encoder(name), _paths(3)
    assert isinstance(encoder, RecurrentEncoder)
    with torch.no_grad():
        told = encoder(inflow)
        for stage in range(STAGES):
            torch.testing.assert_close(told[stage, :, 4:], _by_hand(encoder, inflow, stage), rtol=1e-12, atol=1e-12)


def test_what_was_long_ago_is_remembered_as_far_as_requests_reach() -> None:
    inflow = _paths()
    other = inflow.clone()
    other[:, 0] *= 3.0
    for name, remembers in (("recurrent", True), ("recurrent_5", False), ("window", False)):
        encoder = _encoder(name)
        with torch.no_grad():
            assert torch.equal(encoder(inflow)[9], encoder(other)[9]) != remembers


@pytest.mark.parametrize("name", TELLING)
def test_a_request_is_told_what_training_was(name: str) -> None:
    encoder, inflow = _encoder(name), _paths()
    with torch.no_grad():
        told = encoder(inflow)
    encoder.prepare()
    for stage in range(STAGES):
        torch.testing.assert_close(_served(encoder, inflow, stage), told[stage], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("garbage", [1e9, -5.0, math.nan, math.inf])
@pytest.mark.parametrize("name", TELLING)
def test_what_pads_a_sequence_has_no_say(name: str, garbage: float) -> None:
    encoder, inflow = _encoder(name), _paths()
    encoder.prepare()
    stage, lengths = torch.tensor([6, 6]), torch.tensor([3.0, 0.0])
    sequence = inflow.clone()
    sequence[0, : STAGES - 3], sequence[1] = 0.0, 0.0
    spoiled = sequence.clone()
    spoiled[0, : STAGES - 3], spoiled[1] = garbage, garbage
    with torch.no_grad():
        clean, told = (encoder.served(stage, one, lengths) for one in (sequence, spoiled))
    assert torch.equal(clean, told)
    assert (clean[1] == 0.0).all()
    assert (clean[0] != 0.0).any()


@pytest.mark.parametrize("name", TELLING)
def test_inflows_from_before_the_horizon_have_no_say(name: str) -> None:
    encoder, inflow = _encoder(name), _paths()
    encoder.prepare()
    lengths = torch.full((2,), float(STAGES))
    with torch.no_grad():
        told = encoder.served(torch.tensor([1, 1]), inflow, lengths)
        alone = encoder.served(torch.tensor([1, 1]), inflow[:, -2:], torch.full((2,), 2.0))
    assert torch.equal(told, alone)


def test_a_window_shows_the_latest_first_and_nothing_before_the_first() -> None:
    encoder, inflow = WindowEncoder(small_case(), stages=STAGES, history=2).double(), _paths()
    told = encoder(inflow)
    assert torch.equal(told[0, :, 4:], torch.zeros(2, 4))
    assert torch.equal(told[1:, :, 4:], told[:-1, :, :4])
