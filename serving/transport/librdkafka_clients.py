"""librdkafka's clients: their options, how they are opened and let go of, and what they say besides answers.

librdkafka retries by itself. A request whose connection is lost is sent again, and its first copy may reach the broker
in the midst of the next transaction (H18), whose epoch is the same. The library has no call that tells of it, and of a
connection that the other side closes not even its callback of errors does; its log does. So `Heard` keeps what either
says, and a life ends with the first connection that was lost.
"""

import logging
import struct
import time
import warnings
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from serving.log import log
from serving.transport.kafka_clients import MAX_RECORD_BYTES, Connection, Timing, check_reachable
from serving.transport.kafka_life import LifeOver, Refused, TransactionFailed

PREFETCHED_KIBIBYTES: Final = 16 * 1024
"""Requests that the consumer holds in advance at most; its own default of 64 MiB is too much for a small container."""

_NAMES: Final = {
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanisms",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
}
"""What kafka-python's options of security are called here."""

_LOSSES: Final = ("FAIL", "REQTMOUT")
"""Of what kind lines of the log are that tell of a connection or a request that is lost."""

_BEFORE_ANY_REQUEST: Final = ("in state CONNECT)", "in state TRY_CONNECT)", "in state SSL_HANDSHAKE)")
"""How the text of an error ends when its connection had not yet carried a request."""


_REFUSALS: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)

_CLIENT_ERRORS: Final = (KafkaException, RuntimeError, SystemError)
"""What closing raises; SystemError is how a fatal error that meets no callback shows."""


class Membership(NamedTuple):
    """What a worker was in its group when a batch was polled: it may commit only as long as it still is.

    `metadata` is the client's own, as it goes to the broker; `changes` counts how often partitions changed hands.
    """

    metadata: bytes
    generation: int
    member: str
    changes: int

    @property
    def is_stable(self) -> bool:
        """Say whether the broker can fence by it: a transaction of no member passes every check (H4)."""
        return self.generation >= 0 and bool(self.member)


def read_metadata(metadata: bytes) -> tuple[int, str]:
    r"""Return the generation and the member's id of a group's metadata; -1 and "" are those of no member.

    >>> read_metadata(b"CGMDv2:\x07\x00\x00\x00group\x00member-1\x00\x01")
    (7, 'member-1')

    Raises:
        LifeOver: the client writes it in another form, which the guard cannot read.
    """
    head, rest = metadata[:7], metadata[11:]
    parts = rest.split(b"\0")
    if head != b"CGMDv2:" or len(parts) < 2:
        raise LifeOver(f"expected metadata of a group in the form CGMDv2, found {head!r}")
    (generation,) = struct.unpack_from("=i", metadata, 7)
    return generation, parts[1].decode()


@final
class Heard:
    """Keep what a client tells of connections and permissions while it is polled."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.refused: list[str] = []

    def error(self, error: KafkaError) -> None:
        """Take one error that belongs to no call."""
        if error.code() in _REFUSALS:
            self.refused.append(describe(error))
        elif error.code() != KafkaError._ALL_BROKERS_DOWN:  # which the connections say one by one
            self._note(describe(error))

    def log(self, level: int, text: str, *words: Any) -> None:
        """Pass on a line of the library's own log, as `logging.Logger.log` takes it: topic, client and text."""
        line = text % words
        log("hear client", level="warning" if level >= logging.ERROR else "debug", text=line)
        if words and words[0] in _LOSSES:
            self._note(line)

    def _note(self, text: str) -> None:
        """Keep what may be a lost request; a connection that was never made has lost none."""
        if not text.endswith(_BEFORE_ANY_REQUEST):
            self.lost.append(text)

    def check(self) -> None:
        """Raise when the brokers refuse this worker.

        Raises:
            Refused: they do.
        """
        if self.refused:
            raise Refused(self.refused[0])

    def check_lost(self, producer: Producer) -> None:
        """Raise when a connection of the producer is lost: a request may arrive twice, once much later.

        Raises:
            Refused: the brokers refuse this worker.
            TransactionFailed: a connection is lost.
        """
        producer.poll(0)
        self.check()
        if self.lost:
            raise TransactionFailed(f"an answer may be lost: {self.lost[0]}")


def options_of(connection: Connection) -> dict[str, Any]:
    """Return the options of a connection as librdkafka names them.

    >>> connection = Connection(brokers=("b:1", "c:2"), client_id="a", security={"ssl_check_hostname": False})
    >>> options_of(connection)["bootstrap.servers"], options_of(connection)["ssl.endpoint.identification.algorithm"]
    ('b:1,c:2', 'none')
    """
    options: dict[str, Any] = {"bootstrap.servers": ",".join(connection.brokers), "client.id": connection.client_id}
    for name, value in connection.security.items():
        if name == "ssl_check_hostname":
            options["ssl.endpoint.identification.algorithm"] = "https" if value else "none"
        else:
            options[_NAMES[name]] = value
    return options


def producer_options(connection: Connection, *, transactional_id: str, timing: Timing) -> dict[str, Any]:
    """Return the options of a transactional producer."""
    return {
        **options_of(connection),
        # The library refuses to wait for longer than a transaction may last.
        **_shared(timing, timeout_ms=min(timing.request_timeout_ms, timing.transaction_timeout_ms - 100)),
        "transactional.id": transactional_id,
        "transaction.timeout.ms": timing.transaction_timeout_ms,
        "message.timeout.ms": min(timing.delivery_timeout_ms, timing.transaction_timeout_ms),
        "request.timeout.ms": timing.request_timeout_ms,
        # A transaction is flushed as soon as it is complete, which overrides the linger: one request per partition.
        "linger.ms": 1_000,
        "batch.size": MAX_RECORD_BYTES,
        "message.max.bytes": MAX_RECORD_BYTES,
        "queue.buffering.max.messages": 0,  # a transaction is bounded by the batch that it answers
        "delivery.report.only.error": True,
    }


def consumer_options(connection: Connection, *, group: str, timing: Timing, assignor: str) -> dict[str, Any]:
    """Return the options of a consumer that reads what is committed and commits nothing by itself."""
    return {
        **options_of(connection),
        # A fetch waits for half a second at the broker, and the library wants a second on top of that.
        **_shared(timing, timeout_ms=max(timing.request_timeout_ms, 2_000)),
        "group.id": group,
        # Without read_committed a successor may read offsets that a stopped member has sent but not committed (H16).
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "partition.assignment.strategy": assignor,
        "session.timeout.ms": timing.session_timeout_ms,
        "heartbeat.interval.ms": timing.heartbeat_ms,
        "max.poll.interval.ms": 60_000,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 500,
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": PREFETCHED_KIBIBYTES,
        "allow.auto.create.topics": False,
    }


def open_producer(connection: Connection, *, transactional_id: str, timing: Timing, heard: Heard) -> Producer:
    """Open a transactional producer; what its namesakes left open is aborted, and they are fenced.

    Raises:
        LifeOver: the brokers cannot be reached, or refuse.
    """
    check_reachable(connection, timing=timing)
    options = producer_options(connection, transactional_id=transactional_id, timing=timing)
    producer = Producer({**options, "error_cb": heard.error}, logger=heard)
    try:
        _begin(producer, give_up=time.monotonic() + timing.max_block_ms / 1000, heard=heard)
        # The library keeps a second line of the same words to itself for half a minute: a first one spoils the life.
        heard.check_lost(producer)
    except BaseException:
        close_producer(producer)
        raise
    return producer


def open_consumer(connection: Connection, *, group: str, timing: Timing, assignor: str, heard: Heard) -> Consumer:
    """Open a consumer; it is not yet subscribed to anything."""
    options = consumer_options(connection, group=group, timing=timing, assignor=assignor)
    return Consumer({**options, "error_cb": heard.error}, logger=heard)


def close_producer(producer: Producer) -> None:
    """Let go of a producer at once, so that nothing it still holds is ever sent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # closing tries to abort, and warns when it cannot
        try:
            producer.purge(in_queue=True, in_flight=True, blocking=False)
            producer.close(0)
        except _CLIENT_ERRORS as error:
            log("abandon producer", level="warning", reason=str(error))


def close_consumer(consumer: Consumer) -> None:
    """Leave the group, so that others need not wait for the session to time out, and let go of the consumer."""
    try:
        consumer.close()
    except _CLIENT_ERRORS as error:
        log("abandon consumer", level="warning", reason=str(error))


def describe(error: KafkaError | KafkaException) -> str:
    """Return the name of an error and what the library says of it."""
    found = error.args[0] if isinstance(error, KafkaException) else error
    return f"{found.name()}: {found.str()}"


def is_refusal(error: KafkaError) -> bool:
    """Say whether brokers refuse this worker, so that trying again is of no use."""
    return error.code() in _REFUSALS


def _begin(producer: Producer, *, give_up: float, heard: Heard) -> None:
    """Have the broker end what the last life left open, looking now and then whether it refuses."""
    while True:
        try:
            producer.init_transactions(1.0)
        except KafkaException as error:
            producer.poll(0)
            heard.check()
            if is_refusal(error.args[0]):
                raise Refused(describe(error)) from error
            if not error.args[0].retriable() or time.monotonic() > give_up:
                raise LifeOver(describe(error)) from error
        else:
            return


def _shared(timing: Timing, *, timeout_ms: int) -> Mapping[str, Any]:
    return {
        "socket.timeout.ms": timeout_ms,
        "socket.nagle.disable": True,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        # Each transaction starts with an answer to try again shortly; the default of 100 ms would be its cost (H12).
        "retry.backoff.ms": timing.retry_backoff_ms,
        "retry.backoff.max.ms": 20 * timing.retry_backoff_ms,
        "topic.metadata.refresh.interval.ms": 60_000,
    }
