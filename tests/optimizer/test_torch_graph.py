import onnx
import pytest
import torch
from torch import Tensor, nn

from optimizer.torch_graph import frozen_copy, graph_of, run_module
from policies.selftest import random_inputs
from tests.helpers.policy_specs import ASSIGNMENT, PLAIN


class _MaskOnly(nn.Module):
    def forward(self, mask: Tensor) -> Tensor:
        eligible = mask.float()
        return eligible / torch.clamp(eligible.sum(dim=2, keepdim=True), min=1.0)


class _AsksForMore(nn.Module):
    def forward(self, request: Tensor, weather: Tensor) -> Tensor:
        return request + weather


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return graph_of(_MaskOnly(), spec=ASSIGNMENT)


@pytest.mark.slow
def test_every_ragged_axis_is_symbolic_and_named(model: onnx.ModelProto) -> None:
    (mask,) = model.graph.input
    (output,) = model.graph.output

    for value in (mask, output):
        assert [d.dim_param for d in value.type.tensor_type.shape.dim] == ["batch", "slots", "actions"]


@pytest.mark.slow
def test_only_the_inputs_that_forward_takes_are_in_the_graph(model: onnx.ModelProto) -> None:
    assert [value.name for value in model.graph.input] == ["mask"]


@pytest.mark.slow
def test_nothing_tells_where_the_graph_was_made(model: onnx.ModelProto) -> None:
    assert not model.metadata_props
    assert not model.producer_version
    assert not model.graph.value_info
    assert all(not node.metadata_props and not node.doc_string for node in model.graph.node)


def test_an_input_that_the_spec_lacks_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="found weather"):
        graph_of(_AsksForMore(), spec=PLAIN)


def test_freezing_leaves_the_module_as_it_is() -> None:
    module = nn.Dropout().train()

    assert not frozen_copy(module).training
    assert module.training


def test_a_module_runs_on_the_encoders_arrays() -> None:
    for arrays, mask in random_inputs(ASSIGNMENT, count=3, seed=0):
        assert run_module(_MaskOnly(), arrays, mask, spec=ASSIGNMENT).shape == mask.shape
