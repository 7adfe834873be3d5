"""Kafka's clients: how they are made, how they are let go of, and the few private parts that the guard needs.

kafka-python 3.0 lets a caller neither learn that the producer's epoch changed, nor wait for a commit with a deadline,
nor stop a sender whose batches hang, nor hand over many records at once. What reaches into the client for that is named
in `check_client`, which refuses a client that lacks it before anything is read. The hazards H1 to H17 are described in
docs/explanation/exactly-once.md.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, TypeAlias

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, LeaderNotAvailableError

from policies.errors import Unable
from serving.log import log
from serving.settings import ServeSettings
from serving.transport.kafka_access import check_access, security_of
from serving.transport.kafka_batches import BATCH_BYTES, BUILDER_PARTS, PRODUCER_PARTS, new_builder
from serving.transport.kafka_selector import PlainSelector

MAX_RECORD_BYTES: Final = 1_048_576
"""What a broker takes by default as one request, and so the largest record."""

Identity: TypeAlias = tuple[int, int, int]
"""A producer's id and epoch, and how many answers it has lost."""


_PRODUCER_PARTS: Final = (
    "_transaction_manager.producer_id_and_epoch",
    "_transaction_manager.begin_commit",
    "_transaction_manager.send_offsets_to_transaction",
    *PRODUCER_PARTS,
    "_sender.force_close",
    "_sender._client.send",
    "_sender.wakeup",
)


class UnableToUseClient(Unable):
    """The installed Kafka client lacks what the guard needs."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Hold the times that exactly-once rests on; the defaults held under faults.

    The transaction timeout is the longest pause of a worker that costs no rewind, and how long a dead worker's open
    transaction holds back readers. Flush and offsets together stay below it.
    """

    transaction_timeout_ms: int = 10_000
    session_timeout_ms: int = 6_000
    heartbeat_ms: int = 500
    request_timeout_ms: int = 3_000
    delivery_timeout_ms: int = 4_000
    max_block_ms: int = 15_000
    bootstrap_timeout_ms: int = 15_000
    # Each transaction starts with an answer to try again shortly; the default of 100 ms would be its whole cost (H12).
    retry_backoff_ms: int = 2
    # A shorter poll may return before a rebalance is complete and leave the member without partitions for ever (H7).
    poll_ms: int = 1_000
    # A poll that returns so soon had its records from an earlier fetch; then what has come since is waited for so long.
    at_once_ms: int = 1
    gather_ms: int = 3
    offsets_timeout_ms: int = 5_000
    commit_timeout_ms: int = 8_000
    outage_s: float = 120.0
    admin_timeout_ms: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Hold how brokers are reached; it never shows a password."""

    brokers: tuple[str, ...]
    client_id: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def options(self) -> dict[str, Any]:
        """Return the options that all clients share."""
        return {"bootstrap_servers": list(self.brokers), "client_id": self.client_id, **self.security}


def connection_of(settings: ServeSettings, *, client_id: str) -> Connection:
    """Return how the brokers of some settings are reached.

    Raises:
        SecurityFileRefused: a file that the settings name is missing, or does not hold what it must.
    """
    return Connection(brokers=settings.brokers, client_id=client_id, security=security_of(settings))


def check_client(producer: KafkaProducer) -> None:
    """Refuse a client without the private parts that the guard reads.

    Raises:
        UnableToUseClient: one is missing.
    """
    missing = [name for name in _PRODUCER_PARTS if _part(producer, name) is None]
    missing += [f"_builder.{name}" for name in BUILDER_PARTS if not hasattr(new_builder()._builder, name)]
    if missing:
        raise _client_lacks(missing)


def _part(client: Any, name: str) -> Any:
    """Return a part of a client by its dotted name, or None where it is missing."""
    try:
        return attrgetter(name)(client)
    except AttributeError:
        return None


def _client_lacks(missing: Sequence[str]) -> UnableToUseClient:
    return UnableToUseClient(
        f"expected kafka-python 3.0, found {kafka.__version__} without {', '.join(missing)}, which exactly-once "
        "rests on; install kafka-python>=3.0.12,<3.1"
    )


def check_reachable(connection: Connection, *, timing: Timing) -> None:
    """Wait until one broker lets this process in; the client itself would try in the background and say little.

    Raises:
        ConnectionError: none answers.
        AccessRefused: those that answer refuse, or are not trusted.
    """
    check_access(
        connection.brokers,
        connection.security,
        client_id=connection.client_id,
        patience_s=timing.bootstrap_timeout_ms / 1000,
    )


def open_producer(connection: Connection, *, transactional_id: str, timing: Timing) -> KafkaProducer:
    """Open a transactional producer; what its namesakes left open is aborted, and they are fenced.

    Raises:
        KafkaError: the brokers cannot be reached, or refuse.
        UnableToUseClient: the client lacks what the guard needs.
    """
    check_reachable(connection, timing=timing)
    producer = KafkaProducer(
        **connection.options,
        transactional_id=transactional_id,
        transaction_timeout_ms=timing.transaction_timeout_ms,
        delivery_timeout_ms=timing.delivery_timeout_ms,
        request_timeout_ms=timing.request_timeout_ms,
        max_block_ms=timing.max_block_ms,
        bootstrap_timeout_ms=timing.bootstrap_timeout_ms,
        retry_backoff_ms=timing.retry_backoff_ms,
        linger_ms=0,
        batch_size=BATCH_BYTES,
        selector=PlainSelector,
        max_request_size=MAX_RECORD_BYTES,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    try:
        check_client(producer)
        _watch_answers(producer)
        producer.init_transactions()
    except BaseException:
        close_producer(producer)
        raise
    return producer


def open_consumer(
    connection: Connection, *, group: str, timing: Timing, max_batch: int, assignors: tuple[type, ...]
) -> KafkaConsumer:
    """Open a consumer that reads what is committed, hands out bytes, and commits nothing by itself.

    Raises:
        KafkaError: the brokers cannot be reached, or refuse.
    """
    consumer = KafkaConsumer(
        **connection.options,
        group_id=group,
        # Without read_committed a successor may read offsets that a stopped member has sent but not committed (H16).
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        partition_assignment_strategy=assignors,
        session_timeout_ms=timing.session_timeout_ms,
        heartbeat_interval_ms=timing.heartbeat_ms,
        request_timeout_ms=timing.request_timeout_ms,
        bootstrap_timeout_ms=timing.bootstrap_timeout_ms,
        max_poll_records=max_batch,
        selector=PlainSelector,
        max_poll_interval_ms=60_000,
        retry_backoff_ms=20,
        fetch_max_wait_ms=500,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    _check_consumer(consumer)
    return consumer


def _check_consumer(consumer: KafkaConsumer) -> None:
    parts = ("_coordinator.fetch_committed_offsets", "_fetcher.fetch_records")
    missing = [name for name in parts if _part(consumer, name) is None]
    if missing:
        close_consumer(consumer)
        raise _client_lacks(missing)
    found = {name: consumer.config[name] for name in ("isolation_level", "enable_auto_commit", "value_deserializer")}
    if found != {"isolation_level": "read_committed", "enable_auto_commit": False, "value_deserializer": None}:
        close_consumer(consumer)
        raise UnableToUseClient(f"a consumer must read what is committed and commit nothing by itself, found {found}")


def fetch_more(consumer: KafkaConsumer, *, max_records: int, timeout_ms: int) -> Mapping[TopicPartition, Sequence[Any]]:
    """Return records that are fetched or come within a short time, without taking part in the group.

    A short poll of the client's own would: one that returns amid a rebalance leaves the member without partitions for
    ever (H7).

    Raises:
        KafkaError: a position is gone, or the brokers refuse.
    """
    records: Mapping[TopicPartition, Sequence[Any]]
    records, _ = consumer._fetcher.fetch_records(max_records, timeout_ms=timeout_ms)
    return records


def ask_committed(
    consumer: KafkaConsumer, partitions: Iterable[TopicPartition], *, timeout_ms: int
) -> dict[TopicPartition, int]:
    """Ask, in one request, for what the group has committed; partitions without are left out.

    The client's own call takes one partition, so that each unreadable one would have its own wait.

    Raises:
        KafkaTimeoutError: the brokers do not answer, or a transaction that stays open hides a position.
        KafkaError: they refuse.
    """
    wanted = sorted(partitions)
    try:
        found = consumer._coordinator.fetch_committed_offsets(wanted, timeout_ms=timeout_ms)
    except KafkaTimeoutError as error:
        log("miss committed positions", level="error", places=len(wanted), waited_ms=timeout_ms)
        raise KafkaTimeoutError(f"committed positions stayed unreadable for {timeout_ms} ms") from error
    return {place: int(at.offset) for place, at in found.items()}


def open_reader(connection: Connection, *, isolation_level: str, timing: Timing) -> KafkaConsumer:
    """Open a consumer outside any group, to look at topics.

    Raises:
        ConnectionError, AccessRefused: as `check_reachable`.
        KafkaError: the brokers refuse.
    """
    check_reachable(connection, timing=timing)
    return KafkaConsumer(
        **connection.options,
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        bootstrap_timeout_ms=timing.bootstrap_timeout_ms,
        request_timeout_ms=timing.request_timeout_ms,
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=4 * MAX_RECORD_BYTES,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )


def open_admin(connection: Connection, *, timing: Timing) -> KafkaAdminClient:
    """Open a client that lists and creates topics.

    Raises:
        ConnectionError, AccessRefused: as `check_reachable`.
        KafkaError: they refuse.
    """
    check_reachable(connection, timing=timing)
    return KafkaAdminClient(
        **connection.options,
        bootstrap_timeout_ms=timing.bootstrap_timeout_ms,
        # The client's own 30 s would keep who asks a broker that hangs waiting for each answer.
        request_timeout_ms=timing.admin_timeout_ms,
    )


def close_producer(producer: KafkaProducer) -> None:
    """Let go of a producer at once, so that nothing it still holds is ever sent.

    Closing alone is not enough: it raises before it stops the sender when batches hang, and the abandoned sender would
    commit by itself once the fault has passed (H15).
    """
    try:
        producer.close(timeout=0)
    except KafkaError as error:
        log("force producer closed", level="warning", reason=str(error))
    sender: Any = producer._sender
    if sender.is_alive():
        sender.force_close()
        sender.wakeup()
        if sender is not threading.current_thread():
            sender.join(timeout=2.0)
    try:
        producer.close(timeout=0)
    except KafkaError:
        producer._closed = True


def close_consumer(consumer: KafkaConsumer, *, timeout_ms: int = 2_000) -> None:
    """Leave the group, so that others need not wait for the session to time out, and let go of the consumer."""
    try:
        consumer.close(autocommit=False, timeout_ms=timeout_ms)
    except KafkaError as error:
        log("abandon consumer", level="warning", reason=str(error))


def identity_of(producer: KafkaProducer) -> Identity:
    """Return the producer's id and epoch, and how many answers it has lost.

    A change within a transaction means that it is no longer the same (H2), or that a request of it has been sent again,
    whose first copy may reach the broker in the midst of the next transaction; only a new epoch keeps it out.
    """
    found = producer._transaction_manager.producer_id_and_epoch
    return found.producer_id, found.epoch, len(producer._sender._client.lost)


def _watch_answers(producer: KafkaProducer) -> None:
    """Keep what the client hides: it sends a request again when its connection is lost."""
    client = producer._sender._client
    send, client.lost = client.send, []

    def send_watched(*arguments: Any, **more: Any) -> Any:
        future = send(*arguments, **more)
        future.add_errback(client.lost.append)
        return future

    client.send = send_watched


def ask_offsets(
    ask: Callable[[list[TopicPartition]], Mapping[Any, int]], partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Ask a client for one offset of each partition (`beginning_offsets`, `end_offsets`).

    Raises:
        LeaderNotAvailableError: a partition has no leader now; the client itself raises KeyError then.
        KafkaError: the brokers do not answer.
    """
    wanted = list(partitions)
    if not wanted:
        return {}
    try:
        found = ask(wanted)
        return {partition: int(found[partition]) for partition in wanted}
    except KeyError as error:
        raise LeaderNotAvailableError(f"no leader is known for {error}") from error
