import pytest

from policies.events import Source
from serving.contract import Batch, Kind, Message, Result, check_answers
from serving.transport.file import FileTransport
from serving.transport.memory import MemoryTransport


def source(offset: int) -> Source:
    return Source(topic="requests", partition=0, offset=offset)


def result(offset: int, kind: Kind = "decision") -> Result:
    return Result(kind=kind, value=b"{}", key=b"", source=source(offset))


BATCH = Batch(messages=tuple(Message(value=b"{}", source=source(offset)) for offset in range(3)))


def test_one_answer_per_message_passes_in_any_order_and_with_company() -> None:
    check_answers(BATCH, [result(2), result(0, "dead_letter"), result(1), result(1, "shadow"), result(9, "feedback")])


@pytest.mark.parametrize(
    ("results", "named"),
    [
        ([result(0), result(1)], "requests/0@2"),
        ([result(0), result(1), result(2), result(2, "dead_letter")], "requests/0@2"),
        ([result(0), result(1), result(2, "shadow")], "requests/0@2"),
        ([result(0), result(1), result(7)], "requests/0@7"),
    ],
)
def test_a_missing_or_second_or_foreign_answer_is_refused_by_name(results: list[Result], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_answers(BATCH, results)


@pytest.mark.parametrize("transport", [MemoryTransport, FileTransport])
def test_transports_offer_what_the_loops_ask_for(transport: type) -> None:
    wanted = {"poll", "settle", "close", "recent_results", "places", "assignment", "committed", "lag"}
    assert wanted <= set(dir(transport))
