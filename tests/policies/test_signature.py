import pytest

from policies.signature import GraphTensor, SignatureMismatch, check_inputs, check_output, graph_inputs, input_names
from policies.spec import PolicySpec
from tests.helpers.policy_specs import ASSIGNMENT, BARE_QUANTITY, PLAIN, SPECS

_PROBABILITIES = GraphTensor(name="probabilities", dtype="float32", axes=("batch", 1, 3))


def _request(**changes: object) -> GraphTensor:
    facts = {"name": "request", "dtype": "float64", "axes": ("batch", 8), **changes}
    return GraphTensor(**facts)  # type: ignore[arg-type]


def test_inputs_stand_in_canonical_order() -> None:
    assert input_names(ASSIGNMENT) == ("request", "sequence_inflow", "length_inflow", "actions", "slots", "mask")


def test_axes_that_the_spec_lacks_are_inputs_that_the_graph_lacks() -> None:
    assert input_names(BARE_QUANTITY) == ("mask",)


def test_ragged_axes_are_symbolic_and_fixed_ones_are_sizes() -> None:
    shapes = {tensor.name: tensor.axes for tensor in graph_inputs(ASSIGNMENT)}

    assert shapes == {
        "request": ("batch", 9),
        "sequence_inflow": ("batch", 6, 2),
        "length_inflow": ("batch",),
        "actions": ("batch", "actions", 2),
        "slots": ("batch", "slots", 1),
        "mask": ("batch", "slots", "actions"),
    }


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.domain)
def test_inputs_of_the_spec_itself_pass(spec: PolicySpec) -> None:
    check_inputs(graph_inputs(spec), spec=spec)


def test_fixed_axes_may_be_symbolic() -> None:
    check_inputs([_request(axes=("N", "F"))], spec=PLAIN)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (_request(name="observation"), "found 'observation'"),
        (_request(dtype="float32"), "expected float64, found float32"),
        (_request(axes=(1, 8)), r"found \[1, 8\]"),
        (_request(axes=("batch", 7)), r"found \[batch, 7\]"),
        (_request(axes=("batch",)), r"found \[batch\]"),
    ],
)
def test_another_input_is_refused_with_what_was_found(found: GraphTensor, message: str) -> None:
    with pytest.raises(SignatureMismatch, match=message):
        check_inputs([found], spec=PLAIN)


def test_a_graph_without_inputs_is_refused() -> None:
    with pytest.raises(SignatureMismatch, match="found none"):
        check_inputs([], spec=PLAIN)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "found none"),
        ([_PROBABILITIES, _PROBABILITIES], "found probabilities, probabilities"),
        ([GraphTensor(name="probabilities", dtype="float64", axes=())], "expected float32, found float64"),
        ([GraphTensor(name="probabilities", dtype="float32", axes=(1, 1, 3))], r"found \[1, 1, 3\]"),
        ([GraphTensor(name="probabilities", dtype="float32", axes=("batch", 3))], r"found \[batch, 3\]"),
    ],
)
def test_another_output_is_refused_with_what_was_found(found: list[GraphTensor], message: str) -> None:
    with pytest.raises(SignatureMismatch, match=message):
        check_output(found, name="probabilities")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quantities_are_of_either_precision(dtype: str) -> None:
    check_output([GraphTensor(name="quantities", dtype=dtype, axes=("batch", 3))], name="quantities")
