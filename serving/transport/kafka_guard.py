"""The guarded transaction: results and input positions become readable together, or not at all.

kafka-python's documented loop can return from a commit that lost records. So every step is checked and none may be left
out: begin, send, flush, look at every send, send the positions with the group's metadata of the poll, commit; and after
each of them the producer's id and epoch must be those it was opened with. Any doubt is a `TransactionFailed`; whoever
catches it lets go of the producer and asks the broker what is committed. Nothing is retried or aborted here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import AuthorizationError, InvalidProducerEpochError, KafkaError, ProducerFencedError
from kafka.structs import ConsumerGroupMetadata, MemberState

from serving.contract import Positions
from serving.transport.kafka_batches import Record, append_records, check_written
from serving.transport.kafka_clients import Identity, Timing, identity_of
from serving.transport.kafka_life import (
    CommitUnanswered,
    Faults,
    ProducerReplaced,
    TransactionFailed,
    TransactionRefused,
)
from serving.transport.kafka_rights import why_refused

_CLIENT_ERRORS: Final = (KafkaError, OSError, ValueError, TypeError, RuntimeError, AssertionError)
"""What the client raises; a broken promise within it is as much a doubt as an answer from the broker."""


class Membership(NamedTuple):
    """What a worker was in its group when a batch was polled: it may commit only as long as it still is."""

    metadata: ConsumerGroupMetadata
    changes: int
    places: frozenset[TopicPartition]

    @property
    def is_stable(self) -> bool:
        """Say whether the broker can fence by it: a transaction of no member passes every check (H4)."""
        found = self.metadata
        return found.state == MemberState.STABLE and found.generation_id >= 0 and bool(found.member_id)


def why_stale(polled: Membership, now: Membership) -> str | None:
    """Return why a batch polled by one membership must not be committed under another, or None where it may."""
    if not polled.is_stable or not now.is_stable:
        return f"left the group: generation {now.metadata.generation_id}, {now.metadata.state}"
    if polled != now:
        return f"generation {polled.metadata.generation_id} of the group is over, now {now.metadata.generation_id}"
    return None


def transact(
    producer: KafkaProducer,
    records: Sequence[Record],
    *,
    positions: Positions,
    marker: str,
    membership: Membership,
    identity: Identity,
    timing: Timing,
    faults: Faults,
) -> None:
    """Commit records and positions in one transaction.

    Args:
        producer: open, with no transaction under way.
        records: what becomes readable.
        positions: the next offset to read of each input place.
        marker: kept with the positions, so that it can be told later whether this very transaction committed.
        membership: the group's at the time of the poll; the broker refuses positions of an older generation.
        identity: the producer's id, epoch and lost answers since it was opened.
        timing: how long each step may take.
        faults: called between the steps.

    Raises:
        TransactionFailed: it did not commit, or may not have.
        TransactionRefused: nor will the next, for a right is missing.
        CommitUnanswered: the commit was sent and not answered in time.
    """
    try:
        producer.begin_transaction()
        faults("begun")
        _send(producer, records, timing)
        _check_identity(producer, identity)
        faults("sent")
        _send_positions(producer, positions, marker, membership.metadata, timing)
        _check_identity(producer, identity)
        faults("before_commit")
        _commit(producer, timing)
        _check_identity(producer, identity)
    except TransactionFailed:
        raise
    except (ProducerFencedError, InvalidProducerEpochError) as error:
        raise ProducerReplaced(f"fenced: {_words(error)}") from error
    except AuthorizationError as error:
        raise TransactionRefused(why_refused(error, on_topics="Write")) from error
    except _CLIENT_ERRORS as error:
        raise TransactionFailed(_words(error)) from error


def _send(producer: KafkaProducer, records: Sequence[Record], timing: Timing) -> None:
    """Send and wait; a send that failed shows nowhere but in its own batch (H1)."""
    batches = append_records(producer, records)
    producer.flush(timeout=(timing.delivery_timeout_ms + 1_000) / 1000)
    for batch in batches:
        check_written(batch)


def _send_positions(
    producer: KafkaProducer, positions: Positions, marker: str, metadata: ConsumerGroupMetadata, timing: Timing
) -> None:
    offsets = as_offsets(positions, marker)
    result = producer._transaction_manager.send_offsets_to_transaction(offsets, metadata)
    producer._sender.wakeup()
    if not result.wait(timeout_ms=timing.offsets_timeout_ms):
        raise TransactionFailed(f"the positions were not answered within {timing.offsets_timeout_ms} ms")


def _commit(producer: KafkaProducer, timing: Timing) -> None:
    """Commit with a deadline: the client's own call waits for ever when a broker dies (H9)."""
    result = producer._transaction_manager.begin_commit()
    producer._sender.wakeup()
    if not result.wait(timeout_ms=timing.commit_timeout_ms):
        raise CommitUnanswered(
            f"the broker did not answer a commit within {timing.commit_timeout_ms} ms; this process ends, and the next "
            "one of its name learns from the broker what was committed. Run it under a supervisor that starts it again"
        )


def as_offsets(positions: Positions, marker: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """Return positions as the client takes them."""
    return {
        TopicPartition(topic, partition): OffsetAndMetadata(offset, marker, -1)
        for (topic, partition), offset in positions.items()
    }


def _check_identity(producer: KafkaProducer, identity: Identity) -> None:
    found = identity_of(producer)
    if found != identity:
        raise TransactionFailed(
            f"the producer changed from id, epoch and lost answers {identity} to {found} in a transaction"
        )


def _words(error: Any) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
