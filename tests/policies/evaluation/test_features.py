"""The reward model sees every field, scaled by the spec's bounds."""

import numpy as np

from policies.encode import Encoder
from policies.evaluation.features import choice_features
from policies.events import DecisionRequest
from policies.spec import ActionSet, Field, PolicySpec


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


def test_an_empty_sequence_is_zero() -> None:
    spec = PolicySpec(
        domain="shop",
        fields=(Field(name="past", steps=3, lower=5, upper=10),),
        actions=ActionSet(kind="choice", ids=("x",)),
    )
    (bucket,) = Encoder(spec).encode_requests([_request(fields={"past": []})]).buckets
    assert choice_features(bucket.arrays, mask=bucket.mask, spec=spec).tolist() == [[[0.0, 0.0]]]
