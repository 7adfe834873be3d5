"""Dead letters go back to the topic of requests with their original bytes, once their cause is mended.

Only a whole original goes back: one that was cut is refused and counted, and so is a letter of the join, which answers
no request. A message that fails again is a dead letter again; how often it came back stands in its header.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Final, Literal, NamedTuple, Protocol, final

import msgspec

from policies.events import DeadLetter, Reason, from_bytes

Fate = Literal["redriven", "cut", "no_request"]
BATCH: Final = 500

_CUT: Final = re.compile(r"original of (\d+) bytes, SHA-256 ([0-9a-f]{64})$")


class Letter(NamedTuple):
    """A dead letter with the headers of its record."""

    letter: DeadLetter
    headers: tuple[tuple[str, bytes], ...] = ()


class Letters(Protocol):
    """Where dead letters are, and where they go back to."""

    def read(self, reason: Reason | None) -> Iterator[Letter]:
        """Return the letters of one reason that were not redriven yet, or those of all reasons."""

    def send(self, letters: Sequence[Letter], *, reason: Reason) -> None:
        """Send whole originals back, and keep that everything up to the last read letter of this reason is done."""


@dataclass(kw_only=True)
class Redriven:
    """Count letters by what came of them, and those that went back by reason."""

    fates: Counter[Fate] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)


def redrive(letters: Letters, *, reasons: Collection[Reason] = (), is_dry: bool = False) -> Redriven:
    """Send the dead letters of some reasons back; of all reasons, where none is named.

    Args:
        letters: where they are.
        reasons: which ones.
        is_dry: only count.

    Raises:
        Unable: the letters cannot be read or sent; what was sent is not sent again by the next run.
    """
    redriven = Redriven()
    found: Counter[Reason] = Counter()
    for one in letters.read(None):
        if not reasons or one.letter.reason in reasons:
            found[one.letter.reason] += 1
            if is_dry:
                _note(redriven, one)
    if not is_dry:
        for reason in sorted(found):
            _redrive_reason(letters, reason, redriven)
    return redriven


def _redrive_reason(letters: Letters, reason: Reason, redriven: Redriven) -> None:
    waiting = letters.read(reason)
    while batch := list(islice(waiting, BATCH)):
        letters.send([one for one in batch if fate_of(one.letter) == "redriven"], reason=reason)
        for one in batch:
            _note(redriven, one)


def _note(redriven: Redriven, one: Letter) -> None:
    fate = fate_of(one.letter)
    redriven.fates[fate] += 1
    if fate == "redriven":
        redriven.by_reason[one.letter.reason] += 1


def fate_of(letter: DeadLetter) -> Fate:
    """Say whether a letter can go back: it answers a request, and its original is whole.

    >>> from policies.events import Source
    >>> source = Source(topic="p.shop.requests", partition=0, offset=4)
    >>> fate_of(DeadLetter(reason="not_json", detail="", source=source, original=b"{", time=0))
    'redriven'
    """
    if letter.source.topic.rpartition(".")[2] != "requests":
        return "no_request"
    cut = _CUT.search(letter.detail)
    if cut is None:
        return "cut" if letter.reason == "oversize" else "redriven"
    is_whole = len(letter.original) == int(cut[1]) and sha256(letter.original).hexdigest() == cut[2]
    return "redriven" if is_whole else "cut"


class _Asked(msgspec.Struct, gc=False):
    unit: str
    domain: str


_ASKED: Final = msgspec.json.Decoder(_Asked)


def asked_by(original: bytes) -> tuple[str | None, str | None]:
    """Return the unit and the domain that an original names; None where it cannot be read.

    >>> asked_by(b'{"unit":"u1","domain":"shop"}'), asked_by(b"{")
    (('u1', 'shop'), (None, None))
    """
    try:
        asked = _ASKED.decode(original)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None, None
    return asked.unit, asked.domain


@final
class LettersOfLines:
    """Dead letters of a file of JSON lines; a file keeps no positions, so that each run sends all of them."""

    def __init__(
        self, lines: Callable[[], Iterable[bytes]], *, deliver: Callable[[Sequence[Letter]], None] | None
    ) -> None:
        """Name the lines, which are read more than once, and what sends letters."""
        self._lines, self._deliver = lines, deliver

    def read(self, reason: Reason | None) -> Iterator[Letter]:
        for line in self._lines():
            letter = from_bytes(line, DeadLetter)
            if reason is None or letter.reason == reason:
                yield Letter(letter)

    def send(self, letters: Sequence[Letter], *, reason: Reason) -> None:
        del reason
        if letters and self._deliver is not None:
            self._deliver(letters)
