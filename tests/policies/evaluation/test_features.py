"""The reward model sees every field, scaled by the spec's bounds."""

import numpy as np
import pytest

from policies.encode import Encoder
from policies.evaluation.features import choice_features, logged_features
from policies.events import DecisionRequest
from policies.spec import ActionSet, Field, PolicySpec
from tests.helpers.small_specs import FEED, PAYMENT, TASKS, request_of


def _request(**said: object) -> DecisionRequest:
    return DecisionRequest(request_id="a", domain="shop", time=0, unit="u", **said)  # type: ignore[arg-type]


def test_numbers_are_scaled_categories_one_hot_and_sequences_give_last_and_mean() -> None:
    spec = PolicySpec(
        domain="shop",
        fields=(
            Field(name="hour", lower=0, upper=24),
            Field(name="kind", vocabulary=("a", "b")),
            Field(name="past", steps=4, lower=0, upper=10),
        ),
        actions=ActionSet(kind="choice", ids=("x", "y")),
    )
    request = _request(fields={"hour": 6, "kind": "b", "past": [2, 4]})
    (bucket,) = Encoder(spec).encode_requests([request]).buckets

    found = choice_features(bucket.arrays, mask=bucket.mask, spec=spec)

    assert found.shape == (1, 1, 6)
    np.testing.assert_allclose(found[0, 0], [0.25, 0, 0, 1, 0.4, 0.3])


def test_own_actions_give_products_of_request_and_action() -> None:
    spec = PolicySpec(
        domain="shop",
        fields=(Field(name="hour", lower=0, upper=24), Field(name="price", axis="action", lower=0, upper=10)),
        actions=ActionSet(kind="choice"),
    )
    request = _request(fields={"hour": 12}, actions={"id": ["x", "y"], "price": [2, 8]})
    (bucket,) = Encoder(spec).encode_requests([request]).buckets

    found = choice_features(bucket.arrays, mask=bucket.mask, spec=spec)

    np.testing.assert_allclose(found[0, 0], [[0.5, 0.2, 0.1], [0.5, 0.8, 0.4]])


def test_own_actions_may_be_all_that_is_seen() -> None:
    field = Field(name="price", axis="action", lower=0, upper=10)
    spec = PolicySpec(domain="shop", fields=(field,), actions=ActionSet(kind="choice"))
    request = _request(fields={}, actions={"id": ["x", "y"], "price": [2, 8]})
    (bucket,) = Encoder(spec).encode_requests([request]).buckets
    assert choice_features(bucket.arrays, mask=bucket.mask, spec=spec).tolist() == [[[[0.2], [0.8]]]]


@pytest.mark.parametrize("domain", [FEED, PAYMENT, TASKS])
def test_features_of_logged_choices_are_those_of_all_choices_at_their_places(domain: PolicySpec) -> None:
    bucket = Encoder(domain).encode_requests([request_of(domain, place) for place in range(3)]).buckets[0]
    every = choice_features(bucket.arrays, mask=bucket.mask, spec=domain)
    request, slot, action = np.nonzero(bucket.mask)
    found = logged_features(bucket.arrays, spec=domain, request=request, slot=slot, action=action)
    np.testing.assert_array_equal(found, every[request, slot, action] if every.ndim == 4 else every[request, slot])
    nothing = np.zeros(0, dtype=np.int64)
    none = logged_features(bucket.arrays, spec=domain, request=nothing, slot=nothing, action=nothing)
    assert none.shape == (0, found.shape[1])


def test_an_empty_sequence_is_zero() -> None:
    spec = PolicySpec(
        domain="shop",
        fields=(Field(name="past", steps=3, lower=5, upper=10),),
        actions=ActionSet(kind="choice", ids=("x",)),
    )
    (bucket,) = Encoder(spec).encode_requests([_request(fields={"past": []})]).buckets
    assert choice_features(bucket.arrays, mask=bucket.mask, spec=spec).tolist() == [[[0.0, 0.0]]]
