"""The one encoder: the same bits whatever stands beside a request, and a named fault for whatever is wrong with it."""

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.columns import Columns, UnableToEncode, columns_of
from policies.encode import Encoder
from policies.events import DecisionRequest
from policies.spec import ActionSet, Field, PolicySpec
from tests.helpers.small_specs import (
    ENCODERS,
    FEED,
    PAYMENT,
    SPECS,
    STORE,
    TASKS,
    bits_of,
    fault_of,
    only_bucket,
    permuted,
    request_of,
)

SPEC = st.sampled_from(SPECS)
NUMBERS = st.lists(st.integers(0, 200), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def fields(spec: PolicySpec, **changes: Any) -> dict[str, Any]:
    return {"fields": {**request_of(spec, 0).fields, **changes}}


# What a request encodes to


def test_request_columns_follow_the_spec_and_codes_start_at_one() -> None:
    sound = {"hour": 6, "taste": [2.5, -0.5], "device": "tablet"}
    bucket = only_bucket(FEED, request_of(FEED, fields=sound, actions=None))
    assert bucket.arrays["request"].tolist() == [[6.0, 2.5, -0.5, 2.0]]
    assert bucket.arrays["request"].dtype == np.float64


def test_a_word_outside_the_vocabulary_has_code_zero() -> None:
    bucket = only_bucket(FEED, request_of(FEED, actions=None, **fields(FEED, device="fridge", taste=[0, 0])))
    assert bucket.arrays["request"][0, 3] == 0.0


def test_an_empty_vocabulary_makes_every_word_code_zero() -> None:
    spec = PolicySpec(
        domain="d", fields=(Field(name="x", vocabulary=()),), actions=ActionSet(kind="choice", ids=("a",))
    )
    request = DecisionRequest(request_id="r", domain="d", time=0, unit="u", fields={"x": "anything"})
    assert only_bucket(spec, request).arrays["request"].tolist() == [[0.0]]


def test_a_quantitys_mask_is_one_cell_and_tables_sent_to_it_are_ignored() -> None:
    odd = request_of(STORE, actions={"id": ["x"], "eligible": [[False]]})
    bucket = only_bucket(STORE, request_of(STORE), odd)
    assert bucket.mask.shape == (2, 1, 1)
    assert bucket.action_ids is None
    assert set(bucket.arrays) == {"request", "sequence_sales", "length_sales"}


@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_a_sequence_is_right_aligned_and_keeps_its_last_steps(count: int) -> None:
    sales = [[n, n / 2] for n in range(count)]
    bucket = only_bucket(STORE, request_of(STORE, **fields(STORE, sales=sales)))
    kept = [[float(a), float(b)] for a, b in sales[-4:]]
    assert bucket.arrays["sequence_sales"].tolist() == [[[0.0, 0.0]] * (4 - len(kept)) + kept]
    assert bucket.arrays["length_sales"].tolist() == [float(len(kept))]


def test_a_missing_sequence_has_no_steps_where_the_field_fills_what_is_missing() -> None:
    field = Field(name="x", steps=3, lower=0, upper=1, missing=0.5)
    spec = PolicySpec(domain="d", fields=(field,), actions=ActionSet(kind="choice", ids=("a",)))
    request = DecisionRequest(request_id="r", domain="d", time=0, unit="u", fields={"x": None})
    other = DecisionRequest(request_id="s", domain="d", time=0, unit="u", fields={"x": [None, 1]})
    encoded = Encoder(spec).encode_requests([request, other])
    assert encoded.buckets[0].arrays["sequence_x"][:, :, 0].tolist() == [[0, 0, 0], [0, 0.5, 1]]
    assert encoded.buckets[0].arrays["length_x"].tolist() == [0, 2]
    assert encoded.filled == 2


def test_clipped_and_filled_values_are_counted() -> None:
    requests = [
        request_of(FEED, actions=None, **fields(FEED, taste=[11, -2], device=None)),
        request_of(FEED, actions=None, **fields(FEED, taste=None, hour=24 * (1 + 1e-7), device="phone")),
    ]
    encoded = Encoder(FEED).encode_requests(requests)
    assert encoded.buckets[0].arrays["request"][:, 1:].tolist() == [[10.0, -1.0, 0.0], [0.0, 0.0, 1.0]]
    assert encoded.buckets[0].arrays["request"][1, 0] == 24.0
    assert (encoded.clipped, encoded.filled) == (3, 2)


@pytest.mark.parametrize(("value", "expected"), [(24 * (1 + 0.9e-6), 24.0), (-24 * 0.9e-6, 0.0)])
def test_a_value_a_millionth_of_the_range_outside_is_clipped_even_where_the_field_refuses(
    value: float, expected: float
) -> None:
    bucket = only_bucket(FEED, request_of(FEED, actions=None, **fields(FEED, hour=value)))
    assert bucket.arrays["request"][0, 0] == expected


def test_where_lower_is_upper_only_that_value_is_sound() -> None:
    spec = PolicySpec(
        domain="d", fields=(Field(name="x", lower=2, upper=2),), actions=ActionSet(kind="choice", ids=("a",))
    )
    requests = [DecisionRequest(request_id=f"{v}", domain="d", time=0, unit="u", fields={"x": v}) for v in (2, 2.0001)]
    encoded = Encoder(spec).encode_requests(requests)
    assert encoded.faults[1].reason == "out_of_range"
    assert encoded.buckets[0].arrays["request"].tolist() == [[2.0]]


def test_no_requests_encode_to_no_buckets() -> None:
    assert Encoder(FEED).encode_requests([]).buckets == ()


# Laws


@given(spec=SPEC, numbers=NUMBERS, seed=st.integers(0, 2**32))
def test_a_request_encodes_to_the_same_bits_in_any_batch_and_order(
    spec: PolicySpec, numbers: list[int], seed: int
) -> None:
    encoder = ENCODERS[spec.domain]
    requests = [request_of(spec, number) for number in numbers]
    together = encoder.encode_requests(requests)
    alone = [encoder.encode_requests([request]) for request in requests]
    assert bits_of(together) == {row: bits_of(one)[0] for row, one in enumerate(alone)}
    assert together.clipped == sum(one.clipped for one in alone)
    assert together.filled == sum(one.filled for one in alone)
    order = np.random.default_rng(seed).permutation(len(requests)).tolist()
    shuffled = bits_of(encoder.encode_requests([requests[place] for place in order]))
    assert {old: shuffled[new] for new, old in enumerate(order)} == bits_of(together)


@given(number=st.integers(0, 200), spec=st.sampled_from([PAYMENT, TASKS, FEED]), data=st.data())
def test_shuffled_action_rows_and_slots_encode_to_the_same_bits(
    number: int, spec: PolicySpec, data: st.DataObject
) -> None:
    request = request_of(spec, number)
    changes: dict[str, Any] = {}
    rows: list[int] | None = None
    if request.slots is not None:
        rows = data.draw(st.permutations(range(len(request.slots["id"]))))
        changes["slots"] = permuted(request.slots, rows)
    if request.actions is not None:
        order = data.draw(st.permutations(range(len(request.actions["id"]))))
        changes["actions"] = permuted(request.actions, order)
        if "eligible" in request.actions:
            matrix = request.actions["eligible"]
            matrix = matrix if rows is None else [matrix[row] for row in rows]
            changes["actions"]["eligible"] = [[cells[place] for place in order] for cells in matrix]
    shuffled = msgspec.structs.replace(request, **changes)
    encoder = ENCODERS[spec.domain]
    assert bits_of(encoder.encode_requests([shuffled])) == bits_of(encoder.encode_requests([request]))


@given(spec=SPEC, numbers=NUMBERS)
def test_columns_of_arrays_encode_to_the_same_bits_as_requests(spec: PolicySpec, numbers: list[int]) -> None:
    columns = columns_of([request_of(spec, number) for number in numbers], spec=spec)
    kinds = {field.name: field for field in spec.fields}

    def as_arrays(values: dict[str, Any]) -> dict[str, Any]:
        return {name: _as_array(kinds[name], column) for name, column in values.items()}

    arrays = Columns(
        count=columns.count,
        request=as_arrays(dict(columns.request)),
        actions=columns.actions and replace(columns.actions, fields=as_arrays(dict(columns.actions.fields))),
        slots=columns.slots and replace(columns.slots, fields=as_arrays(dict(columns.slots.fields))),
        eligible=columns.eligible,
    )
    encoder = ENCODERS[spec.domain]
    assert bits_of(encoder.encode(arrays)) == bits_of(encoder.encode(columns))
    assert encoder.encode(arrays).filled == encoder.encode(columns).filled


def _as_array(field: Field, column: Any) -> Any:
    if field.is_category:
        return np.array(column, dtype=object)
    if field.steps is not None:
        return [np.array(sequence, dtype=np.float64).reshape(-1, field.width) for sequence in column]
    gap = math.nan if field.width == 1 else [math.nan] * field.width
    return np.array([gap if value is None else value for value in column], dtype=np.float64)


@given(spec=SPEC, data=st.data())
def test_whatever_a_value_is_it_ends_in_a_bucket_or_in_a_named_fault(spec: PolicySpec, data: st.DataObject) -> None:
    broken = request_of(spec, 0)
    name = data.draw(st.sampled_from([field.name for field in spec.fields] + ["id", "eligible", "stray"]))
    value = data.draw(JSON)
    where = data.draw(st.sampled_from(["fields", "actions", "slots"]))
    held: dict[str, Any] = dict(getattr(broken, where) or {})
    spoiled = data.draw(st.sampled_from([{**held, name: value}, {**held, name: [value] * 3}]))
    broken = msgspec.structs.replace(broken, **{where: spoiled})
    neighbor = request_of(spec, 7)
    encoded = ENCODERS[spec.domain].encode_requests([neighbor, broken])
    assert set(bits_of(encoded)) | set(encoded.faults) == {0, 1}
    assert bits_of(encoded)[0] == bits_of(ENCODERS[spec.domain].encode_requests([neighbor]))[0]


@given(numbers=st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=9))
def test_any_number_of_bad_requests_leaves_the_sound_ones_as_they_were(numbers: list[tuple[int, bool]]) -> None:
    requests = [request_of(PAYMENT, n, **({"fields": {}} if is_bad else {})) for n, is_bad in numbers]
    encoded = ENCODERS["payments"].encode_requests(requests)
    assert sorted(encoded.faults) == [row for row, (_, is_bad) in enumerate(numbers) if is_bad]
    for row, bits in bits_of(encoded).items():
        assert bits == bits_of(ENCODERS["payments"].encode_requests([requests[row]]))[0]


# What is refused


@pytest.mark.parametrize(
    ("value", "reason", "found"),
    [
        (None, "missing_field", "fields.hour is missing"),
        (True, "wrong_type", "fields.hour must be a number, found True"),
        ("six", "wrong_type", "fields.hour must be a number, found 'six'"),
        ([6], "wrong_type", "fields.hour must be a number, found [6]"),
        ({"h": 6}, "wrong_type", "fields.hour must be a number, found {'h': 6}"),
        (24.1, "out_of_range", "fields.hour must be a finite number in [0, 24], found 24.1"),
        (-1, "out_of_range", "fields.hour must be a finite number in [0, 24], found -1.0"),
        (10**300, "out_of_range", "fields.hour must be a finite number in [0, 24], found 1e+300"),
        (10**400, "not_finite", "fields.hour must be a finite number, found an integer too large for a float"),
        (math.nan, "not_finite", "fields.hour must be a finite number in [0, 24], found nan"),
        (math.inf, "not_finite", "fields.hour must be a finite number in [0, 24], found inf"),
    ],
)
def test_a_bad_number_is_refused_by_name(value: object, reason: str, found: str) -> None:
    assert fault_of(FEED, **fields(FEED, hour=value)) == (reason, found)


def test_an_absent_field_is_refused_like_a_null() -> None:
    assert fault_of(PAYMENT, fields={"country": "bo"}) == ("missing_field", "fields.amount is missing")


@pytest.mark.parametrize("value", [1, True, ["bo"], {"bo": 1}, 1.5])
def test_a_category_that_is_no_text_is_refused(value: object) -> None:
    fault = fault_of(PAYMENT, **fields(PAYMENT, country=value))
    assert fault == ("wrong_type", f"fields.country must be a text, found {value!r}")


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ([1, 2], "fields.stock must be a list of 3 numbers, found [1, 2]"),
        ([1, 2, 3, 4], "fields.stock must be a list of 3 numbers, found [1, 2, 3, 4]"),
        (5, "fields.stock must be a list of 3 numbers, found 5"),
        ("abc", "fields.stock must be a list of 3 numbers, found 'abc'"),
        ([1, False, 3], "fields.stock must be a number, found False"),
        ([1, None, 3], "fields.stock must be a number, found None"),
        ([1, [2], 3], "fields.stock must be a number, found [2]"),
    ],
)
def test_a_bad_vector_is_refused(value: object, detail: str) -> None:
    assert fault_of(STORE, **fields(STORE, stock=value)) == ("wrong_type", detail)


def test_a_component_out_of_range_is_named_by_its_index() -> None:
    fault = fault_of(STORE, **fields(STORE, stock=[1, 2, 51]))
    assert fault == ("out_of_range", "fields.stock:2 must be a finite number in [0, 50], found 51.0")


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "missing_field", "fields.sales is missing"),
        ("abc", "wrong_type", "fields.sales must be a list of steps, found 'abc'"),
        ({"a": 1}, "wrong_type", "fields.sales must be a list of steps, found {'a': 1}"),
        ([1.0, 2.0], "wrong_type", "fields.sales must be a list of 2 numbers, found 1.0"),
        ([[1, 2, 3]], "wrong_type", "fields.sales must be a list of 2 numbers, found [1, 2, 3]"),
        ([[1, True]], "wrong_type", "fields.sales must be a number, found True"),
        ([[1, 2], None], "missing_field", "fields.sales is missing"),
        ([[1, 10]], "out_of_range", "fields.sales:1 must be a finite number in [0, 9], found 10.0"),
    ],
)
def test_a_bad_sequence_is_refused(value: object, reason: str, detail: str) -> None:
    assert fault_of(STORE, **fields(STORE, sales=value)) == (reason, detail)


def test_a_deeply_nested_value_is_described_in_few_words() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    fault = fault_of(FEED, **fields(FEED, hour=value))
    assert fault.reason == "wrong_type"
    assert len(fault.detail) < 100


def test_a_fault_names_the_request_wherever_its_value_stands() -> None:
    requests = [request_of(TASKS, 1), request_of(TASKS, 2)]
    bad = request_of(TASKS, 3, actions={"id": ["b", "a"], "cost": [1, 101]})
    with pytest.raises(UnableToEncode) as caught:
        Encoder(TASKS).encode(columns_of([*requests, bad], spec=TASKS))
    assert caught.value.row == 2


def test_rows_of_a_table_that_are_not_numbers_are_refused() -> None:
    columns = columns_of([request_of(STORE, 1)], spec=STORE)
    for stock in (np.array([["a", "b", "c"]]), np.array([[1.0, 2.0]]), np.array([[True, False, True]])):
        with pytest.raises(UnableToEncode, match=r"fields\.stock must"):
            Encoder(STORE).encode(replace(columns, request={**columns.request, "stock": stock}))
