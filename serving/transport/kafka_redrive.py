"""Dead letters on Kafka: read up to where they end now, sent back in one transaction with the position that was read.

For each reason there is a group of its own, so that letters of other reasons stay for a later run, and a run that was
cut short is continued by the next one without sending anything twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, final, get_args

from kafka.structs import ConsumerGroupMetadata

from policies.errors import UsageProblem
from policies.events import DeadLetter, Reason, from_bytes
from serving.contract import Place, Positions
from serving.redrive import Letter, asked_by
from serving.transport.kafka_batches import Record
from serving.transport.kafka_clients import Connection, Timing, close_producer, identity_of, open_producer
from serving.transport.kafka_guard import Membership, transact
from serving.transport.kafka_life import TransactionFailed
from serving.transport.kafka_reader import TopicReader
from serving.transport.kafka_records import REDRIVEN
from serving.transport.kafka_topics import choose_partitions, topic_name

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


class DestinationUnknown(UsageProblem):
    """A dead letter names no topic of requests that exists."""


@final
class Requests:
    """Send letters back to topics of requests, each batch in one transaction."""

    def __init__(self, connection: Connection, *, prefix: str, group: str, partitions: Mapping[str, int]) -> None:
        """Open a producer; another redriving of the group is fenced.

        Args:
            connection: how the brokers are reached.
            prefix: first part of the topics' names.
            group: of the workers.
            partitions: how many each topic of requests has.
        """
        self._prefix, self._group, self._partitions, self._timing = prefix, group, partitions, Timing()
        self._producer = open_producer(connection, transactional_id=f"{group}-redrive", timing=self._timing)
        self._identity = identity_of(self._producer)

    def deliver(self, letters: Sequence[Letter], *, positions: Positions, group: str) -> None:
        """Send letters and keep positions of a group, both or neither.

        Raises:
            TransactionFailed, CommitUnanswered: it is not known to have happened; the next run finds out.
        """
        try:
            transact(
                self._producer,
                [self._record(one) for one in letters],
                positions=positions,
                marker="",
                membership=Membership(ConsumerGroupMetadata(group_id=group), 0, frozenset()),
                identity=self._identity,
                timing=self._timing,
                faults=lambda step: None,
            )
        except TransactionFailed as error:
            raise TransactionFailed(f"{error}; run again: what was committed is not sent twice") from error

    def close(self) -> None:
        """Let go of the producer."""
        close_producer(self._producer)

    def _record(self, one: Letter) -> Record:
        """Address a letter: to the partition it came from where that is known, else to the one of its unit."""
        source, (unit, domain) = one.letter.source, asked_by(one.letter.original)
        is_known = source.topic in self._partitions
        topic = source.topic if is_known or domain is None else topic_name(self._prefix, domain, "requests")
        if topic not in self._partitions:
            raise DestinationUnknown(
                f"the dead letter of {source.topic}/{source.partition}@{source.offset} belongs to {topic}, which is no "
                f"topic of requests here; there are {', '.join(sorted(self._partitions))}"
            )
        key = b"" if unit is None else unit.encode()
        is_there = is_known and source.partition < self._partitions[topic]
        partition = (
            source.partition if is_there else choose_partitions([key], partition_count=self._partitions[topic])[0]
        )
        return Record(topic, partition, key, one.letter.original, _counted(one.headers))


@final
class KafkaLetters:
    """Read the dead letters of some domains, from where each reason was redriven to, to where they end now."""

    def __init__(
        self, reader: TopicReader, *, places: Sequence[Place], group: str, requests: Requests | None, again: bool
    ) -> None:
        """Find where each reason goes on.

        Args:
            reader: of the topics.
            places: partitions of dead letters.
            group: of the workers.
            requests: where letters go back to; None for a dry run.
            again: begin at the oldest letter, whatever was redriven before.
        """
        self._reader, self._group, self._requests = reader, group, requests
        begins, self._ends = reader.begins(places), reader.ends(places)
        self._next: dict[Reason, dict[Place, int]] = {
            reason: begins | ({} if again else self._committed(reason, begins)) for reason in REASONS
        }
        self._read: dict[Place, int] = {}

    def read(self, reason: Reason | None) -> Iterator[Letter]:
        reasons = REASONS if reason is None else (reason,)
        begins = {place: min(self._next[one][place] for one in reasons) for place in self._ends}
        self._read = {}
        for rows in self._reader.read_between(begins, self._ends):
            for row in rows:
                letter = from_bytes(row.value, DeadLetter)
                place = row.topic, row.partition
                self._read[place] = row.offset + 1
                if letter.reason in reasons and row.offset >= self._next[letter.reason][place]:
                    yield Letter(letter, tuple(row.headers))

    def send(self, letters: Sequence[Letter], *, reason: Reason) -> None:
        assert self._requests is not None
        self._requests.deliver(letters, positions=dict(self._read), group=self._name(reason))

    def _committed(self, reason: Reason, begins: Positions) -> dict[Place, int]:
        found = self._reader.committed(self._name(reason), list(begins))
        return {place: max(offset, begins[place]) for place, offset in found.items()}

    def _name(self, reason: Reason) -> str:
        return f"{self._group}-redrive-{reason}"


def _counted(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return headers with the count of redrivings raised by one."""
    before = dict(headers).get(REDRIVEN, b"0")
    count = int(before) + 1 if before.isdigit() else 1
    return [*((name, value) for name, value in headers if name != REDRIVEN), (REDRIVEN, b"%d" % count)]
