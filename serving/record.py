"""Third verb: rulings and faults become results, as the bytes that users read.

A decision echoes its request verbatim; a dead letter keeps the original bytes. A result too large for a broker is a
dead letter `oversize` whose original is cut, with its digest and length in the detail.
"""

from hashlib import sha256

import msgspec

from policies.events import (
    MAX_ORIGINAL_BYTES,
    MAX_RESULT_BYTES,
    DeadLetter,
    Decision,
    Fault,
    compact,
    to_bytes,
)
from policies.onnx_policy import platform_digest
from serving.catalogue import Seat
from serving.contract import Message, Result
from serving.decide import Ruled, Ruling
from serving.receive import Received

Headers = tuple[tuple[str, bytes], ...]


def record(received: Received, ruled: Ruled, *, catalogue: str, now: int) -> list[Result]:
    """Write exactly one answer for each message, in order, and the shadows' decisions after them.

    Args:
        received: the batch.
        ruled: what its requests came to.
        catalogue: the identity of the catalogue that decided.
        now: microseconds, the time that records carry.
    """
    answers: dict[int, Result] = {}
    for place, seat, ruling, request in zip(
        received.places, ruled.seats, ruled.rulings, received.requests, strict=True
    ):
        message = received.messages[place]
        if isinstance(ruling, Fault):
            answers[place] = dead_letter(message, ruling, request_id=request.request_id, now=now)
        else:
            answers[place] = _decision(message, request.request_id, seat, ruling, catalogue, now)
    for place, (fault, request_id) in received.faults.items():
        answers[place] = dead_letter(received.messages[place], fault, request_id=request_id, now=now)
    return [answers[place] for place in sorted(answers)] + _shadows(received, ruled, catalogue, now)


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


def _decision(message: Message, request_id: str, seat: Seat, ruling: Ruling, catalogue: str, now: int) -> Result:
    value = _write(message, seat, ruling, catalogue, now)
    if len(value) > MAX_RESULT_BYTES:
        fault = Fault("oversize", f"the decision has {len(value)} bytes, at most {MAX_RESULT_BYTES} fit")
        return dead_letter(message, fault, request_id=request_id, now=now)
    return Result(
        kind="decision", value=value, key=request_id.encode(), source=message.source, headers=message.headers
    )


def _write(message: Message, seat: Seat, ruling: Ruling, catalogue: str, now: int) -> bytes:
    return to_bytes(
        Decision(
            request=msgspec.Raw(compact(message.value)),
            policy=seat.policy,
            catalogue=catalogue,
            platform=platform_digest(),
            role=seat.role,
            choices=ruling.choices,
            recourse=ruling.recourse,
            fallback=ruling.fallback,
            source=message.source,
            time=now,
        )
    )


def _shadows(received: Received, ruled: Ruled, catalogue: str, now: int) -> list[Result]:
    results = []
    for row, seat, ruling in ruled.shadows:
        message = received.messages[received.places[row]]
        key = received.requests[row].request_id.encode()
        value = _write(message, seat, ruling, catalogue, now)
        if len(value) <= MAX_RESULT_BYTES:
            results.append(
                Result(kind="shadow", value=value, key=key, source=message.source, headers=message.headers)
            )
    return results
