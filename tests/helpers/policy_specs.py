"""Specs of every kind of observation and action, and small graphs that break one law each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from policies.artifact import save_artifact
from policies.onnx_policy import OnnxPolicy
from policies.selftest import selftest_of
from policies.spec import ActionSet, Field, PolicySpec

_REQUEST = (
    Field(name="hour", units="h", lower=0, upper=24),
    Field(name="embedding", width=7, lower=-1, upper=1),
    Field(name="device", vocabulary=("phone", "tablet", "desktop")),
    Field(name="inflow", units="m3/s", width=2, steps=6, lower=0, upper=50),
)
_ACTION = (
    Field(name="price", units="USD", axis="action", lower=0, upper=9),
    Field(name="kind", axis="action", vocabulary=("new", "old")),
)
_SLOT = (Field(name="size", units="MB", axis="slot", lower=0, upper=9),)

PLAIN = PolicySpec(
    domain="plain", fields=_REQUEST[:2], actions=ActionSet(kind="choice", ids=("left", "middle", "right")), floor=0.1
)
FIXED_WITH_FEATURES = PolicySpec(
    domain="featured",
    fields=_REQUEST + _ACTION,
    actions=ActionSet(kind="choice", ids=("a", "b"), features={"price": (1.0, 2.0), "kind": ("new", "other")}),
    floor=0.1,
)
OWN_ACTIONS = PolicySpec(domain="own", fields=_REQUEST + _ACTION, actions=ActionSet(kind="choice"), floor=0.05)
BARE_OWN_ACTIONS = PolicySpec(domain="bare", actions=ActionSet(kind="choice"), floor=1.0)
ASSIGNMENT = PolicySpec(
    domain="assignment", fields=_REQUEST + _ACTION + _SLOT, actions=ActionSet(kind="assignment"), floor=0.05
)
FIXED_ASSIGNMENT = PolicySpec(
    domain="fixed_assignment", fields=_REQUEST + _SLOT, actions=ActionSet(kind="assignment", ids=("a", "b", "c"))
)
QUANTITY = PolicySpec(
    domain="quantity",
    fields=_REQUEST,
    actions=ActionSet(
        kind="quantity", names=("up", "fixed", "down"), units=("hm3",) * 3, lower=(0, 1, 5), upper=(1, 1, 1e4)
    ),
)
BARE_QUANTITY = PolicySpec(domain="bare_quantity", actions=QUANTITY.actions)

CHOICES = (PLAIN, FIXED_WITH_FEATURES, OWN_ACTIONS, BARE_OWN_ACTIONS, ASSIGNMENT, FIXED_ASSIGNMENT)
SPECS = (*CHOICES, QUANTITY, BARE_QUANTITY)


def choice_graph(
    nodes: Sequence[onnx.NodeProto],
    *,
    constants: Mapping[str, object] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    output: onnx.ValueInfoProto | None = None,
    domains: Sequence[str] = (),
) -> bytes:
    """Build a graph over the inputs of `PLAIN`; the nodes start from `request` [B, 8] and `mask` [B, 1, 3]."""
    graph = helper.make_graph(
        list(nodes),
        "planted",
        list(plain_inputs() if inputs is None else inputs),
        [output or helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 1, 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(domain, 1) for domain in domains)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return data


def plain_inputs() -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info("request", TensorProto.DOUBLE, ["batch", 8]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", 1, 3]),
    ]


def scored_graph(*, operator: str) -> bytes:
    """Build a sound policy of `PLAIN` but for one operator, applied to features of width 33."""
    rng = np.random.default_rng(5)
    constants = {
        "wide": (0.1 * rng.normal(size=(8, 33))).astype(np.float32),
        "narrow": rng.normal(size=(33, 3)).astype(np.float32),
        "one": np.array([1], dtype=np.int64),
        "small": np.float32(0.05),
        "masked": np.float32(-1e9),
        "kept": np.float32(0.899),
        "last": np.array([-1], dtype=np.int64),
        "explored": np.float32(0.101),
    }
    nodes = [
        helper.make_node("Cast", ["request"], ["features"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["features", "wide"], ["hidden"]),
        helper.make_node("Abs", ["hidden"], ["size"]),
        helper.make_node("Add", ["size", "small"], ["positive"]),
        helper.make_node(operator, ["positive"], ["active"]),
        helper.make_node("MatMul", ["active", "narrow"], ["scores"]),
        helper.make_node("Unsqueeze", ["scores", "one"], ["scores_3"]),
        helper.make_node("Where", ["mask", "scores_3", "masked"], ["masked_scores"]),
        helper.make_node("Softmax", ["masked_scores"], ["softmax"], axis=-1),
        helper.make_node("Cast", ["mask"], ["eligible"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["eligible", "last"], ["count"], keepdims=1),
        helper.make_node("Mul", ["softmax", "kept"], ["greedy"]),
        helper.make_node("Div", ["explored", "count"], ["share"]),
        helper.make_node("Add", ["greedy", "share"], ["mixed"]),
        helper.make_node("Mul", ["mixed", "eligible"], ["probabilities"]),
    ]
    return choice_graph(nodes, constants=constants)


def spliced(
    graph: bytes, value: str, nodes: Sequence[onnx.NodeProto], *, constants: Mapping[str, object] | None = None
) -> bytes:
    """Put nodes between a value and whoever reads it; they read it by its name and give out `spliced`."""
    model = onnx.load_from_string(graph)
    old = list(model.graph.node)
    place = next(number for number, node in enumerate(old) if value in node.output) + 1
    for node in old[place:]:
        node.input[:] = ["spliced" if name == value else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend([*old[:place], *nodes, *old[place:]])
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(constant), name) for name, constant in (constants or {}).items()
    )
    data: bytes = model.SerializeToString()
    return data


def save_graph(folder: Path, graph: bytes, *, spec: PolicySpec = PLAIN) -> str:
    """Save a graph as an artifact whose self-test vectors are its own."""
    policy = OnnxPolicy(graph, spec=spec, identity="")
    selftest = selftest_of(policy, spec=spec)
    return save_artifact(folder, spec=spec, graph=graph, selftest=selftest, provenance={"recipe": "planted"})
