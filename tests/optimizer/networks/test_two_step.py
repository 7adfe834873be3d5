from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from optimizer.networks.two_step import TwoStepPolicy


class Doubling(TwoStepPolicy):
    def prepare(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return (2 * inputs["request"].float(),)

    def probabilities(self, prepared: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        return torch.softmax(prepared[0], dim=1)[:, None, :] * mask


def test_the_forward_pass_is_one_step_after_the_other() -> None:
    inputs, mask = torch.tensor([[0.0, 1.0]], dtype=torch.float64), torch.ones((1, 1, 2), dtype=torch.bool)
    policy = Doubling()
    expected = policy.probabilities(policy.prepare({"request": inputs, "mask": mask}), mask)
    assert torch.equal(policy(request=inputs, mask=mask), expected)


def test_a_policy_without_its_two_steps_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        TwoStepPolicy()  # type: ignore[abstract]
