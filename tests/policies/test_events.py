"""The records' bytes: read back as they were, refused by name where they are not what they must be."""

import base64
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import events
from policies.events import (
    AppliedRecourse,
    Choice,
    DeadLetter,
    Decision,
    DecisionRequest,
    Outcome,
    Record,
    Source,
    UnableToDecode,
    check_envelope,
    compact,
    from_bytes,
    json_schemas,
    microseconds,
    read_request,
    to_bytes,
)
from tests.helpers.records import OUTCOME, SOUND, fault_of

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"
SOURCE = Source(topic="t", partition=0, offset=7)

IDS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=64)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.integers(-(10**15), 10**16)
VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63) | FLOATS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
TABLES = st.none() | st.dictionaries(IDS, st.lists(VALUES, max_size=3), max_size=3)
REQUESTS = st.builds(
    DecisionRequest,
    request_id=IDS,
    domain=IDS,
    time=TIMES | st.datetimes().map(lambda moment: moment.isoformat()),
    unit=IDS,
    step=st.integers(0, 2**63 - 1),
    deadline=st.none() | TIMES,
    supersedes=st.none() | IDS,
    fields=st.dictionaries(IDS, VALUES, max_size=3),
    actions=TABLES,
    slots=TABLES,
)
ACTIONS = IDS | st.lists(FLOATS, max_size=3)
CHOICES = st.builds(
    Choice,
    slot=st.just("") | IDS,
    action=ACTIONS,
    applied=st.none() | ACTIONS,
    propensity=st.none() | FLOATS,
    lattice=st.none() | st.lists(st.integers(0, 2**32), max_size=3).map(tuple),
)
RECOURSES = st.builds(
    AppliedRecourse,
    kind=IDS,
    status=IDS,
    outputs=st.dictionaries(IDS, FLOATS | st.lists(FLOATS, max_size=2), max_size=2),
)
DECISIONS = st.builds(
    Decision,
    request=REQUESTS.map(lambda request: msgspec.Raw(to_bytes(request))),
    policy=IDS,
    catalogue=IDS,
    platform=IDS,
    role=st.sampled_from(["live", "canary", "shadow"]),
    choices=st.lists(CHOICES, max_size=3).map(tuple),
    recourse=st.none() | RECOURSES,
    fallback=st.sampled_from([None, "deadline", "kill", "recourse_infeasible"]),
    source=st.just(SOURCE),
    time=TIMES,
)
OUTCOMES = st.builds(
    Outcome,
    request_id=IDS,
    slot=st.just("") | IDS,
    domain=IDS,
    revision=st.integers(0, 99),
    time=TIMES,
    rewards=st.dictionaries(IDS, st.none() | FLOATS, max_size=3),
    final=st.booleans(),
)
LETTERS = st.builds(
    DeadLetter,
    reason=st.just("not_json"),
    detail=IDS,
    source=st.just(SOURCE),
    original=st.binary(max_size=9),
    time=TIMES,
)


def decision(**changes: Any) -> Decision:
    content: dict[str, Any] = {
        "request": msgspec.Raw(json.dumps(SOUND).encode()),
        "policy": "p" * 32,
        "catalogue": "c" * 32,
        "platform": "deadbeef",
        "role": "live",
        "choices": (Choice(action="a", propensity=0.25, lattice=(1 << 30, 3 << 30)),),
        "source": SOURCE,
        "time": 1,
    }
    return Decision(**{**content, **changes})


# There and back


@settings(max_examples=60)
@given(record=st.one_of(REQUESTS, DECISIONS, OUTCOMES, LETTERS))
def test_a_record_is_read_back_as_it_was_written_on_one_line(record: Record) -> None:
    data, kind = to_bytes(record), cast("type[Outcome]", type(record))
    assert b"\n" not in data
    assert from_bytes(data, kind) == record


@settings(max_examples=30)
@given(record=st.one_of(REQUESTS, DECISIONS, OUTCOMES, LETTERS))
def test_a_record_fits_its_published_schema(record: Record) -> None:
    names = {DecisionRequest: "request", Decision: "decision", Outcome: "outcome", DeadLetter: "dead-letter"}
    schema = json_schemas()[names[type(record)]]
    jsonschema.Draft202012Validator(schema).validate(json.loads(to_bytes(record)))


def test_a_request_written_over_several_lines_is_echoed_on_one() -> None:
    raw = b'{\n  "request_id": "r",\r\n  "note": "two\\nlines"\n}'
    data = to_bytes(decision(request=msgspec.Raw(raw)))
    assert b"\n" not in data
    assert b"\r" not in data
    echoed = bytes(from_bytes(data, Decision).request)
    assert echoed == compact(raw) == b'{"request_id":"r","note":"two\\nlines"}'


def test_a_request_on_one_line_is_echoed_verbatim() -> None:
    raw = b'{ "request_id" : "r", "x": 1.50, "x": 1e2, "y": "\\u00e9" }'
    assert bytes(from_bytes(to_bytes(decision(request=msgspec.Raw(raw))), Decision).request) == compact(raw) == raw


def test_the_original_of_a_dead_letter_is_base64() -> None:
    letter = DeadLetter(reason="not_json", detail="d", source=SOURCE, original=b"\xff\x00", time=0)
    assert json.loads(to_bytes(letter))["original"] == base64.b64encode(b"\xff\x00").decode()


def test_of_a_key_sent_twice_the_last_counts_and_unknown_keys_are_passed_over() -> None:
    data = b'{"request_id":"a","request_id":"b","domain":"d","time":1,"unit":"u","novelty":[1]}'
    assert from_bytes(data, DecisionRequest).request_id == "b"


# Times


@given(
    moment=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-4)), timezone(timedelta(hours=14))]))
)
def test_an_iso_time_is_the_microseconds_since_1970(moment: datetime) -> None:
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert microseconds(moment.isoformat()) == expected


def test_an_iso_time_without_an_offset_is_utc() -> None:
    assert microseconds("2026-01-31T06:00:00") == microseconds("2026-01-31T06:00:00Z")
    assert microseconds(5) == 5


@pytest.mark.parametrize("name", ["time", "deadline"])
@pytest.mark.parametrize("value", ["soon", "", "2026-13-01", "12:00"])
def test_a_text_that_is_no_iso_time_is_refused(name: str, value: str) -> None:
    fault = fault_of({**SOUND, name: value})
    assert fault == ("wrong_type", f"{name} must be whole microseconds or ISO-8601, found {value!r}")


def test_a_decision_whose_time_is_no_time_is_refused() -> None:
    choice = Choice(action="a")
    decision = Decision(
        request=msgspec.Raw(b"{}"), policy="p", catalogue="c", platform="f", role="live", choices=(choice,),
        source=SOURCE, time="soon",
    )  # fmt: skip
    with pytest.raises(UnableToDecode, match="time must be whole microseconds or ISO-8601, found 'soon'"):
        from_bytes(to_bytes(decision), Decision)


@pytest.mark.parametrize("value", [10**18, -(10**18)])
def test_a_time_beyond_the_calendar_is_refused(value: int) -> None:
    assert fault_of({**SOUND, "time": value}).reason == "out_of_range"
    assert fault_of({**OUTCOME, "time": value}, Outcome).reason == "out_of_range"


# Versions


def test_this_version_and_the_one_before_it_are_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SCHEMA_VERSION", 3)
    monkeypatch.setattr(events, "OLDEST_READABLE", 2)
    for version in (2, 3):
        assert from_bytes(json.dumps({**SOUND, "schema_version": version}).encode(), DecisionRequest).unit == "u"
    for version in (1, 4):
        fault = fault_of({**SOUND, "schema_version": version})
        assert fault == ("schema_version", f"schema_version must be 2 or 3, found {version}")


def test_the_oldest_readable_version_is_the_one_before_this() -> None:
    assert max(1, events.SCHEMA_VERSION - 1) == events.OLDEST_READABLE


# What is refused


@pytest.mark.parametrize("name", ["request_id", "unit", "supersedes"])
@pytest.mark.parametrize("value", ["", "a\x00", "a" * 257, "é" * 129])
def test_an_id_that_is_none_is_refused(name: str, value: str) -> None:
    fault = fault_of({**SOUND, name: value})
    assert fault.reason == "empty_id"
    assert fault.detail.startswith(f"{name} must have 1 to 256 bytes and no U+0000, found '")


@pytest.mark.parametrize("value", ["a" * 256, "é" * 128, "\U0001f600" * 64])
def test_an_id_of_256_bytes_is_sound(value: str) -> None:
    assert from_bytes(json.dumps({**SOUND, "unit": value}).encode(), DecisionRequest).unit == value


# Records built in Python


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_say_is_refused_before_encoding(bad: float) -> None:
    records: list[Record] = [
        Outcome(request_id="r", domain="d", time=0, rewards={"click": bad}),
        decision(choices=(Choice(action=[1.0, bad]),)),
        decision(choices=(Choice(action="a"), Choice(slot="s", action="a", propensity=bad))),
        decision(choices=(Choice(action="a", applied=[bad]),)),
        decision(recourse=AppliedRecourse(kind="linear", status="optimal", outputs={"cost": bad})),
        decision(recourse=AppliedRecourse(kind="linear", status="optimal", outputs={"flow": [0.0, bad]})),
        DecisionRequest(**SOUND, fields={"x": [[1.0], [bad]]}),
        DecisionRequest(**SOUND, actions={"id": ["a"], "fee": [bad]}),
        DecisionRequest(**SOUND, slots={"id": ["a"], "size": [bad]}),
    ]
    for record in records:
        with pytest.raises(ValueError, match=r"not_finite: .* must hold finite numbers, found"):
            to_bytes(record)


def test_a_bool_is_no_reward_no_quantity_and_no_output() -> None:
    records: list[Record] = [
        Outcome(request_id="r", domain="d", time=0, rewards={"click": True}),
        decision(choices=(Choice(action=[1.0, True]),)),
        decision(recourse=AppliedRecourse(kind="linear", status="optimal", outputs={"cost": False})),
    ]
    for record in records:
        with pytest.raises(ValueError, match="wrong_type"):
            to_bytes(record)


def test_an_outcome_built_in_python_is_checked_like_one_that_was_read() -> None:
    fault = check_envelope(Outcome(request_id="r", domain="d", time=0, rewards={"click": math.nan}))
    assert fault == ("not_finite", "rewards.click must hold finite numbers, found nan")
    assert check_envelope(DecisionRequest(**{**SOUND, "request_id": "\ud800"})) is not None


# Schemas


@pytest.mark.parametrize("name", ["request", "decision", "outcome", "dead-letter"])
def test_the_published_schemas_are_those_of_the_code(name: str) -> None:
    published = json.loads((SCHEMAS / f"{name}.json").read_text())
    assert published == json_schemas()[name]
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": ""},
        {"unit": "a" * 257},
        {"step": -1},
        {"time": 1.5},
        {"time": None},
        {"fields": []},
        {"actions": [1]},
    ],
)
def test_the_schema_of_a_request_refuses_what_the_decoder_refuses(changes: dict[str, Any]) -> None:
    fault_of({**SOUND, **changes})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**SOUND, **changes}, json_schemas()["request"])


@pytest.mark.parametrize("time", [0, "2026-01-31T06:00:00Z"])
def test_the_schema_takes_times_as_whole_numbers_or_text(time: int | str) -> None:
    jsonschema.validate({**SOUND, "time": time, "deadline": time}, json_schemas()["request"])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"request_id": ""},
        {"request_id": "x" * 257},
        {"unit": ""},
        {"request_id": "é" * 129},
        {"unit": "a\x00b"},
        {"time": "2026-01-01T00:00:00Z"},
        {"time": "soon"},
        {"deadline": "never"},
        {"supersedes": ""},
        {"schema_version": 99},
        {"step": -1},
    ],
)
def test_reading_a_request_fast_says_what_reading_it_in_full_says(change: dict[str, Any]) -> None:
    said = {"request_id": "a", "domain": "shop", "time": 0, "unit": "u", **change}
    data = msgspec.json.encode(said)

    def outcome(read: Callable[[bytes], DecisionRequest]) -> object:
        try:
            return read(data)
        except UnableToDecode as error:
            return error.fault, error.request_id

    assert outcome(read_request) == outcome(lambda value: from_bytes(value, DecisionRequest))
