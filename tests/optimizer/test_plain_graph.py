import numpy as np
import onnx
import pytest
from onnx import helper

from optimizer.plain_graph import constant_choice_graph, constant_quantity_graph, finish, uniform_graph
from policies.signature import graph_inputs
from policies.spec import PolicySpec
from tests.helpers.policy_specs import ASSIGNMENT, CHOICES, PLAIN, QUANTITY


@pytest.mark.parametrize("spec", CHOICES, ids=lambda spec: spec.domain)
def test_uniform_graphs_are_valid_onnx(spec: PolicySpec) -> None:
    onnx.checker.check_model(uniform_graph(spec), full_check=True)


def test_constant_graphs_are_valid_onnx() -> None:
    onnx.checker.check_model(constant_choice_graph(PLAIN, np.array([0.5, 0.25, 0.25])), full_check=True)
    onnx.checker.check_model(constant_quantity_graph(QUANTITY, np.array([0.5, 1, 7])), full_check=True)


def test_finishing_strips_traces_wherever_they_lie() -> None:
    model = uniform_graph(ASSIGNMENT)
    inner = helper.make_graph([helper.make_node("Identity", ["a"], ["b"], doc_string="/home/me")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["b"], then_branch=inner, else_branch=inner))
    model.doc_string = model.graph.doc_string = "/home/me"
    model.producer_version = "2.15"
    for holder in (model, model.graph, model.graph.node[0], model.graph.initializer[0], model.graph.input[0]):
        holder.metadata_props.add(key="stack_trace", value="/home/me/module.py")
    model.graph.value_info.append(helper.make_tensor_value_info("eligible", 1, ["s0"]))

    bare = finish(model, inputs=graph_inputs(ASSIGNMENT), spec=ASSIGNMENT)

    data = bare.SerializeToString(deterministic=True)
    assert b"/home/me" not in data
    assert not bare.graph.value_info
    assert not bare.producer_version
    assert [node.op_type for node in bare.graph.node] == [node.op_type for node in model.graph.node]
    assert b"/home/me" in model.SerializeToString()


def test_finishing_names_symbolic_axes_as_the_spec_does() -> None:
    model = uniform_graph(ASSIGNMENT)
    for value in (*model.graph.input, *model.graph.output):
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"s{70 + place}"

    bare = finish(model, inputs=graph_inputs(ASSIGNMENT)[-1:], spec=ASSIGNMENT)

    for value in (*bare.graph.input, *bare.graph.output):
        assert [dim.dim_param for dim in value.type.tensor_type.shape.dim] == ["batch", "slots", "actions"]
