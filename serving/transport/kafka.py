"""Kafka as transport: each request is decided once, in one transaction with its input position, whatever dies.

What is committed at the broker is the only truth. A worker that fails, is fenced or is in any doubt gives up its life
in the group (`kafka_life`) and begins another, which reads on from the committed positions; nothing is carried over in
memory. Lives by kafka-python are in `kafka_member`, their transaction and the law behind its steps in `kafka_guard`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from policies.errors import Unable
from serving.contract import (
    ANSWERS,
    Batch,
    Committed,
    Kept,
    Kind,
    Message,
    Place,
    Positions,
    Recalled,
    Result,
    Rewound,
    check_answers,
)
from serving.log import log
from serving.transport.cursor import STALE, Cursor
from serving.transport.kafka_life import (
    BatchStale,
    BeginLife,
    Faults,
    Life,
    LifeOver,
    PositionGone,
    ProducerReplaced,
    Refused,
    TransactionFailed,
    WorkerSettings,
)
from serving.transport.kafka_member import Member
from serving.transport.kafka_records import fitting, to_records
from serving.transport.kafka_results import Wanted, read_back
from serving.transport.kafka_topics import OUTPUTS_OF, split_topic


class OffsetLost(Unable):
    """The committed position is no longer in the topic: its messages were deleted before they were decided."""


class NameTaken(Unable):
    """Another worker of the group runs under the same name."""


class UnableToReachBrokers(Unable):
    """The brokers do not answer, refuse, or keep the committed positions unreadable."""


def no_faults(step: str) -> None:
    """Let everything pass."""
    del step


@final
class KafkaTransport:
    """Read the inputs of a loop as one member of a group, and write its results, exactly once.

    Opening waits for the group to give this worker its partitions. A finite input ends where it ended when the worker
    took it over.

    Raises:
        UnableToReachBrokers: no broker answers, or they refuse this worker.
        OffsetLost: retention has deleted messages that were not decided.
        NameTaken: another worker has the same name.
        CommitUnanswered: a commit got no answer in time; the process must end.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        partitions: Mapping[str, int],
        begin_life: BeginLife = Member,
        faults: Faults = no_faults,
    ) -> None:
        """Join the group.

        Args:
            settings: what to read and under which names.
            partitions: how many each topic has that is read or written.
            begin_life: by which client library.
            faults: called at each step of a poll and a transaction; a test raises from it to crash there.
        """
        self._settings, self._partitions, self._faults = settings, partitions, faults
        self._begin_life = begin_life
        self._outputs = OUTPUTS_OF[settings.loop]
        self._cursor = Cursor({})
        self._handovers = self._transactions = 0
        self._down_since: float | None = None
        self._life: Life | None = None
        while not self._reopen():
            time.sleep(0.2)

    def poll(self) -> Batch:
        """Return what waits, at most `max_batch` messages, or an empty batch after about a second."""
        self._faults("poll")
        if not self._reopen() or self._life is None:
            return Batch(messages=())
        try:
            if self._life.has_ended():
                return Batch(messages=(), is_end=True)
            return self._batch_of(self._life, self._life.fetch() or self._life.fetch())
        except PositionGone as error:
            raise self._offset_lost(error) from error
        except LifeOver as error:
            self._let_go(error)
            return Batch(messages=())

    def settle(
        self, batch: Batch, results: Sequence[Result], *, positions: Positions | None = None
    ) -> Committed | Rewound:
        """Commit results and positions in one transaction; see the contract.

        A transaction whose outcome cannot be learned, because no broker answers, is reported as rewound: the committed
        positions decide whether its messages are polled again.
        """
        if positions is None:
            check_answers(batch, results)
        if self._cursor.is_stale(batch) or self._life is None:
            return Rewound(reason=STALE)
        targets = self._cursor.targets(batch, positions)
        if results or any(self._cursor.committed[place] != target for place, target in targets.items()):
            began = time.monotonic()
            self._transactions += 1
            marker = f"{self._life.name}.{self._transactions}"
            try:
                self._transact(self._life, results, targets, marker)
            except BatchStale as error:
                # Another life would have the whole group change again, and others give up their batches for it.
                self._take_over({})
                return Rewound(reason=str(error))
            except TransactionFailed as error:
                self._check_name(error, elapsed_ms=(time.monotonic() - began) * 1000)
                return self._recover(error, targets, marker)
        self._cursor.commit(batch, targets)
        self._faults("committed")
        return Committed(positions=targets)

    def close(self) -> None:
        """Leave the group and let go of the clients; what is not committed is aborted by the next life."""
        life, self._life = self._life, None
        if life is not None:
            life.close()

    def recent_results(self, kind: Kind, *, place: Place, count: int, since: int = 0) -> Sequence[Result]:
        """Return the last committed results of one kind for one input place, oldest first.

        Raises:
            LifeOver: the brokers do not answer, or refuse.
        """
        return self._read_back(kind, [place], count=count, since=since, keep=lambda result: result).found[place]

    def recall(
        self, kind: Kind, *, places: Sequence[Place], count: int, keep: Callable[[Result], Kept]
    ) -> Recalled[Kept]:
        """Return what is kept of the last committed results of some places of one topic, in one scan.

        Raises:
            LifeOver: the brokers do not answer, or refuse.
        """
        return self._read_back(kind, places, count=count, keep=keep)

    def places(self) -> Sequence[Place]:
        """Return the partitions that the group has given this worker."""
        return sorted(self._cursor.committed)

    def assignment(self) -> int:
        """Return how often partitions have changed hands, or what was polled was given up."""
        return self._handovers

    def committed(self) -> Positions:
        """Return the committed position of each partition of this worker."""
        return dict(self._cursor.committed)

    def lag(self) -> Mapping[Place, int]:
        """Return how many offsets lie beyond each committed position; nothing while the brokers do not answer."""
        if self._life is None:
            return {}
        try:
            return self._life.lag(self._cursor.committed, self._cursor.polled)
        except LifeOver as error:
            log("miss lag", level="warning", reason=str(error))
            return {}

    def _read_back(
        self, kind: Kind, places: Sequence[Place], *, count: int, keep: Callable[[Result], Kept], since: int = 0
    ) -> Recalled[Kept]:
        counts = dict.fromkeys(places, count)
        if kind in ANSWERS:  # a message has one answer; at a first start nothing is searched
            counts = {place: min(count, self._cursor.committed.get(place, count)) for place in places}
        ((topic, _), *_) = places
        wanted = Wanted(
            kind=kind,
            topic=f"{split_topic(topic)[0]}.{self._outputs[kind]}",
            counts=counts,
            since=since,
            place_count=self._partitions[topic],
        )
        return read_back(wanted, keep=keep, connection=self._settings.connection, timing=self._settings.timing)

    def _transact(self, life: Life, results: Sequence[Result], targets: Positions, marker: str) -> None:
        life.transact(
            to_records(results, prefix=self._settings.prefix, names=self._outputs, partitions=self._partitions),
            # Results that move no position are fenced by the group's generation all the same.
            positions=targets or self._cursor.committed,
            marker=marker,
            faults=self._faults,
        )

    def _batch_of(self, life: Life, found: Mapping[Place, Sequence[Message]]) -> Batch:
        """Take as many messages as the byte budget allows, one at least, and have the others fetched again."""
        messages: list[Message] = []
        after: dict[Place, int] = {}
        room = self._settings.batch_bytes
        has_more = life.holds_more()
        for place, rows in sorted(found.items()):
            taken = fitting(rows, room=room) or (() if messages else rows[:1])
            room -= sum(len(row.value) for row in taken)
            if len(taken) < len(rows):
                life.put_back(place, rows[len(taken)].source.offset)
                has_more = True
            if taken:
                messages += taken
                after[place] = taken[-1].source.offset + 1
        if not messages:
            return Batch(messages=())
        has_more = has_more or len(messages) >= self._settings.max_batch
        return Batch(messages=tuple(messages), token=self._cursor.take(after), has_more=has_more)

    def _recover(self, error: TransactionFailed, targets: Positions, marker: str) -> Committed | Rewound:
        """Begin another life, and learn from the broker whether the transaction in doubt has committed (H8)."""
        self._let_go(error)
        if self._reopen() and self._life is not None and targets:
            try:
                if self._life.has_committed(next(iter(targets)), marker):
                    log("find batch committed", reason=str(error))
                    return Committed(positions=targets)
            except LifeOver as unanswered:
                log("miss outcome", level="warning", reason=str(unanswered))
        return Rewound(reason=str(error))

    def _let_go(self, error: LifeOver) -> None:
        """Give up a life that may be in any state, and all that was polled in it."""
        log("let go of clients", level="warning", reason=str(error))
        if isinstance(error, Refused):
            names = f"group {self._settings.group}, transactional id {self._settings.transactional_id}"
            raise UnableToReachBrokers(f"the brokers refuse this worker ({names}): {error}") from error
        self._take_over({})
        life, self._life = self._life, None
        if life is not None:
            life.close(leave_ms=1_000)

    def _take_over(self, committed: Positions) -> None:
        self._cursor.rewind(committed)
        self._handovers += 1

    def _reopen(self) -> bool:
        """Begin a life where there is none, and say whether there is one now.

        Raises:
            UnableToReachBrokers: it has not gone well for longer than an outage may last, or the brokers refuse.
        """
        if self._life is not None:
            return True
        if self._down_since is None:
            self._down_since = time.monotonic()
        try:
            self._life = self._begin_life(self._settings, take_over=self._take_over)
        except PositionGone as error:
            raise self._offset_lost(error) from error
        except LifeOver as error:
            self._let_go(error)
            self._check_outage(error, time.monotonic() - self._down_since)
            return False
        self._down_since = None
        return True

    def _check_outage(self, error: LifeOver, down_s: float) -> None:
        if down_s > self._settings.timing.outage_s:
            raise UnableToReachBrokers(
                f"the brokers {', '.join(self._settings.connection.brokers)} have not answered for {down_s:.0f} s, or "
                f"keep committed positions unreadable: {error}"
            ) from error

    def _check_name(self, error: TransactionFailed, *, elapsed_ms: float) -> None:
        """Tell a namesake from a transaction that took too long: both fence, and only one of them is a mistake.

        With a transaction per partition, whoever is given a partition fences the one before it, and names are in no id.
        """
        if self._settings.is_per_partition:
            return
        if isinstance(error, ProducerReplaced) and elapsed_ms < self._settings.timing.transaction_timeout_ms:
            raise NameTaken(
                f"another worker uses the transactional id {self._settings.transactional_id}; give each worker of a "
                "group a name of its own with --instance, stable over its restarts"
            ) from error

    def _offset_lost(self, error: PositionGone) -> OffsetLost:
        return OffsetLost(
            f"the committed position of group {self._settings.group} is no longer in the topic ({error}): messages "
            "were deleted before they were decided. Reset the group's positions where that loss is accepted"
        )
