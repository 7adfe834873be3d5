import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.networks.choice import CellScorer, floor_softmax


@settings(deadline=None)
@given(st.integers(0, 2**31), st.just(0.0) | st.floats(1e-6, 1), st.integers(1, 9))
def test_probabilities_sum_to_one_above_the_floor_and_vanish_off_the_mask(seed: int, floor: float, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 30 * torch.randn((4, 2, count), generator=generator)
    mask = torch.rand((4, 2, count), generator=generator) < 0.5

    found = floor_softmax(scores, mask, floor=floor)

    eligible = mask.sum(dim=2, keepdim=True)
    assert found.dtype == torch.float32
    assert torch.allclose(found.sum(dim=2), mask.any(dim=2).float(), atol=1e-5)
    assert not found[~mask].any()
    least = floor / eligible.clamp(min=1).double() * (1 - 1e-7)
    assert bool((found.double() >= least)[mask].all())


def test_a_slot_without_eligible_actions_is_zero_and_not_nan() -> None:
    assert floor_softmax(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3, dtype=torch.bool), floor=0.1).tolist() == [
        [[0, 0, 0]]
    ]


def test_without_a_floor_it_is_the_softmax() -> None:
    scores = torch.tensor([[[1.0, 2.0, 3.0]]])

    found = floor_softmax(scores, torch.ones(1, 1, 3, dtype=torch.bool), floor=0.0)

    assert torch.allclose(found, torch.softmax(scores, dim=2))


def test_a_floor_of_one_is_uniform() -> None:
    mask = torch.tensor([[[True, True, False, True]]])

    assert floor_softmax(torch.tensor([[[9.0, 1.0, 5.0, 2.0]]]), mask, floor=1.0)[0, 0].tolist() == pytest.approx(
        [1 / 3, 1 / 3, 0, 1 / 3]
    )


def test_scores_broadcast_over_slots() -> None:
    assert floor_softmax(torch.zeros(2, 1, 3), torch.ones(2, 5, 3, dtype=torch.bool), floor=0.0).shape == (2, 5, 3)


@pytest.mark.parametrize("seed", range(3))
def test_permuted_actions_and_slots_permute_the_scores(seed: int) -> None:
    torch.manual_seed(seed)
    scorer = CellScorer(3, action_size=4, slot_size=2, width=8)
    request, actions, slots = torch.randn(2, 3), torch.randn(2, 7, 4), torch.randn(2, 5, 2)
    action_order, slot_order = torch.randperm(7), torch.randperm(5)

    scores = scorer(request, actions=actions, slots=slots)
    permuted = scorer(request, actions=actions[:, action_order], slots=slots[:, slot_order])

    assert scores.shape == (2, 5, 7)
    assert torch.allclose(permuted, scores[:, slot_order][:, :, action_order], atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_each_source_alone_changes_the_scores(depth: int) -> None:
    torch.manual_seed(1)
    scorer = CellScorer(3, action_size=4, slot_size=2, width=32, depth=depth)
    request, actions, slots = torch.randn(1, 3), torch.randn(1, 2, 4), torch.randn(1, 2, 2)
    scores = scorer(request, actions=actions, slots=slots)

    assert not torch.equal(scorer(request + 1, actions=actions, slots=slots), scores)
    assert not torch.equal(scorer(request, actions=actions + 1, slots=slots), scores)
    assert not torch.equal(scorer(request, actions=actions, slots=slots + 1), scores)


def test_without_features_of_slots_or_actions_their_axis_is_one() -> None:
    scorer = CellScorer(3, width=8)

    assert scorer(torch.zeros(2, 3)).shape == (2, 1, 1)
