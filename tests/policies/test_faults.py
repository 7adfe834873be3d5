"""Why bytes are refused: the version before anything else, then what was expected, what was found, and where."""

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.events import DeadLetter, Decision, DecisionRequest, Fault, Outcome, UnableToDecode, from_bytes
from tests.helpers.records import OUTCOME, SOUND, fault_of


def is_read_or_refused(data: bytes, kind: type[Outcome]) -> bool:
    """Say whether bytes are a record or are refused with a detail; anything else raised is a failure."""
    try:
        return from_bytes(data, kind) is not None
    except UnableToDecode as error:
        return bool(error.fault.detail)


@given(data=st.binary(max_size=60))
def test_arbitrary_bytes_are_a_record_or_a_named_fault(data: bytes) -> None:
    kinds = cast("tuple[type[Outcome], ...]", (DecisionRequest, Outcome, Decision, DeadLetter))
    for kind in kinds:
        assert is_read_or_refused(data, kind)


@given(cut=st.integers(0, 200), spoiled=st.integers(0, 255), place=st.integers(0, 200))
def test_a_damaged_request_is_a_record_or_a_named_fault(cut: int, spoiled: int, place: int) -> None:
    whole = json.dumps({**SOUND, "fields": {"x": [1.5, "é"]}, "actions": {"id": ["a"]}}, ensure_ascii=False).encode()
    damaged = bytearray(whole[: len(whole) - cut % len(whole)])
    damaged[place % len(damaged)] = spoiled
    assert is_read_or_refused(bytes(damaged), cast("type[Outcome]", DecisionRequest))


@pytest.mark.parametrize("version", [2, 0, -1, 2**64])
def test_a_schema_version_out_of_reach_is_named_whatever_else_is_wrong(version: int) -> None:
    expected = Fault("schema_version", f"schema_version must be 1, found {version}")
    assert fault_of({**SOUND, "schema_version": version}) == expected
    assert fault_of({"schema_version": version, "request_id": {"now": "an object"}}) == expected
    assert fault_of({**OUTCOME, "schema_version": version}, Outcome) == expected


def test_a_newer_version_keeps_its_request_id() -> None:
    with pytest.raises(UnableToDecode) as caught:
        from_bytes(b'{"schema_version":9,"request_id":"r","domain":7}', DecisionRequest)
    assert caught.value.request_id == "r"


@pytest.mark.parametrize("version", [1.0, True, "1", None, [1]])
def test_a_schema_version_that_is_no_whole_number_is_a_wrong_type(version: object) -> None:
    assert fault_of({**SOUND, "schema_version": version}).reason == "wrong_type"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "Input data was truncated"),
        (b"hello", "JSON is malformed"),
        (json.dumps(SOUND).encode()[:-3], "Input data was truncated"),
        (json.dumps(SOUND).encode() + b" x", "trailing characters"),
        (b'{"request_id":"\xc3', "must be JSON"),
        (b'{"request_id":"a","domain":"d","time":1,"unit":"\xff"}', "utf-8"),
        (b'{"request_id":"a","domain":"d","time":1,"unit":"u","novelty":"\xff"}', "utf-8"),
        (b'{"request_id":"\\ud800","domain":"d","time":1,"unit":"u"}', "surrogate"),
        (b"\xef\xbb\xbf{}", "invalid character"),
        (b'{"request_id":"a","fields":' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_bytes_that_are_no_json_are_refused(data: bytes, found: str) -> None:
    fault = fault_of(data)
    assert fault.reason == "not_json"
    assert found in fault.detail


@pytest.mark.parametrize("data", [b"[]", b"null", b"3", b'"request"'])
def test_json_that_is_no_object_is_a_wrong_type(data: bytes) -> None:
    assert fault_of(data).reason == "wrong_type"


@pytest.mark.parametrize(
    ("literal", "found"),
    [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf"), ("1e400", "inf"), ("-1e400", "-inf")],
)
def test_a_number_that_is_not_finite_is_named(literal: str, found: str) -> None:
    data = json.dumps({**SOUND, "fields": {"calm": "NaN", "x": [1, "@"]}}).replace('"@"', literal).encode()
    assert fault_of(data) == ("not_finite", f"fields.x.1 must be a finite number, found {found}")


def test_a_whole_number_of_thousands_of_digits_is_not_finite() -> None:
    data = json.dumps({**SOUND, "fields": {"x": "@"}}).replace('"@"', "1" * 5000).encode()
    assert fault_of(data).reason == "not_finite"


@pytest.mark.parametrize("name", ["request_id", "domain", "time", "unit"])
def test_a_missing_field_is_named(name: str) -> None:
    fault = fault_of({key: value for key, value in SOUND.items() if key != name})
    assert fault.reason == "missing_field"
    assert f"`{name}`" in fault.detail


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"request_id": 5}, "wrong_type", "Expected `str`, got `int` - at `$.request_id`"),
        ({"unit": None}, "wrong_type", "Expected `str`, got `null` - at `$.unit`"),
        ({"time": True}, "wrong_type", "Expected `int | str`, got `bool` - at `$.time`"),
        ({"time": 1.5}, "wrong_type", "Expected `int | str`, got `float` - at `$.time`"),
        ({"step": -1}, "out_of_range", "Expected `int` >= 0 - at `$.step`"),
        ({"step": True}, "wrong_type", "Expected `int`, got `bool` - at `$.step`"),
        ({"step": 2**63}, "out_of_range", "at `$.step`"),
        ({"fields": None}, "wrong_type", "Expected `object`, got `null` - at `$.fields`"),
        ({"fields": []}, "wrong_type", "Expected `object`, got `array` - at `$.fields`"),
        ({"actions": []}, "wrong_type", "Expected `object | null`, got `array` - at `$.actions`"),
        ({"actions": {"id": ["a"], "fee": 3}}, "wrong_type", "Expected `array`, got `int` - at `$.actions.fee`"),
        ({"slots": {"id": None}}, "wrong_type", "Expected `array`, got `null` - at `$.slots.id`"),
    ],
)
def test_a_wrong_type_names_the_field_what_was_expected_and_what_was_found(
    changes: dict[str, Any], reason: str, detail: str
) -> None:
    fault = fault_of({**SOUND, **changes})
    assert fault.reason == reason
    assert detail in fault.detail


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"rewards": {"spend": 1, "click": "yes"}}, "wrong_type", "got `str` - at `$.rewards.click`"),
        ({"rewards": {"click": True}}, "wrong_type", "got `bool` - at `$.rewards.click`"),
        ({"rewards": [1]}, "wrong_type", "at `$.rewards`"),
        ({"revision": -1}, "out_of_range", "at `$.revision`"),
        ({"slot": "a\x00"}, "empty_id", "slot must have"),
        ({"request_id": ""}, "empty_id", "request_id must have"),
        ({"time": "never"}, "wrong_type", "time must be"),
    ],
)
def test_a_bad_outcome_is_refused(changes: dict[str, Any], reason: str, detail: str) -> None:
    fault = fault_of({**OUTCOME, **changes}, Outcome)
    assert fault.reason == reason
    assert detail in fault.detail


def test_a_huge_text_makes_a_short_detail() -> None:
    assert len(fault_of({**SOUND, "time": "x" * 100_000}).detail) < 200
    assert len(fault_of({**SOUND, "schema_version": ["x" * 100_000] * 9}).detail) < 400
