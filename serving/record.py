"""Third verb: rulings and faults become results, as the bytes that users read.

A decision echoes its request verbatim; a dead letter keeps the original bytes. A result too large for a broker is a
dead letter `oversize` whose original is cut, with its digest and length in the detail.

Decisions are the hot path: what all decisions of a seat share is encoded once per batch, and each one is joined from
the pieces. The bytes are those of `to_bytes(Decision(...))`; a test holds the two equal.
"""

from collections.abc import Callable
from hashlib import sha256

import msgspec

from policies.events import (
    MAX_ORIGINAL_BYTES,
    MAX_RESULT_BYTES,
    SCHEMA_VERSION,
    AppliedRecourse,
    DeadLetter,
    FallbackReason,
    Fault,
    compact,
    to_bytes,
)
from policies.onnx_policy import platform_digest
from serving.catalogue import Seat
from serving.contract import Message, Result
from serving.decide import Ruled
from serving.receive import Received
from serving.ruling import Ruling


def record(received: Received, ruled: Ruled, *, catalogue: str, now: int) -> list[Result]:
    """Write exactly one answer for each message, in order, and the shadows' decisions after them.

    Args:
        received: the batch.
        ruled: what its requests came to.
        catalogue: the identity of the catalogue that decided.
        now: microseconds, the time that records carry.
    """
    messages = received.messages
    write = _Writer(catalogue=catalogue, now=now).write
    answers: list[Result | None] = [None] * len(messages)
    for place, seat, ruling, request in zip(
        received.places, ruled.seats, ruled.rulings, received.requests, strict=True
    ):
        message, request_id = messages[place], request.request_id
        if isinstance(ruling, Fault):
            answers[place] = dead_letter(message, ruling, request_id=request_id, now=now)
            continue
        value = write(message, seat, ruling)
        if len(value) > MAX_RESULT_BYTES:
            answers[place] = _too_large(message, len(value), request_id, now)
            continue
        answers[place] = Result("decision", value, request_id.encode(), message.source, message.headers)
    for place, (fault, found_id) in received.faults.items():
        answers[place] = dead_letter(messages[place], fault, request_id=found_id, now=now)
    return [answer for answer in answers if answer is not None] + _shadows(received, ruled, write)


def dead_letter(message: Message, fault: Fault, *, request_id: str | None, now: int) -> Result:
    """Write one message off with its reason; its bytes are kept, cut only where the letter would grow too large."""
    original, detail = message.value, fault.detail
    if len(original) * 4 // 3 + len(detail) + 4096 > MAX_RESULT_BYTES or fault.reason == "oversize":
        detail = f"{detail}; original of {len(original)} bytes, SHA-256 {sha256(original).hexdigest()}"
        original = original[:MAX_ORIGINAL_BYTES]
    letter = DeadLetter(
        reason=fault.reason, detail=detail, request_id=request_id, source=message.source, original=original, time=now
    )
    key = message.key if request_id is None else request_id.encode()
    return Result(
        kind="dead_letter", value=to_bytes(letter), key=key or b"", source=message.source, headers=message.headers
    )


class _Writer:
    """Writes decisions of one batch from pieces that are encoded once."""

    def __init__(self, *, catalogue: str, now: int) -> None:
        self._catalogue = catalogue
        self._end = b'},"time":%d}' % now
        self._middles: dict[int, bytes] = {}
        self._sources: dict[tuple[str, int], bytes] = {}

    def write(self, message: Message, seat: Seat, ruling: Ruling) -> bytes:
        """Return one decision as a line of JSON."""
        middle = self._middles.get(id(seat))
        if middle is None:
            middle = self._middles[id(seat)] = self._middle(seat)
        is_plain = ruling.recourse is None and ruling.fallback is None
        tail = _PLAIN if is_plain else _tail(ruling.recourse, ruling.fallback)
        source = message.source
        place = source.topic, source.partition
        begun = self._sources.get(place)
        if begun is None:
            begun = self._sources[place] = _encode(source).rpartition(b":")[0] + b":"
        request, choices = compact(message.value), _encode(ruling.choices)
        return b"".join((_HEAD, request, middle, choices, tail, begun, b"%d" % source.offset, self._end))

    def _middle(self, seat: Seat) -> bytes:
        said = {
            "policy": seat.policy,
            "catalogue": self._catalogue,
            "platform": platform_digest(),
            "role": seat.role,
        }
        return b"," + _encode(said)[1:-1] + b',"choices":'


def _tail(recourse: AppliedRecourse | None, fallback: FallbackReason | None) -> bytes:
    return b',"recourse":' + _encode(recourse) + b',"fallback":' + _encode(fallback) + b',"source":'


_encode = msgspec.json.Encoder().encode
_HEAD = b'{"schema_version":%d,"request":' % SCHEMA_VERSION
_PLAIN = _tail(None, None)


def _too_large(message: Message, size: int, request_id: str, now: int) -> Result:
    fault = Fault("oversize", f"the decision has {size} bytes, at most {MAX_RESULT_BYTES} fit")
    return dead_letter(message, fault, request_id=request_id, now=now)


def _shadows(received: Received, ruled: Ruled, write: Callable[[Message, Seat, Ruling], bytes]) -> list[Result]:
    """Write the shadows' decisions; one that is too large is left out, for it answers nobody."""
    results = []
    for row, seat, ruling in ruled.shadows:
        message = received.messages[received.places[row]]
        value = write(message, seat, ruling)
        if len(value) <= MAX_RESULT_BYTES:
            key = received.requests[row].request_id.encode()
            results.append(Result("shadow", value, key, message.source, message.headers))
    return results
