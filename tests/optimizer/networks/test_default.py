from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from optimizer.networks.default import default_network
from optimizer.torch_graph import run_module
from policies.gates import check_output
from policies.selftest import Group, random_inputs
from policies.spec import PolicySpec
from tests.helpers.policy_specs import ASSIGNMENT, CHOICES, FIXED_ASSIGNMENT, OWN_ACTIONS, PLAIN, SPECS


class _AsPolicy:
    def __init__(self, spec: PolicySpec, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self._spec = spec
        self.module = default_network(spec, width=16)

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        found: NDArray[np.floating] = run_module(self.module, arrays, mask, spec=self._spec).numpy()
        return found


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.domain)
def test_every_spec_has_a_network_whose_proposals_are_sound(spec: PolicySpec) -> None:
    check_output(_AsPolicy(spec), random_inputs(spec, count=20, seed=4), spec=spec)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.fields], ids=lambda spec: spec.domain)
def test_every_parameter_is_learned(spec: PolicySpec) -> None:
    torch.manual_seed(0)
    module = default_network(spec, width=16)
    total = torch.zeros(())
    for arrays, mask in random_inputs(spec, count=32, seed=4):
        inputs: dict[str, Tensor] = {name: torch.from_numpy(a) for name, a in {**arrays, "mask": mask}.items()}
        found = module(**inputs)
        total = total + (found * torch.rand(found.shape)).sum()
    total.backward()  # type: ignore[no-untyped-call]

    idle = [name for name, p in module.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert idle == []


@pytest.mark.parametrize("spec", CHOICES, ids=lambda spec: spec.domain)
def test_the_same_seed_gives_the_same_network(spec: PolicySpec) -> None:
    arrays, mask = random_inputs(spec, count=3, seed=0)[-1]

    first, second = (_AsPolicy(spec, seed=6).propose(arrays, mask) for _ in range(2))

    assert (first == second).all()


@pytest.mark.parametrize("spec", [OWN_ACTIONS, ASSIGNMENT], ids=lambda spec: spec.domain)
def test_permuted_own_actions_permute_the_probabilities(spec: PolicySpec) -> None:
    arrays, mask = random_inputs(spec, count=5, seed=1)[-1]
    order = np.random.default_rng(0).permutation(mask.shape[2])
    policy = _AsPolicy(spec)

    permuted = policy.propose({**arrays, "actions": arrays["actions"][:, order]}, mask[:, :, order])

    assert permuted == pytest.approx(policy.propose(arrays, mask)[:, :, order], abs=1e-6)


@pytest.mark.parametrize("spec", [OWN_ACTIONS, ASSIGNMENT], ids=lambda spec: spec.domain)
def test_padding_does_not_change_the_probabilities(spec: PolicySpec) -> None:
    arrays, mask = random_inputs(spec, count=5, seed=1)[1]
    wide = {**arrays, "actions": np.pad(arrays["actions"], ((0, 0), (0, 3), (0, 0)))}
    policy = _AsPolicy(spec)

    padded = policy.propose(wide, np.pad(mask, ((0, 0), (0, 0), (0, 3))))

    assert padded[:, :, :-3] == pytest.approx(policy.propose(arrays, mask), abs=1e-6)
    assert not padded[:, :, -3:].any()


def test_fixed_ids_differ_in_each_slot() -> None:
    group: Group = random_inputs(FIXED_ASSIGNMENT, count=5, seed=1)[1]
    arrays, mask = group
    found = _AsPolicy(FIXED_ASSIGNMENT).propose(arrays, np.ones_like(mask))

    assert np.ptp(found[:, 0] / found[:, 1], axis=1).max() > 1e-4


def test_the_floor_of_the_spec_is_inside() -> None:
    ((arrays, mask),) = random_inputs(PLAIN, count=5, seed=1)
    policy = _AsPolicy(PLAIN)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.mul_(50)

    found = policy.propose(arrays, mask)

    assert found[mask].min() == pytest.approx(0.1 / 3, rel=1e-5)
