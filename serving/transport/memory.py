"""Topics in memory, with partitions, consumer groups and faults on demand; from Python only.

The log outlives its transports as a broker outlives its clients: a new transport on the same log and group is a
restart, and fences the one before it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final, Literal, TypeAlias, final
from zlib import crc32

from policies.events import Source
from serving.contract import Batch, Committed, Kind, Message, Place, Positions, Result, Rewound, check_answers
from serving.transport.cursor import STALE, Cursor

Point: TypeAlias = Literal["poll", "before_commit", "after_commit"]

Faults: TypeAlias = Callable[[Point], str | None]
"""Called at each point; raising is a crash there, and a text returned before the commit rewinds with that reason."""

TOPIC_OF: Final[Mapping[Kind, str]] = {
    "decision": "decisions",
    "shadow": "shadow",
    "dead_letter": "dead-letters",
    "feedback": "feedback",
    "estimate": "estimates",
}


def no_faults(point: Point) -> None:
    """Let everything pass."""
    del point


@final
class MemoryLog:
    """Hold topics of some partitions each, and the committed position of every group."""

    def __init__(self, *, partition_count: int = 1) -> None:
        if partition_count < 1:
            raise ValueError(f"a topic has at least one partition, found {partition_count}")
        self.partition_count = partition_count
        self._messages: dict[Place, list[Message | Result]] = defaultdict(list)
        self._results: dict[str, list[Result]] = defaultdict(list)
        self._positions: dict[str, dict[Place, int]] = defaultdict(dict)
        self._generations: dict[str, int] = defaultdict(int)

    def append(
        self,
        value: bytes,
        *,
        topic: str = "requests",
        key: bytes | None = None,
        partition: int | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> Source:
        """Write one message and return where it stands; without a partition its key's hash says which."""
        place = (topic, crc32(key or b"") % self.partition_count if partition is None else partition)
        messages = self._messages[place]
        source = Source(topic=topic, partition=place[1], offset=len(messages))
        messages.append(Message(value=value, source=source, key=key, headers=headers))
        return source

    def messages(self, topic: str, *, partition: int = 0, start: int = 0, count: int | None = None) -> list[Message]:
        """Return the messages of one partition from an offset on, in order; results become messages here, when read."""
        stop = None if count is None else start + count
        found = self._messages[topic, partition][start:stop]
        return [
            entry
            if isinstance(entry, Message)
            else _message_of(entry, Source(topic=topic, partition=partition, offset=n))
            for n, entry in enumerate(found, start=start)
        ]

    def end(self, place: Place) -> int:
        """Return the offset that the next message of a place will have."""
        return len(self._messages[place])

    def results(self, kind: Kind) -> Sequence[Result]:
        """Return all committed results of one kind, in the order they were committed."""
        return tuple(self._results[TOPIC_OF[kind]])

    def positions(self, group: str) -> Positions:
        """Return what a group has committed; a place that is absent is at 0."""
        return dict(self._positions[group])

    def start(self, group: str) -> int:
        """Begin a new generation of a group's worker and return its number; older ones are fenced."""
        self._generations[group] += 1
        return self._generations[group]

    def is_current(self, group: str, generation: int) -> bool:
        """Say whether no newer worker of the group has started."""
        return self._generations[group] == generation

    def commit(self, group: str, results: Sequence[Result], positions: Positions) -> None:
        """Write results and a group's positions; nothing can come between the two."""
        for kind, some in groupby(results, key=_KIND):
            topic, own = TOPIC_OF[kind], list(some)
            self._results[topic] += own
            for partition, part in self._partitioned(own):
                self._messages[topic, partition] += part
        self._positions[group].update(positions)

    def _partitioned(self, results: list[Result]) -> Iterable[tuple[int, list[Result]]]:
        if self.partition_count == 1:
            return [(0, results)]
        parts: dict[int, list[Result]] = {}
        for result in results:
            parts.setdefault(crc32(result.key) % self.partition_count, []).append(result)
        return parts.items()


_KIND: Final = attrgetter("kind")


def _message_of(result: Result, source: Source) -> Message:
    return Message(value=result.value, source=source, key=result.key, headers=result.headers)


@final
class MemoryTransport:
    """Read some topics of a memory log as one group's worker, and write results to it.

    `is_finite` says that no more messages will come, so that the end of the topics is the end of the input.
    """

    def __init__(
        self,
        log: MemoryLog,
        *,
        topics: Sequence[str] = ("requests",),
        group: str = "decide",
        max_batch: int = 256,
        is_finite: bool = True,
        faults: Faults = no_faults,
    ) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, found {max_batch}")
        self._log, self._group, self._max_batch = log, group, max_batch
        self._places = tuple((topic, partition) for topic in topics for partition in range(log.partition_count))
        self._is_finite, self._faults = is_finite, faults
        self._generation = log.start(group)
        committed = log.positions(group)
        self._cursor = Cursor({place: committed.get(place, 0) for place in self._places})

    def poll(self) -> Batch:
        """Return up to `max_batch` messages, shared between the places, each in order."""
        self._faults("poll")
        messages: list[Message] = []
        after: dict[Place, int] = {}
        for others, (topic, partition) in zip(reversed(range(len(self._places))), self._places, strict=True):
            start = self._cursor.polled[topic, partition]
            room = -((len(messages) - self._max_batch) // (others + 1))
            part = self._log.messages(topic, partition=partition, start=start, count=room)
            if part:
                messages += part
                after[topic, partition] = start + len(part)
        if not messages:
            return Batch(messages=(), is_end=self._is_finite)
        return Batch(messages=tuple(messages), token=self._cursor.take(after))

    def settle(
        self, batch: Batch, results: Sequence[Result], *, positions: Positions | None = None
    ) -> Committed | Rewound:
        """Keep the results and the positions at once; see the contract."""
        if positions is None:
            check_answers(batch, results)
        if self._cursor.is_stale(batch):
            return Rewound(reason=STALE)
        targets = self._cursor.targets(batch, positions)
        reason = self._faults("before_commit")
        if not self._log.is_current(self._group, self._generation):
            reason = "fenced: a newer worker of the group has started"
        if reason is not None:
            self._cursor.rewind()
            return Rewound(reason=reason)
        self._log.commit(self._group, results, targets)
        self._cursor.commit(batch, targets)
        self._faults("after_commit")
        return Committed(positions=targets)

    def close(self) -> None:
        """Do nothing: the log keeps what is committed."""

    def recent_results(self, kind: Kind, *, place: Place, count: int, since: int = 0) -> Sequence[Result]:
        """Return the last committed results of one kind for one input place, oldest first."""
        found = [
            result
            for result in self._log.results(kind)
            if (result.source.topic, result.source.partition) == place and result.source.offset >= since
        ]
        return found[-count:] if count > 0 else []

    def places(self) -> Sequence[Place]:
        """Return all partitions of the topics it reads."""
        return self._places

    def assignment(self) -> int:
        """Return 0: the places never change hands."""
        return 0

    def committed(self) -> Positions:
        """Return the committed position of each place."""
        return dict(self._cursor.committed)

    def lag(self) -> Mapping[Place, int]:
        """Return how many messages lie beyond the committed position of each place."""
        return {place: self._log.end(place) - position for place, position in self._cursor.committed.items()}
