"""Quix Streams with its processing guarantee `exactly-once`: one checkpoint, one transaction.

A StreamingDataFrame hands its functions one message at a time; a buffer of one's own around them would commit positions
of requests that are not answered yet. So the graph runs once per request here. The framework ends on SIGTERM by itself.
"""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from quixstreams import Application
from quixstreams.models.serializers import Deserializer, Serializer

from bench.peers.serving.answering import Answer, Answering, Request
from bench.peers.serving.words import BACKOFF_MS, TRANSACTION_TIMEOUT_MS, Words, read_words


class Decode(Deserializer):  # type: ignore[misc]  # the framework is installed in its own environment alone
    """Read a request."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(Request).decode

    def __call__(self, value: bytes, ctx: Any) -> Request:
        return self._decode(value)


class Encode(Serializer):  # type: ignore[misc]
    """Write an answer."""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, value: Answer, ctx: Any) -> bytes:
        return self._encode(value)


def application(words: Words, *, state: Path) -> Any:
    """Make the application, and the stream from requests to decisions; it keeps nothing in its folder of state."""
    app = Application(
        words.brokers,
        consumer_group=words.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=words.commit_interval_s,
        producer_extra_config={
            "retry.backoff.ms": BACKOFF_MS,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        },
        state_dir=state,
        loglevel="WARNING",
    )
    answering = Answering(words.model)
    frame = app.dataframe(app.topic(words.requests, value_deserializer=Decode()))
    frame = frame.apply(lambda request: answering.decide((request,))[0])
    frame.to_topic(app.topic(words.decisions, value_serializer=Encode()), key=lambda answer: answer.request_id.encode())
    return app


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        application(read_words(), state=Path(folder)).run()
