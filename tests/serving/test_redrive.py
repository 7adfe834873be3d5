from collections.abc import Iterator, Sequence
from hashlib import sha256

import pytest

from policies.events import DeadLetter, Fault, Reason, Source, to_bytes
from serving.contract import Message
from serving.record import dead_letter
from serving.redrive import Letter, LettersOfLines, fate_of, redrive
from tests.helpers.lineups import letter as read_letter

REQUESTS = Source(topic="p.shop.requests", partition=1, offset=7)


def written(value: bytes, reason: Reason, *, source: Source = REQUESTS) -> DeadLetter:
    fault = Fault(reason, "told")
    return read_letter(dead_letter(Message(value=value, source=source), fault, request_id=None, now=0))


class MemoryLetters:
    """Letters in memory, with what was sent and, for each reason, up to where."""

    def __init__(self, letters: Sequence[DeadLetter]) -> None:
        self.letters = list(letters)
        self.sent: list[DeadLetter] = []
        self.positions: dict[str, int] = {}
        self._read = 0

    def read(self, reason: Reason | None) -> Iterator[Letter]:
        for place, letter in enumerate(self.letters):
            if reason in (None, letter.reason) and place >= self.positions.get(letter.reason, 0):
                self._read = place + 1
                yield Letter(letter)

    def send(self, letters: Sequence[Letter], *, reason: Reason) -> None:
        self.sent += [one.letter for one in letters]
        self.positions[reason] = self._read


@pytest.mark.parametrize("size", [3, 64 * 1024, 64 * 1024 + 1, 900_000])
@pytest.mark.parametrize("reason", ["oversize", "wrong_type"])
def test_a_letter_goes_back_if_and_only_if_its_original_is_whole(size: int, reason: Reason) -> None:
    original = b"x" * size
    letter = written(original, reason)
    assert (fate_of(letter) == "redriven") == (letter.original == original)


def test_a_detail_that_ends_like_a_digest_does_not_let_a_cut_original_through() -> None:
    detail = f"original of 4 bytes, SHA-256 {sha256(b'wxyz').hexdigest()}"
    letter = DeadLetter(reason="oversize", detail=detail, source=REQUESTS, original=b"wxy", time=0)
    assert fate_of(letter) == "cut"


def test_a_letter_of_the_join_stays() -> None:
    source = Source(topic="p.shop.outcomes", partition=0, offset=0)
    assert fate_of(written(b"{}", "not_json", source=source)) == "no_request"


def test_only_the_named_reasons_go_back_and_each_letter_once() -> None:
    letters = MemoryLetters([written(b"a", "not_json"), written(b"b", "deadline"), written(b"c", "not_json")])
    first = redrive(letters, reasons=["not_json"])
    again = redrive(letters, reasons=["not_json"])
    rest = redrive(letters)
    assert [letter.original for letter in letters.sent] == [b"a", b"c", b"b"]
    assert (first.fates["redriven"], again.fates["redriven"], rest.by_reason) == (2, 0, {"deadline": 1})


def test_what_cannot_go_back_is_counted_and_not_sent() -> None:
    letters = MemoryLetters([written(b"y" * 80_000, "oversize"), written(b"b", "oversize")])
    redriven = redrive(letters)
    assert (redriven.fates["redriven"], redriven.fates["cut"]) == (1, 1)
    assert [letter.original for letter in letters.sent] == [b"b"]


def test_a_dry_run_counts_and_sends_nothing() -> None:
    letters = MemoryLetters([written(b"a", "not_json"), written(b"b", "deadline")])
    redriven = redrive(letters, reasons=["deadline"], is_dry=True)
    assert (redriven.by_reason, letters.sent, letters.positions) == ({"deadline": 1}, [], {})


def test_more_letters_than_a_batch_all_go_back() -> None:
    letters = MemoryLetters([written(b"%d" % n, "not_json") for n in range(1_201)])
    assert redrive(letters).fates["redriven"] == len(letters.sent) == 1_201


def test_letters_of_a_file_are_delivered_whole() -> None:
    delivered: list[bytes] = []
    lines = [to_bytes(written(b"a", "not_json")), to_bytes(written(b"b", "deadline"))]
    letters = LettersOfLines(
        lambda: lines, deliver=lambda batch: delivered.extend(one.letter.original for one in batch)
    )
    redrive(letters, reasons=["deadline"])
    assert delivered == [b"b"]
