import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from policies.graph import UnableToReadGraph, expose_values, read_contents
from tests.helpers.policy_specs import choice_graph, scored_graph


def test_operators_and_opset_are_read() -> None:
    contents = read_contents(scored_graph(operator="Relu"))

    assert contents.opset == 20
    assert {("", "Relu"), ("", "Softmax"), ("", "MatMul")} <= contents.operators
    assert contents.external == []


def test_operators_of_subgraphs_and_functions_are_read() -> None:
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    inner = helper.make_graph([helper.make_node("Sin", ["x"], ["y"])], "inner", [], [value])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([branch], "outer", [], [value]))
    body = [helper.make_node("Mish", ["a"], ["b"], domain="other")]
    model.functions.append(helper.make_function("local", "f", ["a"], ["b"], body, [helper.make_opsetid("", 20)]))

    assert read_contents(model.SerializeToString()).operators == {("", "If"), ("", "Sin"), ("other", "Mish")}


def test_tensors_in_other_files_are_named() -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "weights")
    onnx.external_data_helper.set_external_data(tensor, "weights.bin")
    model = onnx.load_from_string(choice_graph([]))
    model.graph.initializer.append(tensor)

    assert read_contents(model.SerializeToString()).external == ["weights"]


def test_tensors_in_other_files_are_named_in_attributes_too() -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    tensor.data_location = TensorProto.EXTERNAL
    data = choice_graph([helper.make_node("Constant", [], ["c"], value=tensor)])

    assert read_contents(data).external == ["hidden"]


def test_a_graph_can_be_made_to_show_its_inner_values() -> None:
    exposed, operators = expose_values(scored_graph(operator="Relu"))
    model = onnx.load_from_string(exposed)

    assert {node.op_type for node in model.graph.node} == set(operators.values()) | {"Mul"}
    assert operators["active"] == "Relu"
    assert "probabilities" not in operators
    assert {value.name for value in model.graph.output} == {*operators, "probabilities"}


@pytest.mark.parametrize("data", [b"", b"\x08\x0a", b"not a model", b"\x3a\xff\x01", b"\x3b"])
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(UnableToReadGraph, match="expected"):
        read_contents(data)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_but_never_crash(data: st.DataObject) -> None:
    graph = bytearray(scored_graph(operator="Relu"))
    place = data.draw(st.integers(0, len(graph) - 1))
    graph[place] ^= data.draw(st.integers(1, 255))

    try:
        contents = read_contents(bytes(graph))
    except UnableToReadGraph:
        return
    assert contents.opset >= 1
