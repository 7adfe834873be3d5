"""The records that cross the yard: request, decision, outcome, dead letter; their bytes and their JSON Schemas.

Times are whole microseconds since 1970 in UTC; ISO-8601 is read too. A decision echoes its request's bytes verbatim,
so that decisions joined to outcomes are all that learning, replay and audit need. Every record carries a schema
version; this version and the one before it are readable.
"""

import json
import re
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from policies.errors import ContentRefused
from policies.spec import is_id

SCHEMA_VERSION = 1
OLDEST_READABLE = max(1, SCHEMA_VERSION - 1)
MAX_REQUEST_BYTES = 512 * 1024
MAX_RESULT_BYTES = 1_000_000
MAX_ORIGINAL_BYTES = 64 * 1024

Reason = Literal[
    "not_json",
    "schema_version",
    "missing_field",
    "wrong_type",
    "out_of_range",
    "not_finite",
    "unequal_columns",
    "empty_id",
    "unknown_domain",
    "no_eligible_action",
    "duplicate_conflict",
    "oversize",
    "policy_not_finite",
    "recourse_infeasible",
    "deadline",
    "kill",
]
FallbackReason = Literal["deadline", "kill", "recourse_infeasible"]
Role = Literal["live", "canary", "shadow"]
Number = float | int
Value = Any
Table = dict[str, list[Any]]
Time = int | str


class Fault(NamedTuple):
    """Say why a record was refused: a reason from the closed list, and what was found."""

    reason: Reason
    detail: str


class UnableToDecode(ContentRefused):
    """Some bytes are not the record that was expected; `fault` says why."""

    def __init__(self, fault: Fault, *, request_id: str | None = None) -> None:
        super().__init__(f"{fault.reason}: {fault.detail}")
        self.fault = fault
        self.request_id = request_id


class DecisionRequest(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Ask for a decision on one unit at one step, with the fields that the spec names."""

    schema_version: int = SCHEMA_VERSION
    request_id: str
    domain: str
    time: Time
    unit: str
    step: int = 0
    deadline: Time | None = None
    supersedes: str | None = None
    fields: dict[str, Value] = {}
    actions: Table | None = None
    slots: Table | None = None


class Source(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Name the place a record was read from."""

    topic: str
    partition: int
    offset: int


class Choice(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Record one choice: what was proposed, with which probability, and what was applied.

    `propensity` is of the proposed action; `lattice` are the probabilities of the eligible actions in canonical order,
    as whole numbers of 2⁻³². A deterministic choice has neither.
    """

    slot: str = ""
    action: str | list[float]
    applied: str | list[float] | None = None
    propensity: float | None = None
    lattice: tuple[int, ...] | None = None


class AppliedRecourse(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Record what recourse made of the proposal: its status and its named outputs."""

    kind: str
    status: str
    outputs: dict[str, float | list[float]]


class Decision(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Record a decision: the request verbatim, the choices, who decided, and where the request came from."""

    schema_version: int = SCHEMA_VERSION
    request: msgspec.Raw
    policy: str
    catalogue: str
    platform: str
    role: Role
    choices: tuple[Choice, ...]
    recourse: AppliedRecourse | None = None
    fallback: FallbackReason | None = None
    source: Source
    time: Time


class Outcome(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Record what came of a decision, by revision; a reward that is null is retracted."""

    schema_version: int = SCHEMA_VERSION
    request_id: str
    slot: str = ""
    domain: str
    revision: int = 0
    time: Time
    rewards: dict[str, float | None]
    final: bool = False


class DeadLetter(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Record a message that could not be decided: why, from where, and its original bytes (base64 in JSON)."""

    schema_version: int = SCHEMA_VERSION
    reason: Reason
    detail: str
    request_id: str | None = None
    source: Source
    original: bytes
    time: Time


Record = DecisionRequest | Decision | Outcome | DeadLetter
R = TypeVar("R", DecisionRequest, Decision, Outcome, DeadLetter)

_ENCODER = msgspec.json.Encoder()
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (DecisionRequest, Decision, Outcome, DeadLetter)
}


class _Version(msgspec.Struct, gc=False):
    schema_version: Any = SCHEMA_VERSION
    request_id: Any = None


_VERSION = msgspec.json.Decoder(_Version)


def to_bytes(record: Record) -> bytes:
    """Encode a record as one line of JSON.

    >>> outcome = Outcome(request_id="a", domain="shop", time=0, rewards={"click": 1.0})
    >>> from_bytes(to_bytes(outcome), Outcome) == outcome
    True

    Raises:
        ValueError: a float is not finite (JSON would say null, which means something else).
    """
    data = _ENCODER.encode(record)
    return data if b"\n" not in data else data.replace(b"\n", b" ")


def from_bytes(data: bytes, kind: type[R]) -> R:
    """Decode one record and check its envelope.

    The fields of a request are checked against its spec later, by the encoder.

    Raises:
        UnableToDecode: the bytes are not such a record; its fault says which law was broken.
    """
    try:
        record: R = _DECODERS[kind].decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(data, error) from error
    fault = check_envelope(record)
    if fault is not None:
        raise UnableToDecode(fault, request_id=_readable_id(getattr(record, "request_id", None)))
    return record


def check_envelope(record: Record) -> Fault | None:
    """Return what is wrong with a record's version, ids or times, or None.

    A record that a producer built in Python is checked by this too.
    """
    if not OLDEST_READABLE <= record.schema_version <= SCHEMA_VERSION:
        return _version_fault(record.schema_version)
    if isinstance(record, DecisionRequest):
        return _check_request(record)
    if isinstance(record, Outcome):
        return _check_outcome(record)
    return None


def compact(raw: bytes) -> bytes:
    """Return a JSON document without line breaks, the form in which a decision echoes its request."""
    return raw if b"\n" not in raw and b"\r" not in raw else msgspec.json.format(raw, indent=-1)


def microseconds(time: Time) -> int:
    """Return a time as whole microseconds since 1970 in UTC; ISO-8601 without an offset is UTC.

    >>> microseconds("1970-01-01T00:00:01Z")
    1000000

    Raises:
        ValueError: the text is not ISO-8601.
    """
    if isinstance(time, int):
        return time
    moment = datetime.fromisoformat(time)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the published JSON Schema of each record, made from a typed twin where `Raw` has none."""
    twins: dict[str, type] = {
        "request": DecisionRequest,
        "decision": _decision_twin(),
        "outcome": Outcome,
        "dead-letter": DeadLetter,
    }
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": ""}
    return {name: {**dialect, "title": f"Penstock {name}", **msgspec.json.schema(kind)} for name, kind in twins.items()}


def _decision_twin() -> type:
    hints = {**Decision.__annotations__, "request": DecisionRequest}
    fields = [(f.name, hints[f.name], *_default(f)) for f in msgspec.structs.fields(Decision)]
    return msgspec.defstruct("Decision", fields, kw_only=True)


def _default(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    return () if field.default is msgspec.NODEFAULT else (field.default,)


def _check_request(request: DecisionRequest) -> Fault | None:
    if len(request.request_id) > 64 or "\x00" in request.request_id or not request.request_id:
        if not is_id(request.request_id):
            return _id_fault("request_id", request.request_id)
    if not is_id(request.unit):
        return _id_fault("unit", request.unit)
    if request.supersedes is not None and not is_id(request.supersedes):
        return _id_fault("supersedes", request.supersedes)
    return _check_time("time", request.time) or _check_time("deadline", request.deadline)


def _check_outcome(outcome: Outcome) -> Fault | None:
    if not is_id(outcome.request_id):
        return _id_fault("request_id", outcome.request_id)
    if outcome.slot and not is_id(outcome.slot):
        return _id_fault("slot", outcome.slot)
    for name, value in outcome.rewards.items():
        if value is not None and not abs(value) < float("inf"):
            return Fault("not_finite", f"reward {name!r} must be finite or null, found {value}")
    return _check_time("time", outcome.time)


def _check_time(name: str, time: Time | None) -> Fault | None:
    if time is None or isinstance(time, int):
        return None
    try:
        microseconds(time)
    except ValueError:
        return Fault("wrong_type", f"{name} must be whole microseconds or ISO-8601, found {time!r}")
    return None


def _id_fault(name: str, value: str) -> Fault:
    found = "an empty text" if not value else f"{len(value.encode(errors='replace'))} bytes"
    return Fault("empty_id", f"{name} must have 1 to 256 bytes and no U+0000, found {found}")


def _version_fault(found: object) -> Fault:
    readable = " or ".join(str(v) for v in range(OLDEST_READABLE, SCHEMA_VERSION + 1))
    return Fault("schema_version", f"schema_version must be {readable}, found {found!r}")


def _explain(data: bytes, error: Exception) -> UnableToDecode:
    """Read the version before anything else, so that a newer schema is told from a broken message."""
    try:
        head = _VERSION.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UnableToDecode(_explain_unreadable(data, error))
    request_id = _readable_id(head.request_id)
    version = head.schema_version
    if type(version) is not int:
        fault = Fault("wrong_type", f"schema_version must be an integer, found {version!r}")
    elif not OLDEST_READABLE <= version <= SCHEMA_VERSION:
        fault = _version_fault(version)
    else:
        fault = _explain_type(str(error))
    return UnableToDecode(fault, request_id=request_id)


def _explain_unreadable(data: bytes, error: Exception) -> Fault:
    if isinstance(error, msgspec.ValidationError):
        return Fault("wrong_type", str(error))
    if re.search(rb"(?<![\w\"])-?(NaN|Infinity)(?![\w\"])", data) and _is_lenient_json(data):
        return Fault("not_finite", "NaN and Infinity are not JSON; send finite numbers")
    if "out of range" in str(error):
        return Fault("not_finite", str(error))
    return Fault("not_json", str(error) or "the message is not JSON")


def _is_lenient_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _explain_type(message: str) -> Fault:
    if "missing required field" in message:
        return Fault("missing_field", message)
    if "out of range" in message:
        return Fault("out_of_range", message)
    return Fault("wrong_type", message)


def _readable_id(value: object) -> str | None:
    return value if isinstance(value, str) and is_id(value) else None
