"""The duplicate window: what each partition decided last, so that a request that comes again is told from a new one.

The same bytes under the same request id are decided again, to the same decision, and counted; other bytes are a
conflict. The window counts the last decisions of a partition, whatever batches they came in, and is rebuilt at start
from what the partition has committed: running on, rewinding and restarting remember the same. Dead letters are not
remembered, so that a request may be mended and sent again.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, final

import msgspec

from policies.events import compact
from serving.contract import Place, Result

DEFAULT_WINDOW: Final = 100_000


class Admitted(NamedTuple):
    """Say which of the requests offered conflict with an earlier one, by their place, and how many repeat one."""

    conflicts: list[int]
    repeated: int


class Known(NamedTuple):
    """One decided request as it is remembered: where it stood, and hashes of its id and of its bytes."""

    offset: int
    request_id: int
    digest: int


def remember(decision: Result) -> Known:
    """Return what is remembered of a committed decision: some hundred bytes of its thousands."""
    request = bytes(_DECISION.decode(decision.value).request)
    return Known(decision.source.offset, hash(_REQUEST.decode(request).request_id), hash(request))


@final
class DuplicateWindow:
    """Remember the last `size` decisions of each partition by 64-bit hashes of id and bytes: about 13 MB per 100,000.

    What is admitted is provisional until it is kept: a batch that is rewound is taken out again, exactly, so that the
    window holds what is committed and no more. The hashes are Python's own: keyed anew in each process, which is all
    they live in. Two ids collide in a full window with probability 5e-15 per request.
    """

    def __init__(self, *, size: int = DEFAULT_WINDOW) -> None:
        if size < 1:
            raise ValueError(f"a duplicate window remembers at least one request, found {size}")
        self._size = size
        self._partitions: dict[Place, _Partition] = {}

    def places(self) -> list[Place]:
        """Return the partitions whose memory is built."""
        return list(self._partitions)

    def is_built(self, place: Place) -> bool:
        """Say whether a partition's memory was rebuilt since the start or since it was forgotten."""
        return place in self._partitions

    def rebuild(self, place: Place, decisions: Iterable[Known]) -> None:
        """Remember the committed decisions of a partition, oldest first."""
        partition = self._partitions[place] = _Partition(self._size)
        for known in decisions:
            partition.remember(known.request_id, known.digest)
            partition.keep()

    def forget(self, place: Place) -> None:
        """Forget a partition: another worker may have decided in it."""
        self._partitions.pop(place, None)

    def clear(self) -> None:
        """Forget everything."""
        self._partitions.clear()

    def keep(self) -> None:
        """Learn that what was admitted is committed."""
        for partition in self._partitions.values():
            partition.keep()

    def drop(self) -> None:
        """Take out what was admitted since the last `keep`: it was not committed."""
        for partition in self._partitions.values():
            partition.drop()

    def admit(self, place: Place, request_ids: Sequence[str], originals: Sequence[bytes]) -> Admitted:
        """Compare requests of one partition, in order, with what it decided last, and remember those that agree.

        After a rebuild, bytes are compared in the form in which decisions echo them: without line breaks.
        """
        return self._partitions[place].admit(list(map(hash, request_ids)), originals)


@final
class _Partition:
    """Remember ids in the order they were decided; `_steps` holds what was done since the last `keep`, in order.

    A step is the ids that were appended, or those that fell out for them, with their digests.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[int, int] = {}
        self._order: deque[int] = deque()
        self._repeats: Counter[int] = Counter()
        self._steps: list[tuple[Sequence[int], Sequence[tuple[int, int]]]] = []

    def keep(self) -> None:
        self._steps.clear()

    def drop(self) -> None:
        """Undo the steps, the last one first."""
        while self._steps:
            appended, fallen = self._steps.pop()
            for request_id, digest in reversed(fallen):
                self._order.appendleft(request_id)
                if request_id in self._known:
                    self._repeats[request_id] += 1
                else:
                    self._known[request_id] = digest
            for request_id in reversed(appended):
                self._order.pop()
                self._take_one(request_id)

    def admit(self, ids: list[int], originals: Sequence[bytes]) -> Admitted:
        fresh = dict(zip(ids, map(hash, originals), strict=True))
        if len(fresh) == len(ids) and self._known.keys().isdisjoint(fresh):
            self._known.update(fresh)
            self._order.extend(ids)
            self._steps.append((ids, self._shrink()))
            return Admitted([], 0)
        return self._admit_one_by_one(ids, originals)

    def remember(self, request_id: int, digest: int) -> None:
        if request_id in self._known:
            self._repeats[request_id] += 1
        else:
            self._known[request_id] = digest
        self._order.append(request_id)
        self._steps.append(((request_id,), self._shrink()))

    def _admit_one_by_one(self, ids: list[int], originals: Sequence[bytes]) -> Admitted:
        conflicts, repeated = [], 0
        for place, (request_id, original) in enumerate(zip(ids, originals, strict=True)):
            before = self._known.get(request_id)
            if before is not None and before not in (hash(original), hash(compact(original).strip())):
                conflicts.append(place)
                continue
            repeated += before is not None
            self.remember(request_id, hash(original))
        return Admitted(conflicts, repeated)

    def _shrink(self) -> list[tuple[int, int]]:
        """Let the oldest fall out, and return them as they were known."""
        fallen = []
        for _ in range(len(self._order) - self._size):
            oldest = self._order.popleft()
            fallen.append((oldest, self._known[oldest]))
            self._take_one(oldest)
        return fallen

    def _take_one(self, request_id: int) -> None:
        """Know a request once less."""
        repeats = self._repeats.get(request_id, 0)
        if repeats == 0:
            del self._known[request_id]
        elif repeats == 1:
            del self._repeats[request_id]
        else:
            self._repeats[request_id] = repeats - 1


class _Request(msgspec.Struct, gc=False):
    request_id: str


class _Decision(msgspec.Struct, gc=False):
    request: msgspec.Raw


_REQUEST: Final = msgspec.json.Decoder(_Request)
_DECISION: Final[msgspec.json.Decoder[_Decision]] = msgspec.json.Decoder(_Decision)
