"""Each message gets exactly one answer, and it keeps what it answers."""

import msgspec
import pytest

from policies.events import MAX_ORIGINAL_BYTES, MAX_REQUEST_BYTES, MAX_RESULT_BYTES, to_bytes
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import answer, decision, letter, lineup


def _bad(**changes: object) -> bytes:
    return to_bytes(msgspec.structs.replace(WORKLOADS["ad_load"]().request(0), **changes))


def _fields(**changes: object) -> bytes:
    fields = {**WORKLOADS["ad_load"]().request(0).fields, **changes}
    return _bad(fields={name: value for name, value in fields.items() if value is not ...})


BAD = {
    "not_json": b"{nope",
    "schema_version": b'{"schema_version": 99, "anything": 1}',
    "missing_field": _fields(position=...),
    "wrong_type": _fields(position=True),
    "out_of_range": _fields(position=201),
    "not_finite": to_bytes(WORKLOADS["ad_load"]().request(0)).replace(b'"position":', b'"position":NaN,"was":'),
    "unequal_columns": _bad(actions={"id": ["0", "1"], "eligible": [[True]]}),
    "empty_id": _bad(request_id=""),
    "unknown_domain": _bad(domain="elsewhere"),
    "no_eligible_action": _bad(actions={"id": ["0", "1"], "eligible": [[False, False]]}),
    "oversize": b" " * (MAX_REQUEST_BYTES + 1),
}


@pytest.mark.parametrize("reason", sorted(BAD))
def test_a_bad_message_is_a_dead_letter_with_its_reason_and_bytes_and_its_neighbors_are_decided(reason: str) -> None:
    good = WORKLOADS["ad_load"]().messages(3)[1:]

    results = answer([good[0], BAD[reason], good[1]], lineup("ad_load"))

    assert [result.kind for result in results] == ["decision", "dead_letter", "decision"]
    found = letter(results[1])
    assert found.reason == reason
    assert found.detail
    assert found.source.offset == 1
    assert BAD[reason].startswith(found.original)
    assert len(found.original) == min(len(BAD[reason]), MAX_ORIGINAL_BYTES if reason == "oversize" else 10**9)
    assert [decision(r).choices for r in (results[0], results[2])] == [
        decision(r).choices for r in answer(good, lineup("ad_load"))
    ]


def test_a_batch_of_nothing_but_bad_messages_loses_none() -> None:
    results = answer([*BAD.values()], lineup("ad_load"))
    assert [letter(result).reason for result in results] == [*BAD]


def test_a_decision_echoes_its_request_verbatim() -> None:
    (value,) = WORKLOADS["payments"]().messages(1)
    spaced = value.replace(b'"domain"', b' "domain"')
    (result,) = answer([spaced], lineup("payments"))
    assert bytes(decision(result).request) == spaced


def test_a_request_with_line_breaks_is_echoed_on_one_line() -> None:
    (value,) = WORKLOADS["ad_load"]().messages(1)
    (result,) = answer([value.replace(b",", b",\n")], lineup("ad_load"))
    assert b"\n" not in result.value
    assert bytes(decision(result).request) == value


def test_results_are_keyed_by_request_id_and_dead_letters_of_illegible_messages_by_nothing() -> None:
    results = answer([*WORKLOADS["ad_load"]().messages(1), b"nope"], lineup("ad_load"))
    assert [result.key for result in results] == [b"ad_load-00000000", b""]


def test_an_oversize_dead_letter_says_what_it_cut() -> None:
    (result,) = answer([BAD["oversize"]], lineup("ad_load"))
    found = letter(result)
    assert f"original of {MAX_REQUEST_BYTES + 1} bytes, SHA-256" in found.detail
    assert len(result.value) < MAX_RESULT_BYTES


def test_a_decision_says_who_decided_and_under_which_catalogue() -> None:
    (result,) = answer(WORKLOADS["ad_load"]().messages(1), lineup("ad_load"), now=7)
    found = decision(result)
    assert found.policy == lineup("ad_load").domains["ad_load"].live.artifact.identity[:32]
    assert found.catalogue == lineup("ad_load").identity
    assert len(found.platform) == 8
    assert (found.role, found.time) == ("live", 7)


@pytest.mark.parametrize("domain", sorted(WORKLOADS))
def test_the_joined_bytes_are_those_of_the_record(domain: str) -> None:
    messages = WORKLOADS[domain]().messages(5)
    late = [value.replace(b'"step":0', b'"step":0,"deadline":5') for value in messages]
    for result in answer([*messages, *late], lineup(domain), now=6):
        assert result.value == to_bytes(decision(result))
