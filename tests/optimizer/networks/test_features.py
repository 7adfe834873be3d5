import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.networks.features import FieldFeatures, Normalize, RequestFeatures, SequenceFeatures
from policies.selftest import random_inputs
from policies.spec import Field, PolicySpec
from tests.helpers.policy_specs import BARE_OWN_ACTIONS, OWN_ACTIONS, SPECS

_INFLOW = Field(name="inflow", width=2, steps=4, lower=0, upper=10)


def _doubles(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.floats(0, 1), st.booleans())
def test_normalizing_maps_bounds_to_bounds(lower: float, span: float, share: float, is_centered: bool) -> None:
    normalize = Normalize((lower,), (lower + span,), is_centered=is_centered)
    least = -1.0 if is_centered else 0.0

    found = normalize(_doubles([[lower], [lower + span], [lower + share * span]]))

    assert found.dtype == torch.float32
    assert found[:2, 0].tolist() == pytest.approx([least, 1.0], abs=1e-6)
    assert least - 1e-6 <= float(found[2, 0]) <= 1 + 1e-6


@pytest.mark.parametrize("is_centered", [False, True])
def test_equal_bounds_scale_to_zero(is_centered: bool) -> None:
    assert Normalize((5.0,), (5.0,), is_centered=is_centered)(_doubles([[5.0]])).tolist() == [[0.0]]


def test_an_epoch_keeps_its_seconds() -> None:
    normalize = Normalize((1.7e9,), (1.7e9 + 86_400,))

    found = normalize(_doubles([[1.7e9 + 1], [1.7e9 + 2]]))

    assert (found * 86_400)[:, 0].tolist() == pytest.approx([1, 2], abs=1e-3)


def test_categories_are_one_hot_with_the_unseen_code_first() -> None:
    features = FieldFeatures((Field(name="x", lower=0, upper=4), Field(name="c", vocabulary=("a", "b"))))

    found = features(_doubles([[4.0, 0.0], [0.0, 2.0], [2.0, 1.0]]))

    assert features.size == 4
    assert found.tolist() == [[1, 1, 0, 0], [-1, 0, 0, 1], [0, 0, 1, 0]]


def test_columns_follow_the_widths_of_the_fields() -> None:
    fields = (Field(name="c", vocabulary=("a",)), Field(name="v", width=2, lower=(0, 10), upper=(1, 30)))

    assert FieldFeatures(fields)(_doubles([[1.0, 1.0, 20.0]])).tolist() == [[1, 0, 0, 1]]


def test_a_sequence_is_its_last_and_mean_step_and_its_share() -> None:
    sequence = _doubles([[[9, 9], [9, 9], [0, 10], [10, 5]]])

    assert SequenceFeatures(_INFLOW)(sequence, _doubles([2.0])).tolist() == [[1, 0, 0, 0.5, 0.5]]


def test_an_empty_sequence_is_zero() -> None:
    assert SequenceFeatures(_INFLOW)(torch.full((1, 4, 2), 9.0).double(), _doubles([0.0])).tolist() == [[0] * 5]


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 2**31))
def test_steps_outside_the_length_never_matter(length: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (10 * torch.rand((1, 4, 2), generator=generator, dtype=torch.float64) for _ in range(2))
    second[:, 4 - length :] = first[:, 4 - length :]
    features = SequenceFeatures(_INFLOW)

    assert torch.equal(features(first, _doubles([length])), features(second, _doubles([length])))


def test_a_field_that_is_no_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="is no sequence"):
        SequenceFeatures(Field(name="x", lower=0, upper=1))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.domain)
def test_request_features_have_the_size_that_they_say(spec: PolicySpec) -> None:
    features = RequestFeatures(spec)
    arrays, mask = random_inputs(spec, count=3, seed=0)[0]
    inputs = {name: torch.from_numpy(array) for name, array in {**arrays, "mask": mask}.items()}

    found = features(inputs)

    assert found.shape == (3, features.size)
    assert found.dtype == torch.float32
    assert float(found.abs().max()) <= 1 + 1e-6


def test_a_request_without_fields_is_a_constant() -> None:
    mask = torch.tensor([[[True, False]], [[False, True]]])

    assert RequestFeatures(BARE_OWN_ACTIONS)({"mask": mask}).tolist() == [[1.0], [1.0]]
    assert RequestFeatures(OWN_ACTIONS).size == 1 + 7 + 4 + 5
