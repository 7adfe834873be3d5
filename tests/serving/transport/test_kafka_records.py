from types import SimpleNamespace
from typing import Any

from policies.events import Source
from serving.contract import Kind, Result
from serving.transport.kafka_records import ROOM, fitting, to_message, to_records
from serving.transport.kafka_topics import OUTPUTS_OF, choose_partitions

PARTITIONS = {"p.demo.decisions": 4, "p.demo.dead-letters": 2, "p.demo.shadow": 4}


def result(kind: Kind, key: bytes = b"r-1", value: bytes = b"{}", **more: Any) -> Result:
    return Result(kind, value, key, Source(topic="p.demo.requests", partition=1, offset=7), **more)


def row(value: bytes | None, headers: list[tuple[str, bytes | None]] | None = None) -> Any:
    return SimpleNamespace(topic="t", partition=0, offset=3, key=b"k", value=value, headers=headers or [], timestamp=7)


def test_results_go_beside_the_topic_they_answer_by_their_key() -> None:
    records = to_records(
        [result("decision"), result("dead_letter"), result("shadow")],
        prefix="p",
        names=OUTPUTS_OF["decide"],
        partitions=PARTITIONS,
    )
    assert [record.topic for record in records] == ["p.demo.decisions", "p.demo.dead-letters", "p.demo.shadow"]
    assert records[0].partition == records[2].partition == choose_partitions([b"r-1"], partition_count=4)[0]


def test_what_follows_from_many_messages_goes_to_the_topic_of_its_domain() -> None:
    estimate = Result("estimate", b"{}", b"demo", Source(topic="", partition=0, offset=0))
    records = to_records([estimate], prefix="p", names=OUTPUTS_OF["join"], partitions={"p.demo.estimates": 1})
    assert records[0].topic == "p.demo.estimates"


def test_headers_that_make_a_record_too_large_are_left_out_and_then_the_key() -> None:
    heavy = (("ce_x", b"x" * 200_000),)
    large = b"v" * 900_000
    records = to_records(
        [
            result("decision", value=large, headers=heavy),
            result("dead_letter", key=b"k" * 500_000, value=large),
            result("decision", headers=heavy),
        ],
        prefix="p",
        names=OUTPUTS_OF["decide"],
        partitions=PARTITIONS,
    )
    by_size = {(record.topic, len(record.value)): record for record in records}
    assert by_size["p.demo.decisions", 900_000].headers == []
    assert by_size["p.demo.decisions", 900_000].key == b"r-1"
    assert by_size["p.demo.dead-letters", 900_000].key == b""
    assert by_size["p.demo.decisions", 2].headers == list(heavy)
    sizes = [len(r.key) + len(r.value) + sum(len(n) + len(v) for n, v in r.headers) for r in records]
    assert max(sizes) <= ROOM


def test_a_record_is_wrapped_with_its_place_and_what_is_passed_on() -> None:
    message = to_message(row(None, [("ce_type", b"a"), ("ce_null", None), ("tracestate", b"b"), ("other", b"c")]))
    assert message.value == b""
    assert (message.source, message.time_ms) == (Source(topic="t", partition=0, offset=3), 7)
    assert message.headers == (("ce_type", b"a"), ("tracestate", b"b"))


def test_only_records_that_have_room_together_are_taken() -> None:
    rows = [row(b"x" * 10) for _ in range(5)]
    assert len(fitting(rows, room=29)) == 2
    assert len(fitting(rows, room=50)) == 5
    assert len(fitting(rows, room=9)) == 0
