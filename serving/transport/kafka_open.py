"""From the settings of `penstock serve` to a Kafka transport: names, topics, connection."""

import socket
from collections.abc import Sequence

from kafka.errors import KafkaError

from policies.errors import Unable
from serving.settings import ServeSettings
from serving.transport.kafka import KafkaTransport, UnableToReachBrokers
from serving.transport.kafka_clients import Timing, connection_of
from serving.transport.kafka_life import BeginLife, WorkerSettings
from serving.transport.kafka_member import Member
from serving.transport.kafka_topics import prepare_topics


class ClientMissing(Unable):
    """The client library that a setting asks for is not installed."""


def open_kafka_transport(settings: ServeSettings, *, loop: str, domains: Sequence[str]) -> KafkaTransport:
    """Join the group of a loop, after its topics were found or made.

    Args:
        settings: of the process; `follow` off ends the input where it ends now.
        loop: `decide`, whose group is the one of the settings, or `join`, whose group has `-join` after it.
        domains: whose topics are read and written.

    Raises:
        ClientMissing: the client library that was asked for is not installed.
        TopicsMissing: topics are missing and may not be made.
        UnableToReachBrokers: the brokers do not answer, or refuse.
    """
    begin_life = life_by(settings.kafka_client)
    worker = worker_settings(settings, loop=loop, domains=domains)
    try:
        partitions = prepare_topics(
            worker.connection,
            prefix=settings.prefix,
            domains=worker.domains,
            loop=loop,
            partition_count=settings.topic_partitions if settings.create_topics else None,
            timing=worker.timing,
        )
    except (KafkaError, OSError) as error:
        raise UnableToReachBrokers(f"the brokers {', '.join(settings.brokers)} do not answer: {error}") from error
    return KafkaTransport(worker, partitions=partitions, begin_life=begin_life)


def life_by(client: str) -> BeginLife:
    """Return how a life begins by a client library, `python` or `librdkafka`; the latter is an extra.

    Raises:
        ClientMissing: it is not installed.
    """
    if client == "python":
        return Member
    try:
        from serving.transport.librdkafka import LibrdkafkaLife
    except ModuleNotFoundError as error:
        if error.name != "confluent_kafka":
            raise
        raise ClientMissing(
            "kafka_client librdkafka needs the package confluent-kafka, which is not installed; install it with "
            "pip install 'penstock[librdkafka]', or set kafka_client to python"
        ) from error
    return LibrdkafkaLife


def worker_settings(settings: ServeSettings, *, loop: str, domains: Sequence[str]) -> WorkerSettings:
    """Return the names that one loop of this worker goes by.

    The instance is the host's name unless it is set: it must be stable over restarts, for it fences the former self.
    With a transaction per partition each partition has a transactional id, and the instance is in none.
    """
    group = settings.group if loop == "decide" else f"{settings.group}-{loop}"
    transactional_id = f"{group}-{settings.instance or socket.gethostname()}"
    return WorkerSettings(
        connection=connection_of(settings, client_id=transactional_id),
        prefix=settings.prefix,
        domains=tuple(domains),
        loop=loop,
        group=group,
        transactional_id=transactional_id,
        max_batch=settings.max_batch,
        is_finite=not settings.follow,
        is_per_partition=settings.transaction_per_partition,
        timing=Timing(),
    )
