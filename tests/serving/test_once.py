import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from policies.events import Decision, from_bytes
from serving.contract import Result
from serving.once import Counts, LineSink, OnceTransport, RequestsNotFound, decide_file
from tests.helpers.domains import WORKLOADS
from tests.helpers.lineups import lineup


class _List:
    def __init__(self) -> None:
        self.results: list[Result] = []

    def write(self, results: Sequence[Result]) -> None:
        self.results += results


def _decide(path: Path, sink: _List, *, batch_size: int = 256) -> Counts:
    return decide_file(
        path, lineup=lineup("ad_load"), sink=sink, now=lambda: 0, seconds=lambda: 0.0, batch_size=batch_size
    )


def test_a_request_ends_in_one_result_in_order(tmp_path: Path) -> None:
    path, sink = tmp_path / "requests.jsonl", _List()
    messages = WORKLOADS["ad_load"]().messages(7)
    path.write_bytes(b"\n".join([*messages[:3], b"", b"nonsense", *messages[3:]]))
    assert _decide(path, sink, batch_size=2) == Counts(decisions=7, dead_letters=1, fallbacks=0)
    assert [result.source.offset for result in sink.results] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert [result.kind for result in sink.results].index("dead_letter") == 3


def test_the_same_id_with_other_bytes_is_a_dead_letter(tmp_path: Path) -> None:
    path, sink = tmp_path / "requests.jsonl", _List()
    message = WORKLOADS["ad_load"]().messages(1)[0]
    path.write_bytes(b"\n".join([message, message, message.replace(b"unit-0", b"unit-1")]))
    assert _decide(path, sink, batch_size=1) == Counts(decisions=2, dead_letters=1, fallbacks=0)
    first, second = (from_bytes(result.value, Decision) for result in sink.results[:2])
    assert first.choices == second.choices


def test_a_request_past_its_deadline_is_counted_as_a_fallback(tmp_path: Path) -> None:
    path, sink = tmp_path / "requests.jsonl", _List()
    message = WORKLOADS["ad_load"]().messages(1)[0]
    path.write_bytes(message.replace(b'"step":0', b'"step":0,"deadline":-1'))
    assert _decide(path, sink) == Counts(decisions=1, dead_letters=0, fallbacks=1)


def test_an_empty_file_has_no_results(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.touch()
    assert _decide(path, _List()) == Counts(decisions=0, dead_letters=0, fallbacks=0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestsNotFound, match=r"missing\.jsonl"):
        OnceTransport(tmp_path / "missing.jsonl", sink=_List(), max_batch=1)


def test_dead_letters_get_their_stream_only_when_there_are_some(tmp_path: Path) -> None:
    path, decisions, opened = tmp_path / "requests.jsonl", io.BytesIO(), list[io.BytesIO]()

    def open_dead() -> io.BytesIO:
        opened.append(io.BytesIO())
        return opened[0]

    sink = LineSink(decisions, dead_letters=open_dead)
    path.write_bytes(WORKLOADS["ad_load"]().messages(1)[0])
    decide_file(path, lineup=lineup("ad_load"), sink=sink, now=lambda: 0, seconds=lambda: 0.0)
    assert (len(decisions.getvalue().splitlines()), opened) == (1, [])
    path.write_bytes(b"nonsense\nnonsense\n")
    decide_file(path, lineup=lineup("ad_load"), sink=sink, now=lambda: 0, seconds=lambda: 0.0, batch_size=1)
    assert len(opened[0].getvalue().splitlines()) == 2
