"""First verb: bytes become requests, or faults with a reason; nothing is dropped.

The version is read before the content, the size before the version. What a request's fields hold is checked later, by
the encoder, against the spec of its domain.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from policies.events import MAX_REQUEST_BYTES, DecisionRequest, Fault, UnableToDecode, read_request, shorten
from serving.contract import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Hold a batch of messages, the requests among them, and why the others are none.

    `requests[i]` was read from `messages[places[i]]`; `faults` has by place the fault and the request's id, if legible.
    """

    messages: Sequence[Message]
    requests: list[DecisionRequest]
    places: list[int]
    faults: dict[int, tuple[Fault, str | None]]


def receive(messages: Sequence[Message], *, known_domains: Collection[str]) -> Received:
    """Decode messages into requests; each message ends among the requests or among the faults."""
    requests_of_all = _read_all(messages, known_domains)
    if requests_of_all is not None:
        return Received(messages=messages, requests=requests_of_all, places=list(range(len(messages))), faults={})
    requests: list[DecisionRequest] = []
    places: list[int] = []
    faults: dict[int, tuple[Fault, str | None]] = {}
    for place, message in enumerate(messages):
        try:
            request = _read(message.value, known_domains)
        except UnableToDecode as error:
            faults[place] = (error.fault, error.request_id)
        else:
            requests.append(request)
            places.append(place)
    return Received(messages=messages, requests=requests, places=places, faults=faults)


def _read_all(messages: Sequence[Message], known_domains: Collection[str]) -> list[DecisionRequest] | None:
    """Return the requests where every message is one; None where some message needs a closer look."""
    values = [message.value for message in messages]
    if max(map(len, values), default=0) > MAX_REQUEST_BYTES:
        return None
    try:
        requests = list(map(read_request, values))
    except UnableToDecode:
        return None
    return requests if {request.domain for request in requests} <= set(known_domains) else None


def _read(value: bytes, known_domains: Collection[str]) -> DecisionRequest:
    if len(value) > MAX_REQUEST_BYTES:
        fault = Fault("oversize", f"a request has at most {MAX_REQUEST_BYTES} bytes, found {len(value)}")
        raise UnableToDecode(fault)
    request = read_request(value)
    if request.domain not in known_domains:
        served = ", ".join(sorted(known_domains))
        fault = Fault("unknown_domain", f"domain {shorten(request.domain)} is not in the catalogue; it has {served}")
        raise UnableToDecode(fault, request_id=request.request_id)
    return request
