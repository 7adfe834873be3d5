"""Answers that say an error, made for a request with the protocol classes of the client."""

import struct
from collections.abc import Callable
from typing import Any, Final

from kafka.protocol import consumer, metadata, producer

_MESSAGES: Final[dict[str, Any]] = {
    name: getattr(module, name)
    for module in (consumer, metadata, producer)
    for name in dir(module)
    if name.endswith(("Request", "Response"))
}

API_NAMES: Final[dict[int, str]] = {
    message.API_KEY: name.removesuffix("Request") for name, message in _MESSAGES.items() if name.endswith("Request")
}
"""The names of the apis that clients of a topic and a group use, by key."""


def error_answer(frame: bytes, error: int) -> bytes:
    """Return the frame of a response that gives an error to all that a request asks for.

    Raises:
        KeyError: the api has no such answer here.
    """
    key, version = struct.unpack_from(">hh", frame)
    name = API_NAMES[key]
    request = _MESSAGES[f"{name}Request"].decode(frame, version=version, header=True)
    kind = _MESSAGES[f"{name}Response"]
    response = kind(version=version, **_BODIES.get(name, _plain)(kind, request, error))
    response.with_header(correlation_id=request.header.correlation_id)
    return bytes(response.encode(header=True))


def _plain(kind: Any, request: Any, error: int) -> dict[str, Any]:
    return {"error_code": error}


def _produced(kind: Any, request: Any, error: int) -> dict[str, Any]:
    topic_kind = kind.TopicProduceResponse
    return {
        "responses": [
            topic_kind(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    topic_kind.PartitionProduceResponse(index=row.index, error_code=error, base_offset=-1)
                    for row in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    }


def _positions(kind: Any, request: Any, error: int) -> dict[str, Any]:
    topic_kind = kind.TxnOffsetCommitResponseTopic
    row_kind = topic_kind.TxnOffsetCommitResponsePartition
    return {
        "topics": [
            topic_kind(
                name=topic.name,
                partitions=[
                    row_kind(partition_index=row.partition_index, error_code=error) for row in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    }


def _partitions(kind: Any, request: Any, error: int) -> dict[str, Any]:
    topic_kind = kind.AddPartitionsToTxnTopicResult
    row_kind = topic_kind.AddPartitionsToTxnPartitionResult
    return {
        "results_by_topic_v3_and_below": [
            topic_kind(
                name=topic.name,
                results_by_partition=[
                    row_kind(partition_index=number, partition_error_code=error) for number in topic.partitions
                ],
            )
            for topic in request.v3_and_below_topics
        ]
    }


_BODIES: Final[dict[str, Callable[[Any, Any, int], dict[str, Any]]]] = {
    "Produce": _produced,
    "TxnOffsetCommit": _positions,
    "AddPartitionsToTxn": _partitions,
}
"""Of the apis whose errors are given row by row; all others have one error code."""
