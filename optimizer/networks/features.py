"""From the graph's inputs to features: numbers scaled by the spec's bounds, categories one-hot, sequences summarized.

The inputs are float64, as the encoder makes them; they are scaled before they become float32, because a float32 epoch
has steps of 128 s.
"""

# B batch, T step, W width, N column

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from policies.spec import Field, PolicySpec


class Normalize(nn.Module):
    """Scale columns from [lower, upper] to [0, 1], or to [-1, 1] where centered; lower = upper scales to 0.

    float64 [..., N] in, float32 [..., N] out.

    >>> Normalize((0.0, 5.0), (10.0, 5.0))(torch.tensor([[2.5, 5.0]], dtype=torch.float64)).tolist()
    [[0.25, 0.0]]
    """

    lower: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, lower: Sequence[float], upper: Sequence[float], *, is_centered: bool = False) -> None:
        super().__init__()
        low, high = torch.tensor(lower, dtype=torch.float64), torch.tensor(upper, dtype=torch.float64)
        varies = high > low
        span = torch.where(varies, high - low, torch.ones_like(low))
        size = 2.0 if is_centered else 1.0
        self.register_buffer("lower", low)
        self.register_buffer("scale", torch.where(varies, size / span, torch.zeros_like(span)))
        self.register_buffer("shift", varies.to(torch.float64) * (-1.0 if is_centered else 0.0))

    def forward(self, values: Tensor) -> Tensor:
        """Scale float64 [..., N] to float32 [..., N]."""
        return ((values - self.lower) * self.scale + self.shift).float()


class FieldFeatures(nn.Module):
    """Turn the columns of a run of fields into features: numbers in [-1, 1], then each category one-hot.

    A category of V words has V + 1 features: code 0, any word outside the vocabulary, is one of its own.
    """

    numbers: Tensor
    sources: Tensor
    codes: Tensor

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__()
        numbers: list[int] = []
        sources: list[int] = []
        codes: list[int] = []
        column = 0
        for field in fields:
            if field.vocabulary is not None:
                sources += [column] * (len(field.vocabulary) + 1)
                codes += range(len(field.vocabulary) + 1)
            else:
                numbers += range(column, column + field.width)
            column += field.width
        self.size = len(numbers) + len(sources)
        scaled = [field for field in fields if not field.is_category]
        lower = [bound for field in scaled for bound in field.lowers]
        upper = [bound for field in scaled for bound in field.uppers]
        self.normalize = Normalize(lower, upper, is_centered=True)
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64))
        self.register_buffer("sources", torch.tensor(sources, dtype=torch.int64))
        self.register_buffer("codes", torch.tensor(codes, dtype=torch.float64))

    def forward(self, values: Tensor) -> Tensor:
        """Turn float64 [..., columns] into float32 [..., size]."""
        parts = []
        if len(self.numbers):
            parts.append(self.normalize(values.index_select(-1, self.numbers)))
        if len(self.sources):
            parts.append((values.index_select(-1, self.sources) == self.codes).float())
        return torch.cat(parts, dim=-1)


class SequenceFeatures(nn.Module):
    """Summarize a right-aligned sequence: its last step, its mean step, and which share of the steps is there.

    An empty sequence gives zeros. Steps outside the length never matter, whatever stands there.
    """

    places: Tensor

    def __init__(self, field: Field) -> None:
        super().__init__()
        if field.steps is None:
            raise ValueError(f"field {field.name!r} is no sequence")
        self.size = 2 * field.width + 1
        self.steps = field.steps
        self.normalize = Normalize(field.lowers, field.uppers, is_centered=True)
        self.register_buffer("places", torch.arange(field.steps, dtype=torch.float64))

    def forward(self, sequence: Tensor, length: Tensor) -> Tensor:
        """Turn float64 [B, T, W] and its lengths, float64 [B], into float32 [B, 2 W + 1]."""
        is_step = self.places >= self.steps - length[:, None]
        scaled = torch.where(is_step[:, :, None], self.normalize(sequence), 0.0)
        count = length.float()[:, None]
        weights = is_step.float() / torch.clamp(count, min=1.0)
        # One product per request, no sum over a middle axis: onnxruntime's takes another order when the batch is 1.
        mean = torch.matmul(weights[:, None, :], scaled)[:, 0]
        return torch.cat([scaled[:, -1], mean, count / self.steps], dim=-1)


class RequestFeatures(nn.Module):
    """Turn all of a request's own inputs into one vector; a spec without request fields gives a constant 1."""

    def __init__(self, spec: PolicySpec) -> None:
        super().__init__()
        self.flat = FieldFeatures(spec.flat_fields) if spec.flat_fields else None
        self.names = tuple(field.name for field in spec.sequence_fields)
        self.sequences = nn.ModuleList([SequenceFeatures(field) for field in spec.sequence_fields])
        sizes = [SequenceFeatures(field).size for field in spec.sequence_fields]
        self.size = ((self.flat.size if self.flat else 0) + sum(sizes)) or 1

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Turn the inputs of the graph into float32 [B, size]."""
        parts = [] if self.flat is None else [self.flat(inputs["request"])]
        for name, features in zip(self.names, self.sequences, strict=True):
            parts.append(features(inputs[f"sequence_{name}"], inputs[f"length_{name}"]))
        return torch.cat(parts, dim=-1) if parts else torch.ones_like(inputs["mask"][:, 0, :1], dtype=torch.float32)
