"""Bytes become requests or faults, and neighbors never suffer."""

from policies.events import MAX_REQUEST_BYTES
from serving.receive import receive
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import message


def test_every_message_ends_among_the_requests_or_the_faults() -> None:
    good = WORKLOADS["ad_load"]().messages(2)
    values = [good[0], b"not json", good[1], b""]

    found = receive([message(v, n) for n, v in enumerate(values)], known_domains={"ad_load"})

    assert found.places == [0, 2]
    assert sorted(found.faults) == [1, 3]
    assert {fault.reason for fault, _ in found.faults.values()} == {"not_json"}


def test_a_request_of_a_domain_nobody_serves_is_a_fault_that_names_who_is_served() -> None:
    (value,) = WORKLOADS["payments"]().messages(1)

    found = receive([message(value)], known_domains={"ad_load"})

    fault, request_id = found.faults[0]
    assert fault.reason == "unknown_domain"
    assert "ad_load" in fault.detail
    assert request_id == "payments-00000000"


def test_size_is_looked_at_before_content() -> None:
    found = receive([message(b" " * (MAX_REQUEST_BYTES + 1))], known_domains={"ad_load"})
    assert found.faults[0][0].reason == "oversize"


def test_sound_messages_beside_a_broken_one_are_read_as_they_are_alone() -> None:
    values = WORKLOADS["ad_load"]().messages(6)
    alone = receive([message(v, n) for n, v in enumerate(values)], known_domains={"ad_load"})
    assert (alone.places, alone.faults) == (list(range(6)), {})
    beside = receive([message(v, n) for n, v in enumerate([*values, b"{"])], known_domains={"ad_load"})
    assert beside.requests == alone.requests
    assert list(beside.faults) == [6]
