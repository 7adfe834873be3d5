"""The transactional producers of one life: one for all it commits, or one for each partition it reads.

Opening a producer fences its namesakes and aborts what they left open; from then on until it is fenced itself, nobody
else can commit under its name. With a name for each partition, whoever opened last owns the partition's transactions,
whatever the group believes: it must read the committed position after opening, and then no other can have moved it by
the time its own commit succeeds. That is why a producer is opened before the position is read, and kept only as long as
the partition was not away.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, final

from serving.contract import Place, Positions
from serving.transport.kafka_life import WorkerSettings

Opened = TypeVar("Opened")
"""A producer of some client library, with what its life must remember of it."""


@final
class Producers(Generic[Opened]):
    """Open, keep and close producers as partitions come and go."""

    def __init__(
        self, settings: WorkerSettings, *, open_one: Callable[[str], Opened], close_one: Callable[[Opened], None]
    ) -> None:
        """Open the one producer of the worker's name, unless each partition has its own.

        Args:
            settings: under which names.
            open_one: opens a producer by its transactional id.
            close_one: lets go of a producer so that nothing it still holds is sent; it does not raise.
        """
        self._settings, self._open_one, self._close_one = settings, open_one, close_one
        self._opened: dict[Place | None, Opened] = {}
        self._is_closed = False
        if not settings.is_per_partition:
            self._opened[None] = open_one(settings.transactional_id)

    def take_over(self, places: Iterable[Place], *, away: Iterable[Place] = ()) -> None:
        """Open producers for the partitions that have come, and close those of partitions that have gone.

        Args:
            places: the partitions of this worker now.
            away: those that were taken away in between; another may have opened their producers.
        """
        if not self._settings.is_per_partition:
            return
        wanted, gone = set(places), set(away)
        for place in [place for place in self._opened if place not in wanted or place in gone]:
            self._close_one(self._opened.pop(place))
        for place in sorted(wanted):
            if place not in self._opened:
                self._opened[place] = self._open_one(partition_id(self._settings.group, place))

    def of(self, positions: Positions) -> Opened:
        """Return the producer that commits these positions.

        Raises:
            ValueError: they are of several partitions, of which each has its own.
        """
        if not self._settings.is_per_partition:
            return self._opened[None]
        if len(positions) != 1:
            raise ValueError(f"a transaction per partition commits one position, found {sorted(positions)}")
        return self._opened[next(iter(positions))]

    def close(self) -> None:
        """Let go of all; closing again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        for opened in self._opened.values():
            self._close_one(opened)


def partition_id(group: str, place: Place) -> str:
    """Return the transactional id of one partition, which any member of the group takes over.

    >>> partition_id("penstock", ("penstock.demo.requests", 3))
    'penstock-penstock.demo.requests-3'
    """
    topic, partition = place
    return f"{group}-{topic}-{partition}"
