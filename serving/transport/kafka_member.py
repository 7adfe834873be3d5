"""One life of a worker in its group: a producer, a consumer, and what the group has given it.

A life begins with the producer, whose opening aborts what the last life left open, and goes on with the consumer. It is
never mended: whoever doubts it closes it and begins another.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, final

from kafka import ConsumerRebalanceListener, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    SaslAuthenticationFailedError,
)

from serving.contract import Message, Place, Positions
from serving.log import log
from serving.transport.kafka_batches import Record
from serving.transport.kafka_clients import (
    Identity,
    ask_committed,
    ask_offsets,
    close_consumer,
    close_producer,
    fetch_more,
    identity_of,
    open_consumer,
    open_producer,
)
from serving.transport.kafka_guard import Membership, transact, why_stale
from serving.transport.kafka_life import BatchStale, Faults, LifeOver, PositionGone, Refused, WorkerSettings
from serving.transport.kafka_producers import Producers
from serving.transport.kafka_records import to_message
from serving.transport.kafka_rights import why_refused
from serving.transport.kafka_topics import INPUTS_OF, topic_name
from serving.transport.kafka_turns import Turns

_UNPACK_MS: Final = 0.02
"""What the client takes at most, on a slow machine, to unpack a record that it holds."""


class OpenedProducer(NamedTuple):
    """A producer with its id, epoch and lost answers when it was opened."""

    producer: KafkaProducer
    identity: Identity


@final
class _Changes(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """Count how often partitions have changed hands, and note which have gone; called from the client's thread."""

    def __init__(self) -> None:
        self.count = 0
        self._gone: list[TopicPartition] = []

    def gone(self) -> list[TopicPartition]:
        """Return the partitions that have gone since this was last asked, even those that have come back."""
        found = self._gone[:]
        del self._gone[: len(found)]
        return found

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._gone += revoked
        self.count += bool(revoked)

    def on_partitions_assigned(self, assigned: Any) -> None:
        self.count += bool(assigned)

    def on_partitions_lost(self, lost: Any) -> None:
        self._gone += lost
        self.count += 1


@final
class Member:
    """Hold kafka-python's clients of one life, and tell when the group has changed under it; see `Life`.

    Raises:
        LifeOver: the brokers cannot be reached, refuse, or keep committed positions unreadable.
    """

    def __init__(self, settings: WorkerSettings, *, take_over: Callable[[Positions], None]) -> None:
        """Open the clients and wait for the group's partitions; there may be none.

        Args:
            settings: what to read and under which names.
            take_over: called with the committed positions whenever the group has changed; what was polled before is
                void.
        """
        self._settings, self._take_over = settings, take_over
        self._ends: dict[TopicPartition, int] = {}
        self._turns = Turns()
        self._is_flowing = False
        self.membership: Membership | None = None
        with _told():
            self._open()

    @property
    def name(self) -> str:
        if self._settings.is_per_partition:
            return str(self.consumer.group_metadata().member_id)
        return ".".join(map(str, self.identity))

    @property
    def producer(self) -> KafkaProducer:
        """Return the one producer, where partitions do not have their own."""
        return self.producers.of({}).producer

    @property
    def identity(self) -> Identity:
        """Return what the one producer was when it was opened."""
        return self.producers.of({}).identity

    def fetch(self) -> Mapping[Place, Sequence[Message]]:
        with _told():
            if self._turns and self.present() == self.membership:
                return self._turns.take()
            self._is_flowing = False
            if self._turns:  # positions are past what was kept: they must be read anew even if the group looks the same
                self._turns.clear()
                self.membership = None
            found = {
                (place.topic, place.partition): [to_message(row) for row in rows]
                for place, rows in self._poll().items()
            }
            self._is_flowing = bool(found)
        if not self._settings.is_per_partition:
            return found
        self._turns.add(found)
        return self._turns.take()

    def transact(self, records: Sequence[Record], *, positions: Positions, marker: str, faults: Faults) -> None:
        polled, now = self.membership, self.present()
        doubt = "no longer in the group" if polled is None else why_stale(polled, now)
        if polled is None or doubt is not None:
            self.membership = None  # so that the next fetch goes to what is committed
            raise BatchStale(doubt)
        opened = self.producers.of(positions)
        transact(
            opened.producer,
            records,
            positions=positions,
            marker=marker,
            membership=polled,
            identity=opened.identity,
            timing=self._settings.timing,
            faults=faults,
        )

    def present(self) -> Membership:
        """Return what this worker is in its group now."""
        return Membership(
            metadata=self.consumer.group_metadata(),
            changes=self._changes.count,
            places=frozenset(self.consumer.assignment()),
        )

    def has_ended(self) -> bool:
        if not self._settings.is_finite or self.membership is None or self._turns:
            return False
        with _told():
            return all((self.consumer.position(place) or 0) >= end for place, end in self._ends.items())

    def holds_more(self) -> bool:
        return bool(self._turns)

    def put_back(self, place: Place, offset: int) -> None:
        self.consumer.seek(TopicPartition(*place), offset)

    def lag(self, committed: Positions, polled: Positions) -> Mapping[Place, int]:
        if not committed:
            return {}
        with _told():
            ends = self._ends_of([TopicPartition(*place) for place in committed])
            reached, kept = dict(committed), set(self._turns)
            for place in reached:
                if committed[place] == polled[place] and place not in kept:
                    reached[place] = max(committed[place], self.consumer.position(TopicPartition(*place)) or 0)
        return {tuple(place): max(0, end - reached[tuple(place)]) for place, end in ends.items()}

    def _ends_of(self, places: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return where partitions end: as the last fetches told while messages come, else as the broker says now.

        A question to the broker waits behind the fetch that is under way, for half a second where nothing comes, and a
        batch would wait with it.
        """
        told = {place: self.consumer.highwater(place) for place in places} if self._is_flowing else {}
        known = {place: int(end) for place, end in told.items() if end is not None}
        return known if len(known) == len(places) else ask_offsets(self.consumer.end_offsets, places)

    def has_committed(self, place: Place, marker: str) -> bool:
        with _told():
            found = self.consumer.committed(TopicPartition(*place), metadata=True, timeout_ms=5_000)
        return found is not None and found.metadata == marker

    def close(self, *, leave_ms: int = 2_000) -> None:
        self.producers.close()
        close_consumer(self.consumer, timeout_ms=leave_ms)

    def _open(self) -> None:
        settings = self._settings
        self.producers = Producers(
            settings, open_one=self._open_producer, close_one=lambda opened: close_producer(opened.producer)
        )
        try:
            self.consumer = open_consumer(
                settings.connection,
                group=settings.group,
                timing=settings.timing,
                max_batch=settings.max_batch,
                # Partitions that are joined must go to one worker, which only the range assignor sees to.
                assignors=(CooperativeStickyAssignor if settings.loop == "decide" else RangePartitionAssignor,),
            )
        except BaseException:
            self.producers.close()
            raise
        try:
            self._join()
        except BaseException:
            self.close(leave_ms=1_000)
            raise

    def _open_producer(self, transactional_id: str) -> OpenedProducer:
        settings = self._settings
        producer = open_producer(settings.connection, transactional_id=transactional_id, timing=settings.timing)
        return OpenedProducer(producer, identity_of(producer))

    def _poll(self) -> Mapping[TopicPartition, Sequence[Any]]:
        records: Mapping[TopicPartition, Sequence[Any]] = {}
        has_positions = True
        try:
            records = self._take()
        except NoOffsetForPartitionError:
            has_positions = False
        found = self.present()
        if found == self.membership and has_positions:
            return records
        if found.is_stable:
            self._move(found)
        else:
            self.membership = None
        return {}

    def _take(self) -> Mapping[TopicPartition, Sequence[Any]]:
        """Poll, and where that brings what was fetched a turn ago, add what has come since.

        The client asks for more as soon as it hands records out, and keeps the answer, which comes while these are
        decided and committed, for the next poll: without a second look each message would wait for a whole turn there.
        """
        timing, began = self._settings.timing, time.monotonic()
        records: Mapping[TopicPartition, Sequence[Any]]
        records = self.consumer.poll(timeout_ms=timing.poll_ms, max_records=self._settings.max_batch)
        count = sum(map(len, records.values()))
        room = self._settings.max_batch - count
        at_once_s = (timing.at_once_ms + count * _UNPACK_MS) / 1000
        if not records or room == 0 or time.monotonic() - began > at_once_s:
            return records
        more = fetch_more(self.consumer, max_records=room, timeout_ms=timing.gather_ms)
        return {place: [*records.get(place, ()), *more.get(place, ())] for place in {**records, **more}}

    def _join(self) -> None:
        settings = self._settings
        self._changes = _Changes()
        topics = [topic_name(settings.prefix, domain, last) for domain in settings.domains for last in self._inputs()]
        self.consumer.subscribe(topics=topics, listener=self._changes)
        # Joining before the partitions are known makes the group's leader ask for a second rebalance at once (H13).
        self.consumer.topics()
        give_up = time.monotonic() + settings.timing.outage_s
        while self.membership is None:
            self._poll()
            if self.membership is None and time.monotonic() > give_up:
                raise KafkaTimeoutError(f"the group {settings.group} did not settle")

    def _inputs(self) -> tuple[str, ...]:
        return INPUTS_OF[self._settings.loop]

    def _move(self, found: Membership) -> None:
        """Go to the committed positions of the partitions this worker has now, once their producers are open."""
        self._turns.clear()
        self.producers.take_over(map(_place, found.places), away=map(_place, self._changes.gone()))
        positions = self._committed(found.places)
        for place, position in positions.items():
            self.consumer.seek(place, position)
        if self._settings.is_finite:
            self._ends = ask_offsets(self.consumer.end_offsets, positions)
        self.membership = found
        self._take_over({_place(place): position for place, position in positions.items()})
        log("take partitions", generation=found.metadata.generation_id, places=_words(found.places))

    def _committed(self, places: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        """Return where to read on: what the group has committed, else the beginning."""
        # A dead worker's open transaction hides positions until the broker ends it, which it does every 10 s.
        timeout_ms = self._settings.timing.transaction_timeout_ms + 15_000
        committed = ask_committed(self.consumer, places, timeout_ms=timeout_ms)
        begins = ask_offsets(self.consumer.beginning_offsets, places - committed.keys())
        return {place: committed[place] if place in committed else begins[place] for place in sorted(places)}


def _place(partition: TopicPartition) -> Place:
    return partition.topic, partition.partition


def _words(places: frozenset[TopicPartition]) -> str:
    return ", ".join(f"{topic}/{partition}" for topic, partition in sorted(places)) or "none"


@contextmanager
def _told() -> Iterator[None]:
    """Say what the client's errors mean to whoever leads this life."""
    try:
        yield
    except OffsetOutOfRangeError as error:
        raise PositionGone(str(error)) from error
    except AuthorizationError as error:
        raise Refused(why_refused(error)) from error
    except SaslAuthenticationFailedError as error:
        raise Refused(f"{type(error).__name__}: {error}") from error
    except (KafkaError, OSError) as error:
        raise LifeOver(f"{type(error).__name__}: {error}") from error
