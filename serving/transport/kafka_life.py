"""What the guarded transport asks of a client library: one life of a worker in its group.

A life begins by fencing the former one, reads on from the committed positions, and ends at the first doubt; it is never
mended. Whoever implements it says in its errors which of a few things has happened, whatever the client calls it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from policies.errors import Unable
from serving.contract import Message, Place, Positions
from serving.transport.kafka_batches import Record
from serving.transport.kafka_clients import Connection, Timing

BATCH_BYTES: Final = 32 * 1024 * 1024
"""Requests of one batch at most; the client itself sets no bound on what is in flight (H11)."""

Faults: TypeAlias = Callable[[str], None]
"""Called at each step of a poll and a transaction; a test raises from it to crash there."""


class LifeOver(Unable):
    """A worker's life in its group cannot go on; another may begin."""


class Refused(LifeOver):
    """The brokers refuse this worker: another life would be refused too."""


class PositionGone(LifeOver):
    """The committed position is no longer in the topic."""


class TransactionFailed(LifeOver):
    """A transaction did not commit, or may not have; its producer must not be used again."""


class ProducerReplaced(TransactionFailed):
    """Another producer of the same transactional id has started, or the transaction took too long."""


class TransactionRefused(TransactionFailed, Refused):
    """The brokers refuse this worker what a transaction does."""


class BatchStale(LifeOver):
    """The group has changed since the batch was polled: nothing was begun, and the life goes on."""


class CommitUnanswered(Unable):
    """The broker did not answer a commit in time; only a new process may ask what became of it."""


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Say what one loop of one worker reads and writes.

    `group` is the consumer group; `transactional_id` the name under which this worker fences its former lives. With
    `is_per_partition` each partition of the input has a transactional id, a producer and transactions of its own; a
    worker's name is then in none of them.
    """

    connection: Connection
    prefix: str
    domains: tuple[str, ...]
    loop: str = "decide"
    group: str
    transactional_id: str
    max_batch: int = 256
    batch_bytes: int = BATCH_BYTES
    is_finite: bool = False
    is_per_partition: bool = False
    timing: Timing = field(default_factory=Timing)


class Life(Protocol):
    """One life: what it fetches may be committed only as long as it still is what it was in its group."""

    @property
    def name(self) -> str:
        """Return what no other life of the group is called; positions are committed with it."""

    def fetch(self) -> Mapping[Place, Sequence[Message]]:
        """Wait about a second at most for messages, in order within each place.

        With a transaction per partition they are of one place; what was fetched for others is kept and comes next.
        Where the group has changed, go to what is committed, say so by `take_over`, and return nothing.

        Raises:
            LifeOver: it cannot go on.
        """

    def put_back(self, place: Place, offset: int) -> None:
        """Have messages of a place from this offset on fetched again."""

    def holds_more(self) -> bool:
        """Say whether messages are kept that the next fetch hands out at once."""

    def has_ended(self) -> bool:
        """Say whether a finite input is read to where it ended when its partitions were taken over."""

    def transact(self, records: Sequence[Record], *, positions: Positions, marker: str, faults: Faults) -> None:
        """Commit records and positions in one transaction, fenced by the membership of the last fetch.

        Args:
            records: what becomes readable.
            positions: the next offset to read of each input place.
            marker: kept with the positions, so that it can be told later whether this very transaction committed.
            faults: called between the steps.

        Raises:
            BatchStale: the group has changed since the last fetch, and nothing was begun; the life may go on.
            TransactionFailed: it did not commit, or may not have.
            CommitUnanswered: the commit was sent and not answered in time.
        """

    def has_committed(self, place: Place, marker: str) -> bool:
        """Say whether the last commit of a place is the one that carried this marker.

        Raises:
            LifeOver: the brokers do not say.
        """

    def lag(self, committed: Positions, polled: Positions) -> Mapping[Place, int]:
        """Return how many offsets lie beyond each committed position.

        Where all that was polled is committed, markers of transactions that the consumer has passed over do not count.

        Raises:
            LifeOver: the brokers do not say.
        """

    def close(self, *, leave_ms: int = 2_000) -> None:
        """Let go of the clients; the producer first, so that nothing it still holds is sent later."""


class BeginLife(Protocol):
    """Fence the former life of a worker, join its group and wait for partitions; there may be none.

    `take_over` is called with the committed positions whenever the group has changed; what was polled before is void.

    Raises:
        LifeOver: it has not gone well.
    """

    def __call__(self, settings: WorkerSettings, *, take_over: Callable[[Positions], None]) -> Life:
        """Return the life, ready to fetch."""
