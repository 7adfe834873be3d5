"""From a torch module to an ONNX graph: named inputs, symbolic axes, no trace of where it was made."""

# B batch, S slot, A action

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from optimizer.plain_graph import OPSET, finish
from policies.selftest import Arrays
from policies.signature import ACTIONS, BATCH, SLOTS, GraphTensor, graph_inputs, output_name
from policies.spec import PolicySpec

_EXAMPLE_SIZES = {BATCH: 3, SLOTS: 5, ACTIONS: 7}
"""Sizes of the symbolic axes while tracing: never 1, which the exporter would freeze, and no two alike."""


def graph_of(module: nn.Module, *, spec: PolicySpec) -> onnx.ModelProto:
    """Export a module in evaluation mode; the same weights give the same bytes in any folder.

    Raises:
        TypeError: the module's `forward` asks for an input that the spec does not have.
    """
    tensors = _inputs_of(module, spec)
    names = [tensor.name for tensor in tensors]
    wrapped = _ByPosition(frozen_copy(module), names).eval()
    with _quietly():
        program = torch.onnx.export(
            wrapped,
            tuple(map(_example, tensors)),
            dynamic_shapes={"inputs": tuple(map(_dynamic_axes, tensors))},
            input_names=names,
            output_names=[output_name(spec)],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return finish(program.model_proto, inputs=tensors, spec=spec)


def frozen_copy(module: nn.Module) -> nn.Module:
    """Return a copy on the CPU, in evaluation mode; the module itself keeps its device and mode."""
    return copy.deepcopy(module).cpu().eval()


def run_module(module: nn.Module, arrays: Mapping[str, Any], mask: Any, *, spec: PolicySpec) -> Tensor:
    """Run a module on numpy arrays of the encoder, without gradients."""
    everything: Arrays = {**arrays, "mask": mask}
    names = [tensor.name for tensor in _inputs_of(module, spec)]
    with torch.no_grad():
        result: Tensor = module(**{name: torch.from_numpy(everything[name]) for name in names})
    return result


class _ByPosition(nn.Module):
    """Give a module that takes keywords its inputs by place, as the exporter numbers them."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.module(**dict(zip(self.names, inputs, strict=True)))
        return result


def _inputs_of(module: nn.Module, spec: PolicySpec) -> list[GraphTensor]:
    """Return the graph's inputs that the module's `forward` takes; `**inputs` takes all of them."""
    parameters = inspect.signature(module.forward).parameters
    tensors = graph_inputs(spec)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return list(tensors)
    unknown = set(parameters) - {tensor.name for tensor in tensors}
    if unknown or not parameters:
        names = ", ".join(tensor.name for tensor in tensors)
        raise TypeError(f"forward must take inputs among {names}, found {', '.join(sorted(unknown)) or 'none'}")
    return [tensor for tensor in tensors if tensor.name in parameters]


def _example(tensor: GraphTensor) -> Tensor:
    shape = [axis if isinstance(axis, int) else _EXAMPLE_SIZES[axis] for axis in tensor.axes]
    return torch.ones(shape, dtype=torch.bool if tensor.dtype == "bool" else torch.float64)


def _dynamic_axes(tensor: GraphTensor) -> dict[int, Any]:
    """Mark every symbolic axis with `Dim.DYNAMIC`; a named Dim may be frozen without a word."""
    return {place: torch.export.Dim.DYNAMIC for place, axis in enumerate(tensor.axes) if isinstance(axis, str)}


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's own news (deprecations inside torch and onnxscript, progress) away from the caller."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for kind in (DeprecationWarning, FutureWarning, UserWarning):
                warnings.filterwarnings("ignore", category=kind, module=r"(torch|onnxscript|onnx_ir|onnx)(\.|$)")
            yield
    finally:
        logger.setLevel(level)
