"""A network for any spec, for whoever brings a log and no network."""

# B batch, S slot, A action, N component of the quantity

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from optimizer.networks.choice import CellScorer, floor_softmax
from optimizer.networks.features import FieldFeatures, RequestFeatures
from optimizer.networks.perceptron import Perceptron
from optimizer.networks.quantity import BoundedQuantities
from optimizer.networks.two_step import TwoStepPolicy
from policies.spec import PolicySpec


def default_network(spec: PolicySpec, *, width: int = 64, depth: int = 2) -> nn.Module:
    """Return a perceptron policy of this spec; its initial weights come from torch's generator.

    Its `forward` takes the graph's inputs as keywords (float64, the mask bool) and returns probabilities, float32
    [B, S, A] with mask and floor inside, or quantities, float64 [B, N] within their bounds.
    """
    if spec.is_quantity:
        return QuantityNetwork(spec, width=width, depth=depth)
    return ChoiceNetwork(spec, width=width, depth=depth)


class ChoiceNetwork(TwoStepPolicy):
    """Score the actions by id, by their features and by those of the slot; whichever the spec has, summed."""

    ids: Tensor

    def __init__(self, spec: PolicySpec, *, width: int, depth: int) -> None:
        super().__init__()
        self.floor = spec.floor
        self.request = RequestFeatures(spec)
        self.actions = FieldFeatures(spec.on("action")) if spec.on("action") else None
        self.slots = FieldFeatures(spec.on("slot")) if spec.on("slot") else None
        id_count = len(spec.actions.ids or ())
        self.by_id = Perceptron(self.request.size, id_count, width=width, depth=depth) if id_count else None
        self.has_id_features = bool(id_count) and self.slots is not None
        self.register_buffer("ids", torch.eye(id_count))
        self.by_cell = self._cell_scorer(id_count, width=width, depth=depth)

    def prepare(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the features of the request and, where the spec has them, of the actions and of the slots."""
        actions = self._action_features(inputs)
        slots = None if self.slots is None else self.slots(inputs["slots"])
        return tuple(part for part in (self.request(inputs), actions, slots) if part is not None)

    def probabilities(self, prepared: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        """Return probabilities, float32 [B, S, A]."""
        return floor_softmax(self.scores(prepared), mask, floor=self.floor)

    def scores(self, prepared: tuple[Tensor, ...]) -> Tensor:
        """Return the scores before mask and floor, float32, broadcasting to [B, S, A]."""
        request, *others = prepared
        by_id = None if self.by_id is None else self.by_id(request)[:, None, :]
        if self.by_cell is None:
            assert isinstance(by_id, Tensor)
            return by_id
        slots = None if self.slots is None else others.pop()
        by_cell: Tensor = self.by_cell(request, actions=others[0] if others else None, slots=slots)
        return by_cell if by_id is None else by_cell + by_id

    def _cell_scorer(self, id_count: int, *, width: int, depth: int) -> CellScorer | None:
        if id_count and self.actions is None and self.slots is None:
            return None
        action_size = (self.actions.size if self.actions else 0) + (id_count if self.has_id_features else 0)
        slot_size = self.slots.size if self.slots else 0
        return CellScorer(self.request.size, action_size=action_size, slot_size=slot_size, width=width, depth=depth)

    def _action_features(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Return float32 [B, A, features]: what the spec says of the action and, beside slots, which id it is."""
        features = None if self.actions is None else self.actions(inputs["actions"])
        if not self.has_id_features:
            return features
        ids = self.ids.expand(inputs["mask"].shape[0], -1, -1)
        return ids if features is None else torch.cat([features, ids], dim=-1)


class QuantityNetwork(nn.Module):
    """Map the request's features to quantities within their bounds."""

    def __init__(self, spec: PolicySpec, *, width: int, depth: int) -> None:
        super().__init__()
        self.request = RequestFeatures(spec)
        self.scores = Perceptron(self.request.size, len(spec.actions.names), width=width, depth=depth)
        self.bound = BoundedQuantities(spec.actions.lower, spec.actions.upper)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return quantities, float64 [B, N]."""
        quantities: Tensor = self.bound(self.scores(self.request(inputs)))
        return quantities
