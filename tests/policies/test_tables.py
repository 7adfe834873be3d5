"""Tables of actions and slots: each at its place whatever order they came in, each bad one refused by name."""

from typing import Any

import msgspec
import pytest

from policies.columns import Columns, UnableToEncode
from policies.encode import Encoder
from policies.events import DecisionRequest, Fault
from policies.spec import ActionSet, Field, PolicySpec
from tests.helpers.small_specs import FEED, PAYMENT, TASKS, bits_of, fault_of, only_bucket, request_of


def table(**changes: Any) -> dict[str, Any]:
    return {"actions": {"id": ["b", "a"], "fee": [1.0, 2.0], **changes}}


def test_fixed_actions_take_the_specs_features_and_are_all_eligible_unless_listed() -> None:
    bucket = only_bucket(FEED, request_of(FEED, actions=None))
    assert bucket.arrays["actions"].tolist() == [[[0.0, 1.0], [15.0, 1.0], [60.0, 2.0]]]
    assert bucket.mask.tolist() == [[[True, True, True]]]
    assert bucket.action_ids is None


def test_a_listed_subset_stands_at_its_places_and_a_sent_feature_goes_before_the_specs() -> None:
    actions = {"id": ["long", "none"], "length": [None, 3.0], "eligible": [[True, True]]}
    bucket = only_bucket(FEED, request_of(FEED, actions=actions))
    assert bucket.arrays["actions"].tolist() == [[[3.0, 1.0], [0.0, 0.0], [60.0, 2.0]]]
    assert bucket.mask.tolist() == [[[True, False, True]]]


def test_eligible_of_a_listed_subset_is_brought_to_the_specs_order() -> None:
    actions = {"id": ["long", "none"], "eligible": [[True, False]]}
    assert only_bucket(FEED, request_of(FEED, actions=actions)).mask.tolist() == [[[False, False, True]]]


def test_own_actions_are_sorted_by_the_bytes_of_their_ids() -> None:
    ids = ["é", "z", "\U0001f600", "a", "\uff5e"]
    bucket = only_bucket(PAYMENT, request_of(PAYMENT, actions={"id": ids, "fee": [1, 2, 3, 4, 5]}))
    assert bucket.action_ids == [sorted(ids, key=str.encode)]
    assert bucket.arrays["actions"][0, :5, 0].tolist() == [4.0, 2.0, 1.0, 5.0, 3.0]
    assert bucket.mask[0, 0].tolist() == [True] * 5 + [False] * 3
    assert not bucket.arrays["actions"][0, 5:].any()


def test_slots_and_actions_are_padded_to_powers_of_two_of_that_request_alone() -> None:
    def sized(nodes: int, jobs: int) -> DecisionRequest:
        actions = {"id": [f"n{k}" for k in range(nodes)], "cost": [1.0] * nodes}
        return request_of(TASKS, actions=actions, slots={"id": [f"j{k}" for k in range(jobs)], "size": [1.0] * jobs})

    sizes = [(1, 1), (3, 2), (5, 3), (64, 5), (65, 1)]
    encoded = Encoder(TASKS).encode_requests([sized(*size) for size in sizes])
    shapes = {int(b.rows[0]): b.mask.shape[1:] for b in encoded.buckets}
    assert shapes == {0: (1, 1), 1: (2, 4), 2: (4, 8), 3: (8, 64), 4: (1, 128)}
    assert all(b.arrays["actions"].shape[1:] == (b.mask.shape[2], 1) for b in encoded.buckets)
    assert all(b.arrays["slots"].shape[1:] == (b.mask.shape[1], 1) for b in encoded.buckets)


def test_action_features_out_of_the_spec_and_unsent_are_refused_alone_and_beside_others_that_send_them() -> None:
    spec = msgspec.structs.replace(FEED, actions=ActionSet(kind="choice", ids=FEED.actions.ids))
    encoder = Encoder(spec)
    full = {"id": ["none"], "length": [1.0], "brand": ["red"]}
    requests = [request_of(FEED, 1, actions=None), request_of(FEED, 2, actions=full)]
    for batch in (requests[:1], requests):
        fault = encoder.encode_requests(batch).faults[0]
        assert fault == Fault("missing_field", "actions.length is missing")


def test_action_features_that_the_field_fills_are_filled_alike_alone_and_beside_others() -> None:
    field = Field(name="x", axis="action", lower=0, upper=1, missing=0.25)
    spec = PolicySpec(domain="d", fields=(field,), actions=ActionSet(kind="choice", ids=("a", "b")))
    silent = DecisionRequest(request_id="r", domain="d", time=0, unit="u")
    spoken = DecisionRequest(request_id="s", domain="d", time=0, unit="u", actions={"id": ["a"], "x": [1.0]})
    alone, beside = Encoder(spec).encode_requests([silent]), Encoder(spec).encode_requests([silent, spoken])
    assert bits_of(alone)[0] == bits_of(beside)[0]
    assert alone.buckets[0].arrays["actions"].tolist() == [[[0.25], [0.25]]]
    assert (alone.filled, beside.filled) == (2, 2)


def test_the_specs_own_features_are_mended_once_and_never_counted() -> None:
    field = Field(name="x", axis="action", lower=0, upper=1, outside="clip")
    actions = ActionSet(kind="choice", ids=("a", "b"), features={"x": (2.0, 0.5)})
    spec = PolicySpec(domain="d", fields=(field,), actions=actions)
    requests = [
        DecisionRequest(request_id="r", domain="d", time=0, unit="u"),
        DecisionRequest(request_id="s", domain="d", time=0, unit="u", actions={"id": ["b", "a"], "x": [None, None]}),
    ]
    encoded = Encoder(spec).encode_requests(requests)
    assert encoded.clipped == 0
    assert encoded.buckets[0].arrays["actions"].tolist() == [[[1.0], [0.5]]] * 2


def test_features_of_a_spec_that_break_its_own_fields_are_refused_when_the_encoder_is_made() -> None:
    field = Field(name="x", axis="action", lower=0, upper=1)
    spec = PolicySpec(domain="d", fields=(field,), actions=ActionSet(kind="choice", ids=("a",), features={"x": (2.0,)}))
    with pytest.raises(UnableToEncode, match=r"actions\.features\.x must be a finite number in \[0, 1\], found 2\.0"):
        Encoder(spec)


@pytest.mark.parametrize(
    ("actions", "reason", "detail"),
    [
        (None, "missing_field", "actions must be given as columns with 'id', found none"),
        ({"fee": [1.0]}, "missing_field", "actions must be given as columns with 'id', found ['fee']"),
        ({"eligible": [[True]]}, "missing_field", "actions must be given as columns with 'id', found ['eligible']"),
        ({"id": []}, "no_eligible_action", "actions.id must name at least one, found none"),
        ([{"id": "a"}], "wrong_type", "actions must be columns by name, found [{'id': 'a'}]"),
        ({"id": "ab", "fee": [1, 2]}, "wrong_type", "actions.id must be a list, found 'ab'"),
        ({"id": ["a"], "fee": 1.0}, "wrong_type", "actions.fee must be a list, found 1.0"),
        ({"id": [1], "fee": [1.0]}, "wrong_type", "actions.id must hold texts, found 1"),
        ({"id": [None], "fee": [1.0]}, "wrong_type", "actions.id must hold texts, found None"),
        ({"id": ["a", "a"], "fee": [1, 2]}, "wrong_type", "actions.id must name an id once, found 'a' twice"),
        ({"id": ["a"], "fee": [None]}, "missing_field", "actions.fee is missing"),
        ({"id": ["a"]}, "missing_field", "actions.fee is missing"),
        ({"id": ["a"], "fee": [True]}, "wrong_type", "actions.fee must be a number, found True"),
        ({"id": ["a"], "fee": [9]}, "out_of_range", "actions.fee must be a finite number in [0, 5], found 9.0"),
        (
            {"id": ["a", "b"], "fee": [1.0]},
            "unequal_columns",
            "actions.fee must have 2 values, as many as actions.id, found 1",
        ),
        (
            {"id": ["a"], "fee": [1.0], "stray": [1, 2]},
            "unequal_columns",
            "actions.stray must have 1 values, as many as actions.id, found 2",
        ),
    ],
)
def test_a_bad_table_is_refused(actions: Any, reason: str, detail: str) -> None:
    assert fault_of(PAYMENT, actions=actions) == (reason, detail)


@pytest.mark.parametrize("bad", ["", "a\x00b", "a" * 257, "é" * 129, "\ud800"])
def test_an_id_that_is_none_is_refused(bad: str) -> None:
    fault = fault_of(PAYMENT, actions={"id": ["a", bad], "fee": [1.0, 2.0]})
    assert fault.reason == "empty_id"
    assert fault.detail.startswith("actions.id must hold texts of 1 to 256 bytes without U+0000, found '")


@pytest.mark.parametrize("good", ["a" * 256, "é" * 128, "\U0001f600" * 64])
def test_an_id_of_256_bytes_is_sound(good: str) -> None:
    bucket = only_bucket(PAYMENT, request_of(PAYMENT, actions={"id": [good, "a"], "fee": [1.0, 2.0]}))
    assert bucket.action_ids == [["a", good]]


@pytest.mark.parametrize("slots", [None, {"size": [1.0]}, {"id": [], "size": []}, {"id": ["j", "j"], "size": [1, 2]}])
def test_bad_slots_are_refused(slots: Any) -> None:
    fault = fault_of(TASKS, slots=slots)
    assert fault.detail.startswith("slots")


@pytest.mark.parametrize(
    ("eligible", "reason", "found"),
    [
        ([[False, False]], "no_eligible_action", "leave at least one action for each slot"),
        ([[True]], "unequal_columns", "must have 1 rows (slots) of 2 (actions), found 1 rows of 1"),
        ([], "unequal_columns", "must have 1 rows (slots) of 2 (actions), found 0 rows of"),
        ([[True, True], [True, True]], "unequal_columns", "found 2 rows of 2"),
        ([[1, 0]], "wrong_type", "must be lists of true and false, one per slot, found [[1, 0]]"),
        ([[True, None]], "wrong_type", "must be lists of true and false"),
        ([True, True], "wrong_type", "must be lists of true and false"),
        ([[[True], [True]]], "wrong_type", "must be lists of true and false"),
    ],
)
def test_a_bad_eligible_matrix_is_refused(eligible: Any, reason: str, found: str) -> None:
    fault = fault_of(PAYMENT, **table(eligible=eligible))
    assert fault.reason == reason
    assert found in fault.detail


def test_one_slot_without_an_eligible_action_refuses_the_request() -> None:
    actions = {"id": ["a", "b"], "cost": [1, 2], "eligible": [[True, True], [False, False]]}
    fault = fault_of(TASKS, actions=actions, slots={"id": ["j", "k"], "size": [1, 2]})
    assert fault.reason == "no_eligible_action"


def test_an_action_that_the_spec_does_not_name_is_refused() -> None:
    fault = fault_of(FEED, actions={"id": ["none", "huge"]})
    assert fault == ("out_of_range", "actions.id must hold ids of the spec, found 'huge'")


def test_a_bool_among_many_numbers_is_found() -> None:
    ids = [f"r{n:04d}" for n in range(600)]
    fees: list[Any] = [0, 1.0] * 300
    sound = request_of(PAYMENT, actions={"id": ids, "fee": fees})
    assert Encoder(PAYMENT).encode_requests([sound]).faults == {}
    fault = fault_of(PAYMENT, actions={"id": ids, "fee": [*fees[:-1], True]})
    assert fault == ("wrong_type", "actions.fee must be a number, found True")


def test_eligible_rows_without_a_table_of_actions_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="eligible"):
        Encoder(FEED).encode(
            Columns(count=1, request={"hour": [1], "taste": [[0, 0]], "device": ["tv"]}, eligible=[None])
        )
