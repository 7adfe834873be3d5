"""One life of a worker in its group by librdkafka (the extra `librdkafka`): the same law as by kafka-python, faster.

The steps and the doubts are those of `kafka_guard`: begin, send, flush, every send accounted for, positions with the
group's metadata of the poll, commit; a doubt at any of them ends the life, and the broker says what was committed.
Nothing is retried or aborted here. docs/reference/kafka-hazards.md says what was seen of each hazard.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, final

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from policies.events import Source
from serving.contract import Message, Place, Positions
from serving.log import log
from serving.transport.kafka_batches import Record
from serving.transport.kafka_life import (
    BatchStale,
    CommitUnanswered,
    Faults,
    LifeOver,
    PositionGone,
    ProducerReplaced,
    Refused,
    TransactionFailed,
    TransactionRefused,
    WorkerSettings,
)
from serving.transport.kafka_records import carried
from serving.transport.kafka_topics import INPUTS_OF, topic_name
from serving.transport.librdkafka_clients import (
    Heard,
    Membership,
    close_consumer,
    close_producer,
    describe,
    is_refusal,
    open_consumer,
    open_producer,
    read_metadata,
)

_CLIENT_ERRORS: Final = (BufferError, ValueError, TypeError, RuntimeError)
"""What else a transaction raises; a broken promise within the client is as much a doubt as an answer."""


@final
class LibrdkafkaLife:
    """Hold librdkafka's clients of one life, and tell when the group has changed under it; see `Life`.

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
        self._name = uuid.uuid4().hex
        self._heard = Heard()
        self._changes = 0
        self._is_assigned = self._is_closing = self._is_full = self._is_flowing = False
        self._ends: Mapping[Place, int] = {}
        self._reached: dict[Place, int] = {}
        self.membership: Membership | None = None
        with _told():
            self._open()

    @property
    def name(self) -> str:
        return self._name

    def fetch(self) -> Mapping[Place, Sequence[Message]]:
        with _told():
            return self._poll()

    def put_back(self, place: Place, offset: int) -> None:
        with _told():
            self._seek(place, offset)

    def holds_more(self) -> bool:
        return self._is_full

    def has_ended(self) -> bool:
        if not self._settings.is_finite or self.membership is None:
            return False
        return all(self._reached.get(place, 0) >= end for place, end in self._ends.items())

    def transact(self, records: Sequence[Record], *, positions: Positions, marker: str, faults: Faults) -> None:
        polled, now = self.membership, self.present()
        if polled is None or polled != now or not now.is_stable:
            self.membership = None  # so that the next fetch goes to what is committed
            raise BatchStale(f"the group has changed since the batch was polled, to generation {now.generation}")
        try:
            self._transact(records, positions, marker, polled.metadata, faults)
        except KafkaException as error:
            raise _failed(error) from error
        except SystemError as error:
            raise _hidden(self.producer, error) from error
        except _CLIENT_ERRORS as error:
            raise TransactionFailed(f"{type(error).__name__}: {error}") from error

    def has_committed(self, place: Place, marker: str) -> bool:
        with _told():
            (found,) = self.consumer.committed([TopicPartition(*place)], timeout=5.0)
            _check(found)
        return bool(found.offset >= 0 and found.metadata == marker)

    def lag(self, committed: Positions, polled: Positions) -> Mapping[Place, int]:
        with _told():
            ends = self._known_ends(committed) if self._is_flowing else self._ask_ends(committed)
        found = {}
        for place, position in committed.items():
            reached = self._reached.get(place, 0) if position == polled[place] else 0
            found[place] = max(0, ends[place] - max(position, reached))
        return found

    def close(self, *, leave_ms: int = 2_000) -> None:
        self._is_closing = True
        close_producer(self.producer)
        close_consumer(self.consumer)

    def present(self) -> Membership:
        """Return what this worker is in its group now."""
        metadata = self.consumer.consumer_group_metadata()
        return Membership(metadata, *read_metadata(metadata), self._changes)

    def _open(self) -> None:
        settings = self._settings
        self.producer = open_producer(
            settings.connection,
            transactional_id=settings.transactional_id,
            timing=settings.timing,
            heard=self._heard,
        )
        try:
            self.consumer = open_consumer(
                settings.connection,
                group=settings.group,
                timing=settings.timing,
                # Partitions that are joined must go to one worker, which only the range assignor sees to.
                assignor="cooperative-sticky" if settings.loop == "decide" else "range",
                heard=Heard(),
            )
        except BaseException:
            close_producer(self.producer)
            raise
        try:
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self) -> None:
        settings = self._settings
        lasts = INPUTS_OF[settings.loop]
        topics = [topic_name(settings.prefix, domain, last) for domain in settings.domains for last in lasts]
        self.consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        give_up = time.monotonic() + settings.timing.outage_s
        while self.membership is None:
            self._poll()
            if self.membership is None and time.monotonic() > give_up:
                raise LifeOver(f"the group {settings.group} did not settle")

    def _on_assign(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Begin with new partitions where the group has committed; called within a poll."""
        self._changes += 1
        self._is_assigned = True
        if self._is_closing:
            return  # whoever leaves asks in vain for positions, until the time for it is over
        places = [(found.topic, found.partition) for found in partitions]
        starts = self._ask_committed(places)
        self._reached.update(starts)
        offsets = [TopicPartition(*place, starts[place]) for place in places]
        if self._settings.loop == "decide":
            consumer.incremental_assign(offsets)
        else:
            consumer.assign(offsets)

    def _on_revoke(self, consumer: Any, partitions: Sequence[Any]) -> None:
        """Forget partitions; the library itself stops fetching them."""
        self._changes += 1
        for found in partitions:
            self._reached.pop((found.topic, found.partition), None)

    def _poll(self) -> Mapping[Place, Sequence[Message]]:
        rows = self._consume()
        messages = self._sort(rows)
        found = self.present()
        if found == self.membership:
            return messages
        if found.is_stable and self._is_assigned:
            self._move(found)
        else:
            self.membership = None
        return {}

    def _consume(self) -> list[Any]:
        """Wait for one message, then take what is there: asked for many, the library waits until it has them all."""
        rows: list[Any] = self.consumer.consume(1, self._settings.timing.poll_ms / 1000)
        if rows and self._settings.max_batch > 1:
            rows += self.consumer.consume(self._settings.max_batch - 1, 0)
        self._is_full = len(rows) >= self._settings.max_batch
        self._is_flowing = bool(rows)
        return rows

    def _sort(self, rows: Iterable[Any]) -> dict[Place, list[Message]]:
        """Wrap records, undecoded, by the place that they come from; one without a value is an empty message."""
        found: dict[Place, list[Message]] = {}
        for row in rows:
            error = row.error()
            place = row.topic(), row.partition()
            if error is not None:
                self._note(error, place, row)
                continue
            headers = row.headers()
            offset = row.offset()
            message = Message(
                row.value() or b"",
                Source(topic=place[0], partition=place[1], offset=offset),
                row.key(),
                carried(headers) if headers else (),
                row.timestamp()[1],
            )
            self._reached[place] = offset + 1
            if place in found:
                found[place].append(message)
            else:
                found[place] = [message]
        return found

    def _note(self, error: Any, place: Place, row: Any) -> None:
        """Take what comes in the place of a message: the end of a partition, or an error of the consumer."""
        if error.code() == KafkaError._PARTITION_EOF:
            self._reached[place] = max(self._reached.get(place, 0), row.offset())
            return
        raise KafkaException(error)

    def _move(self, found: Membership) -> None:
        """Go to the committed positions of the partitions this worker has now."""
        positions = self._ask_committed(self._reached)
        for place, position in positions.items():
            if self._reached[place] != position:
                self._seek(place, position)
        if self._settings.is_finite:
            self._ends = self._ask_ends(positions)
        self.membership = found
        self._take_over(positions)
        names = ", ".join(f"{topic}/{partition}" for topic, partition in sorted(positions)) or "none"
        log("take partitions", generation=found.generation, places=names)

    def _seek(self, place: Place, offset: int) -> None:
        self.consumer.seek(TopicPartition(*place, offset))
        self._reached[place] = offset

    def _ask_committed(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return where to read on: what the group has committed, else the beginning."""
        wanted = [TopicPartition(*place) for place in places]
        if not wanted:
            return {}
        # A dead worker's open transaction hides the position until the broker ends it, which it does every 10 s.
        timeout_s = self._settings.timing.transaction_timeout_ms / 1000 + 15.0
        positions: dict[Place, int] = {}
        for found in self.consumer.committed(wanted, timeout=timeout_s):
            _check(found)
            place = found.topic, found.partition
            positions[place] = self._ask_beginning(place) if found.offset == OFFSET_INVALID else found.offset
        return positions

    def _ask_beginning(self, place: Place) -> int:
        return int(self._ask_watermarks(place)[0])

    def _ask_ends(self, places: Iterable[Place]) -> dict[Place, int]:
        return {place: int(self._ask_watermarks(place)[1]) for place in places}

    def _known_ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return where partitions end as the last fetches told: a question to the broker would wait behind a fetch."""
        found = {}
        for place in places:
            _, end = self.consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            found[place] = int(end) if end >= 0 else self._ask_watermarks(place)[1]
        return found

    def _ask_watermarks(self, place: Place) -> tuple[int, int]:
        found: tuple[int, int] | None = self.consumer.get_watermark_offsets(TopicPartition(*place), timeout=5.0)
        if found is None:
            raise LifeOver(f"the brokers do not say where {place[0]}/{place[1]} begins and ends")
        return found

    def _transact(
        self, records: Sequence[Record], positions: Positions, marker: str, metadata: bytes, faults: Faults
    ) -> None:
        producer, timing = self.producer, self._settings.timing
        producer.begin_transaction()
        faults("begun")
        self._send(records)
        self._heard.check_lost(producer)
        faults("sent")
        offsets = [TopicPartition(*place, offset, marker) for place, offset in positions.items()]
        producer.send_offsets_to_transaction(offsets, metadata, timing.offsets_timeout_ms / 1000)
        self._heard.check_lost(producer)
        faults("before_commit")
        self._commit()
        self._heard.check_lost(producer)

    def _send(self, records: Sequence[Record]) -> None:
        """Send and wait; a send ends delivered, silently, or failed, which is told: none may be left (H1)."""
        failed: list[str] = []

        def tell(error: Any, _: Any) -> None:
            failed.append(describe(error))

        produce = self.producer.produce
        for topic, partition, key, value, headers in records:
            if headers:
                produce(topic, value, key, partition, tell, headers=headers)
            else:
                produce(topic, value, key, partition, tell)
        left = self.producer.flush((self._settings.timing.delivery_timeout_ms + 1_000) / 1000)
        if failed:
            raise TransactionFailed(f"{len(failed)} of {len(records)} sends failed: {failed[0]}")
        if left:
            raise TransactionFailed(f"{left} of {len(records)} sends have no outcome after the flush")

    def _commit(self) -> None:
        """Commit with a deadline; a commit that is not answered may have been done, and may yet be."""
        timeout_ms = self._settings.timing.commit_timeout_ms
        try:
            self.producer.commit_transaction(timeout_ms / 1000)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TIMED_OUT:
                raise
            raise CommitUnanswered(
                f"the broker did not answer a commit within {timeout_ms} ms; this process ends, and the next one of "
                "its name learns from the broker what was committed. Run it under a supervisor that starts it again"
            ) from error


def _hidden(producer: Any, error: SystemError) -> TransactionFailed:
    """Return the fatal error that the client hid behind a SystemError; whatever it is asked next says it."""
    try:
        producer.begin_transaction()
    except KafkaException as told:
        return _failed(told)
    return TransactionFailed(f"the client failed: {error}")


def _failed(error: Any) -> TransactionFailed:
    """Say what an error of the producer means to whoever leads this life."""
    code = error.args[0].code()
    if code in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
        return ProducerReplaced(f"fenced: {describe(error)}")
    if is_refusal(error.args[0]):
        return TransactionRefused(describe(error))
    return TransactionFailed(describe(error))


def _check(found: Any) -> None:
    """Raise the error that an answer on one partition holds."""
    if found.error is not None:
        raise KafkaException(found.error)


@contextmanager
def _told() -> Iterator[None]:
    """Say what the consumer's errors mean to whoever leads this life."""
    try:
        yield
    except KafkaException as error:
        found = error.args[0]
        if found.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise PositionGone(describe(error)) from error
        if is_refusal(found) or found.code() == KafkaError._INVALID_ARG:  # a file of certificates that is not there
            raise Refused(describe(error)) from error
        raise LifeOver(describe(error)) from error
    except (OSError, RuntimeError) as error:
        raise LifeOver(f"{type(error).__name__}: {error}") from error
