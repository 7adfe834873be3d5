"""From features to the probabilities of a choice: scores of cells, and a softmax with mask and exploration floor."""

# B batch, S slot, A action

import torch
from torch import Tensor, nn

from optimizer.networks.perceptron import Perceptron
from policies.gates import raised_floor

MASKED = -1e9
"""The score of an ineligible action: finite, because a row of -inf alone (a padded slot) would be NaN."""


def floor_softmax(scores: Tensor, mask: Tensor, *, floor: float) -> Tensor:
    """Turn scores into probabilities: (1 - floor) softmax + floor / (number of eligible actions), zero elsewhere.

    scores: float32, of any shape that broadcasts to the mask's. mask: bool [B, S, A], true where eligible.

    Returns:
        float32 [B, S, A]; each slot with an eligible action sums to one, any other is all zero.

    >>> mask = torch.tensor([[[True, True, False]]])
    >>> floor_softmax(torch.zeros(1, 1, 3), mask, floor=0.1).tolist()
    [[[0.5, 0.5, 0.0]]]
    """
    share = raised_floor(floor)
    eligible = mask.float()
    count = torch.clamp(eligible.sum(dim=-1, keepdim=True), min=1.0)
    softmax = torch.softmax(torch.where(mask, scores, MASKED), dim=-1)
    return eligible * ((1 - share) * softmax + share / count)


class CellScorer(nn.Module):
    """Score each (slot, action) from the request's, the slot's and the action's features by one shared perceptron.

    What is permuted among actions or slots is permuted among the scores. The first layer is a sum of one part per
    source, so that what belongs to a request or a slot is multiplied once, not once per cell.
    """

    def __init__(
        self, request_size: int, *, action_size: int = 0, slot_size: int = 0, width: int = 64, depth: int = 2
    ) -> None:
        super().__init__()
        self.request = nn.Linear(request_size, width)
        self.action = nn.Linear(action_size, width, bias=False) if action_size else None
        self.slot = nn.Linear(slot_size, width, bias=False) if slot_size else None
        self.rest = nn.Sequential(nn.ReLU(), Perceptron(width, 1, width=width, depth=max(depth - 1, 0)))

    def forward(self, request: Tensor, *, actions: Tensor | None = None, slots: Tensor | None = None) -> Tensor:
        """Return scores, float32 [B, S, A]; S or A is 1 where there are no features of slots or actions.

        request: float32 [B, request_size]; actions: [B, A, action_size]; slots: [B, S, slot_size].
        """
        hidden = self.request(request)[:, None, None, :]
        if self.slot is not None and slots is not None:
            hidden = hidden + self.slot(slots)[:, :, None, :]
        if self.action is not None and actions is not None:
            hidden = hidden + self.action(actions)[:, None, :, :]
        scores: Tensor = self.rest(hidden)
        return scores.squeeze(-1)
