"""ONNX graphs written by hand, without torch: uniform and constant policies; and what every graph is finished with."""

# B batch, S slot, A action, N component of the quantity

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from policies.gates import raised_floor
from policies.signature import BATCH, GraphTensor, graph_inputs, output_name
from policies.spec import PolicySpec

OPSET = 20
IR_VERSION = 10
"""Opset 20 and IR 10: what onnxruntime 1.26 and newer read, and what every bound of this house was measured with."""

_PARTS = 2.0**23
_ELEMENTS = {"float64": TensorProto.DOUBLE, "bool": TensorProto.BOOL}


def uniform_graph(spec: PolicySpec) -> onnx.ModelProto:
    """Return the graph that gives each eligible action of a slot the same probability, float32 [B, S, A]."""
    return _choice_graph(spec, [helper.make_node("Div", ["eligible", "count"], ["probabilities"])], {})


def constant_choice_graph(spec: PolicySpec, probabilities: NDArray[np.float64]) -> onnx.ModelProto:
    """Return the graph of fixed probabilities, float64 [A] of the spec's ids, above the spec's floor.

    What ineligible actions would have is shared by the eligible ones in proportion; where those have none, evenly.
    """
    share = raised_floor(spec.floor)
    constants = {
        "table": _summable(probabilities),
        "kept": np.float32(1 - share),
        "explored": np.float32(share),
        "zero": np.float32(0),
    }
    nodes = [
        helper.make_node("Mul", ["eligible", "table"], ["weights"]),
        helper.make_node("ReduceSum", ["weights", "last_axis"], ["total"], keepdims=1),
        helper.make_node("Greater", ["total", "zero"], ["has_weight"]),
        helper.make_node("Where", ["has_weight", "weights", "eligible"], ["chosen"]),
        helper.make_node("Where", ["has_weight", "total", "count"], ["divisor"]),
        helper.make_node("Div", ["chosen", "divisor"], ["shares"]),
        helper.make_node("Div", ["eligible", "count"], ["uniform"]),
        helper.make_node("Mul", ["shares", "kept"], ["kept_shares"]),
        helper.make_node("Mul", ["uniform", "explored"], ["explored_shares"]),
        helper.make_node("Add", ["kept_shares", "explored_shares"], ["probabilities"]),
    ]
    return _choice_graph(spec, nodes, constants)


def _summable(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to multiples of 2⁻²³, so that their sums are exact whatever order a batch adds them in."""
    rounded = np.round(probabilities * _PARTS) / _PARTS
    return np.where(probabilities > 0, np.maximum(rounded, 1 / _PARTS), 0.0).astype(np.float32)


def constant_quantity_graph(spec: PolicySpec, quantities: NDArray[np.float64]) -> onnx.ModelProto:
    """Return the graph that proposes the same quantities, float64 [N], for each request."""
    first = graph_inputs(spec)[0]  # any input says how many requests there are
    constants = {"quantity": quantities, "size": np.array([len(quantities)])}
    nodes = [
        helper.make_node("Shape", [first.name], ["count"], start=0, end=1),
        helper.make_node("Concat", ["count", "size"], ["shape"], axis=0),
        helper.make_node("Expand", ["quantity", "shape"], ["quantities"]),
    ]
    return _model(spec, [first], nodes, constants, element=TensorProto.DOUBLE)


def finish(model: onnx.ModelProto, *, inputs: Sequence[GraphTensor], spec: PolicySpec) -> onnx.ModelProto:
    """Return a model without anything that depends on where it was made: traces, paths, versions, invented names.

    The axes of inputs and output are named as the spec names them; descriptions of inner values are dropped.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    bare.ClearField("producer_version")
    _strip(bare)
    described = {tensor.name: tensor.axes for tensor in inputs}
    described[output_name(spec)] = _output_axes(spec)
    for value in (*bare.graph.input, *bare.graph.output):
        for found, axis in zip(value.type.tensor_type.shape.dim, described[value.name], strict=False):
            if not found.HasField("dim_value") and isinstance(axis, str):
                found.dim_param = axis
    return bare


def _choice_graph(
    spec: PolicySpec, nodes: Sequence[onnx.NodeProto], constants: Mapping[str, object]
) -> onnx.ModelProto:
    """Return a graph whose nodes may use `eligible` [B, S, A] and `count` [B, S, 1] (at least 1), both float32."""
    shared = [
        helper.make_node("Cast", ["mask"], ["eligible"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["eligible", "last_axis"], ["found"], keepdims=1),
        helper.make_node("Max", ["found", "one"], ["count"]),
    ]
    mask = graph_inputs(spec)[-1]
    known: Mapping[str, object] = {"last_axis": np.array([-1]), "one": np.float32(1)}
    return _model(spec, [mask], [*shared, *nodes], {**known, **constants}, element=TensorProto.FLOAT)


def _model(
    spec: PolicySpec,
    inputs: Sequence[GraphTensor],
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, object],
    *,
    element: int,
) -> onnx.ModelProto:
    name = output_name(spec)
    graph = helper.make_graph(
        list(nodes),
        "policy",
        [helper.make_tensor_value_info(t.name, _ELEMENTS[t.dtype], list(t.axes)) for t in inputs],
        [helper.make_tensor_value_info(name, element, list(_output_axes(spec)))],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="penstock"
    )


def _output_axes(spec: PolicySpec) -> tuple[int | str, ...]:
    """Return the axes of the output: a quantity's components, or those of the mask."""
    return (BATCH, len(spec.actions.names)) if spec.is_quantity else graph_inputs(spec)[-1].axes


def _strip(message: object) -> None:
    """Delete metadata and documentation from a message of ONNX and from all that it holds."""
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)  # type: ignore[attr-defined]
        elif field.type == field.TYPE_MESSAGE:
            for part in value if _is_repeated(value) else (value,):
                _strip(part)


def _is_repeated(value: object) -> bool:
    return not hasattr(value, "ListFields")
