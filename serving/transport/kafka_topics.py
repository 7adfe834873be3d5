"""Topics of a worker: their names, whether they exist, and which partition a result goes to."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from kafka.errors import AuthorizationError, KafkaError, TopicAlreadyExistsError, TopicAuthorizationFailedError
from numpy.typing import NDArray

from policies.errors import UsageProblem
from serving.contract import Kind
from serving.transport.kafka_clients import Connection, Timing, open_admin
from serving.transport.kafka_life import Refused
from serving.transport.kafka_rights import missing

INPUTS_OF: Final[Mapping[str, tuple[str, ...]]] = {"decide": ("requests",), "join": ("decisions", "outcomes")}

OUTPUTS_OF: Final[Mapping[str, Mapping[Kind, str]]] = {
    "decide": {"decision": "decisions", "shadow": "shadow", "dead_letter": "dead-letters"},
    "join": {"feedback": "feedback", "estimate": "estimates", "dead_letter": "dead-letters"},
}
"""For each loop, the last part of the topic's name for each kind of result."""


class TopicsMissing(UsageProblem):
    """A topic does not exist, or topics that are read together have different numbers of partitions."""


def topic_name(prefix: str, domain: str, last: str) -> str:
    """Return the name of a topic.

    >>> topic_name("penstock", "demo", "requests")
    'penstock.demo.requests'
    """
    return f"{prefix}.{domain}.{last}"


def split_topic(topic: str) -> tuple[str, str]:
    """Return a topic's name without its last part, and that part.

    >>> split_topic("penstock.demo.requests")
    ('penstock.demo', 'requests')
    """
    stem, _, last = topic.rpartition(".")
    return stem, last


def prepare_topics(
    connection: Connection,
    *,
    prefix: str,
    domains: Sequence[str],
    loop: str,
    partition_count: int | None,
    timing: Timing,
) -> dict[str, int]:
    """Return the partitions of every topic that a loop reads or writes.

    Args:
        connection: how brokers are reached.
        prefix: the first part of the names.
        domains: the second.
        loop: `decide` or `join`.
        partition_count: of topics that are created because they are missing; None creates none. A domain that has
            some topics gets the missing ones with the partitions of its first input.
        timing: of the client.

    Raises:
        TopicsMissing: one is missing and may not be created, or the inputs of a join differ in partitions.
        Refused: this user may not see one, or not create it.
        KafkaError: the brokers cannot be reached, or refuse.
    """
    admin = open_admin(connection, timing=timing)
    try:
        found: dict[str, int] = {}
        for domain in domains:
            found |= _prepare_domain(admin, prefix, domain, loop, partition_count)
        return found
    finally:
        admin.close()


def _prepare_domain(admin: Any, prefix: str, domain: str, loop: str, partition_count: int | None) -> dict[str, int]:
    last_parts = dict.fromkeys([*INPUTS_OF[loop], *OUTPUTS_OF[loop].values()])
    wanted = [topic_name(prefix, domain, last) for last in last_parts]
    found = _partitions(admin, wanted)
    missing = [name for name in wanted if name not in found]
    if missing and partition_count is None:
        raise TopicsMissing(
            f"expected the topics {', '.join(wanted)}, missing {', '.join(missing)}; create them, or let this worker "
            "do it with --create-topics"
        )
    if missing:
        _create(admin, missing, found.get(wanted[0], partition_count or 1))
        found = _partitions(admin, wanted)
    inputs = {name: found[name] for name in wanted[: len(INPUTS_OF[loop])]}
    if len(set(inputs.values())) > 1:
        raise TopicsMissing(f"topics that are joined must have the same number of partitions, found {inputs}")
    return found


def _partitions(admin: Any, names: Sequence[str]) -> dict[str, int]:
    described = admin.describe_topics(list(names))  # a topic that this user may not see is named only when asked for
    hidden = [topic["name"] for topic in described if topic["error_code"] == TopicAuthorizationFailedError.errno]
    if hidden:
        raise Refused(missing("Describe", "topic", hidden))
    return {topic["name"]: len(topic["partitions"]) for topic in described if topic["partitions"]}


def _create(admin: Any, names: Sequence[str], partition_count: int) -> None:
    """Create topics; workers that start together may each try."""
    for name in names:
        try:
            admin.create_topics({name: {"num_partitions": partition_count}}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            continue
        except AuthorizationError as error:
            raise Refused(missing("Create", "topic", [name])) from error
        except KafkaError as error:
            raise TopicsMissing(f"the topic {name} could not be created: {error}") from error


def choose_partitions(keys: Sequence[bytes], *, partition_count: int) -> list[int]:
    """Return the partition that Kafka's default partitioner gives each key: its murmur2 hash by the partitions.

    Keys of one length are hashed together; ids mostly have one.

    Source: org.apache.kafka.common.utils.Utils.murmur2 and BuiltInPartitioner.partitionForKey, Apache Kafka 4.3.

    >>> choose_partitions([b"21", b"foobar"], partition_count=4)
    [0, 2]
    """
    if len(lengths := set(map(len, keys))) == 1:
        return _choose(keys, lengths.pop(), partition_count)
    rows_by_length: defaultdict[int, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows_by_length[len(key)].append(row)
    found = [0] * len(keys)
    for length, rows in rows_by_length.items():
        for row, partition in zip(rows, _choose([keys[row] for row in rows], length, partition_count), strict=True):
            found[row] = partition
    return found


def _choose(keys: Sequence[bytes], length: int, partition_count: int) -> list[int]:
    """Return the partitions of keys that all have one length."""
    positive = _murmur2(keys, length) & np.uint32(0x7FFFFFFF)
    chosen: list[int] = (positive % np.uint32(partition_count)).tolist()
    return chosen


_SEED: Final = 0x9747B28C
_M: Final = np.uint32(0x5BD1E995)
_BYTE_SHIFTS: Final = (np.uint32(0), np.uint32(8), np.uint32(16))


def _murmur2(keys: Sequence[bytes], length: int) -> NDArray[np.uint32]:
    """Hash keys of one length; arithmetic is modulo 2³²."""
    # K key, L byte of a key, W whole word of four bytes
    bytes_KL = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), length)
    whole = length // 4 * 4
    words_KW = np.ascontiguousarray(bytes_KL[:, :whole]).view("<u4")
    hash_K = np.full(len(bytes_KL), (_SEED ^ length) & 0xFFFFFFFF, dtype=np.uint32)
    for word_K in words_KW.T:
        mixed_K = word_K * _M
        mixed_K = (mixed_K ^ (mixed_K >> np.uint32(24))) * _M
        hash_K = (hash_K * _M) ^ mixed_K
    if length > whole:
        for shift, byte_K in zip(_BYTE_SHIFTS, bytes_KL[:, whole:].T, strict=False):
            hash_K ^= byte_K.astype(np.uint32) << shift
        hash_K = hash_K * _M
    hash_K = (hash_K ^ (hash_K >> np.uint32(13))) * _M
    return hash_K ^ (hash_K >> np.uint32(15))
