"""What the loops and the transports promise each other; read this page first.

The law: **a request ends in exactly one result, carrying its source, committed together with the input position.**
A loop polls a batch, makes one result of each message and settles the batch. Settling is one atomic step: either every
result is readable and the position has moved past the batch (`Committed`), or nothing happened and the batch will be
polled again (`Rewound`). A crash at any point before that step leaves the batch undecided; a crash after it leaves it
decided; there is no third state. What decides is a pure function of the message, so deciding again is harmless.

The join loop holds decisions until their outcomes are in. It settles with explicit `positions`, those of the oldest
message still held, so that after a crash what it held is read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec

from policies.events import Source

Kind: TypeAlias = Literal["decision", "shadow", "dead_letter", "feedback", "estimate"]
"""What a result is. Decisions and dead letters answer a request; the others accompany or follow one."""

ANSWERS: frozenset[Kind] = frozenset({"decision", "dead_letter"})
"""The kinds of which each request gets exactly one, in total."""

Place: TypeAlias = tuple[str, int]
"""A topic and a partition of it."""

Positions: TypeAlias = Mapping[Place, int]
"""For each place, the offset of the first message not yet settled."""


Kept = TypeVar("Kept")
"""What a caller keeps of a result that is read back."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message as it was read: its bytes, undecoded, and where they stood.

    `time_ms` is the message's own timestamp in milliseconds since 1970 UTC, where the transport knows one.
    """

    value: bytes
    source: Source
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    time_ms: int | None = None


class Batch(msgspec.Struct, frozen=True):
    """Some messages, in order within each partition, to be settled as one.

    `token` belongs to the transport: it is what `settle` needs to tell a batch that is still its own from one that a
    rewind or another worker took away. `is_end` says that a finite input is exhausted; such a batch is empty.
    `has_more` says that the transport has more messages at hand, so that the next poll need not wait; where it cannot
    tell, it says no.
    """

    messages: tuple[Message, ...]
    token: object = None
    is_end: bool = False
    has_more: bool = False

    @property
    def oldest_ms(self) -> int | None:
        """The earliest timestamp of its messages, where the transport knows them."""
        return min((message.time_ms for message in self.messages if message.time_ms is not None), default=None)


class Result(msgspec.Struct, frozen=True, gc=False):
    """One result as bytes, with the source of the message that it answers."""

    kind: Kind
    value: bytes
    key: bytes
    source: Source
    headers: tuple[tuple[str, bytes], ...] = ()


class Committed(msgspec.Struct, frozen=True):
    """Every result of the batch is readable and the input position has moved past it."""

    positions: Mapping[Place, int] = {}


class Rewound(msgspec.Struct, frozen=True):
    """Nothing of the batch was kept; its messages will be polled again, here or by another worker."""

    reason: str


class Transport(Protocol):
    """Bring messages and keep results: in memory, in a folder, or on Kafka. One conformance suite holds for all."""

    def poll(self) -> Batch:
        """Return the next messages; an empty batch when there are none now, with `is_end` when there will be none.

        A batch may be polled while an earlier one is still unsettled; batches are settled in the order of polling.
        """

    def settle(
        self, batch: Batch, results: Sequence[Result], *, positions: Positions | None = None
    ) -> Committed | Rewound:
        """Keep the results and move the input position past the batch, in one atomic step.

        Without `positions`, each message of the batch must have exactly one answer (a decision or a dead letter) with
        its source; other kinds may come beside it. With them the caller holds messages back: the answers are not
        counted, and the next start polls from those positions (places not named stay where they are).

        Raises:
            ValueError: the answers are not one per message of the batch, or a position lies beyond what was polled;
                nothing was kept.
        """

    def close(self) -> None:
        """Let go of files and connections, keeping what is committed; closing again does nothing."""


@runtime_checkable
class Remembers(Protocol):
    """A transport that can read back what it has committed, so that a loop rebuilds its memory at start."""

    def recent_results(self, kind: Kind, *, place: Place, count: int, since: int = 0) -> Sequence[Result]:
        """Return the last committed results of one kind for one input place, at most `count`, oldest first.

        Only results whose source has an offset of at least `since` are returned.
        """

    def places(self) -> Sequence[Place]:
        """Return the input places that this worker reads now."""

    def assignment(self) -> int:
        """Return a number that changes whenever places have changed hands: what was remembered is then void."""


@dataclass(frozen=True, kw_only=True)
class Recalled(Generic[Kept]):
    """Hold what was kept of the last results of some places, oldest first; `is_complete` says whether all were read."""

    found: Mapping[Place, Sequence[Kept]]
    is_complete: bool


@runtime_checkable
class Recalls(Protocol):
    """A transport whose results of many places lie together, so that reading back all of them costs as much as one."""

    def recall(
        self, kind: Kind, *, places: Sequence[Place], count: int, keep: Callable[[Result], Kept]
    ) -> Recalled[Kept]:
        """Return the last committed results of one kind for each of some places, at most `count` each.

        Args:
            kind: of result.
            places: of one topic.
            count: for each place.
            keep: what is kept of a result; the rest of it is let go of while others are read.
        """


@runtime_checkable
class Measures(Protocol):
    """A transport that knows how far its input reaches, so that a loop can tell idleness from a stall."""

    def committed(self) -> Positions:
        """Return the committed position of each input place."""

    def lag(self) -> Mapping[Place, int]:
        """Return, for each input place, how many messages lie beyond the committed position."""


def check_answers(batch: Batch, results: Sequence[Result]) -> None:
    """Refuse results that are not exactly one answer for each message of the batch, by source.

    Every transport calls this before it keeps anything.

    Raises:
        ValueError: a message has no answer or two, or an answer has the source of no message.
    """
    wanted = [message.source for message in batch.messages]
    found = [result.source for result in results if result.kind in ANSWERS]
    if found == wanted:
        return
    missing, extra = _difference(wanted, found)
    if missing or extra:
        raise ValueError(
            f"each message must have exactly one decision or dead letter, found {len(found)} for {len(wanted)} "
            f"messages: without an answer {missing[:3]}, too many or unknown {extra[:3]}"
        )


def _difference(wanted: list[Source], found: list[Source]) -> tuple[list[str], list[str]]:
    open_sources = {_name(source) for source in wanted}
    extra = []
    for source in found:
        name = _name(source)
        if name in open_sources:
            open_sources.remove(name)
        else:
            extra.append(name)
    return sorted(open_sources), extra


def _name(source: Source) -> str:
    return f"{source.topic}/{source.partition}@{source.offset}"
