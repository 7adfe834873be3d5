"""The records that cross the yard: request, decision, outcome, dead letter; their bytes and their JSON Schemas.

Times are whole microseconds since 1970 in UTC; ISO-8601 is read too. A decision echoes its request's bytes verbatim,
so that decisions joined to outcomes are all that learning, replay and audit need. Every record carries a schema
version; this version and the one before it are readable.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_type_hints

import msgspec

from policies.faults import Fault as Fault
from policies.faults import Reason as Reason
from policies.faults import UnableToDecode as UnableToDecode
from policies.faults import explain, readable_id, version_fault
from policies.faults import shorten as shorten
from policies.spec import MAX_ID_BYTES, is_id

SCHEMA_VERSION = 1
OLDEST_READABLE = max(1, SCHEMA_VERSION - 1)
MAX_REQUEST_BYTES = 512 * 1024
MAX_RESULT_BYTES = 1_000_000
MAX_ORIGINAL_BYTES = 64 * 1024
EARLIEST, LATEST = -62_135_683_200_000_000, 253_402_387_199_999_999
"""The microseconds of the years 1 to 9999, with a day to spare for offsets of ISO-8601: what calendars can hold."""

FallbackReason = Literal["deadline", "kill", "recourse_infeasible"]
Role = Literal["live", "canary", "shadow"]
Number = float | int
Value = Annotated[
    Any,
    msgspec.Meta(
        description="A number, a category, a list (vector or sequence) or a list of lists (sequence of vectors).",
        extra_json_schema={"type": ["number", "string", "array", "null"]},
    ),
]
Table = dict[str, list[Any]]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Microseconds = Annotated[int, msgspec.Meta(ge=EARLIEST, le=LATEST, description="Microseconds since 1970 in UTC.")]
Iso = Annotated[str, msgspec.Meta(description="ISO-8601; UTC where it has no offset.", examples=["2026-01-31T06:00Z"])]
Time: TypeAlias = Microseconds | Iso
Id = Annotated[
    str,
    msgspec.Meta(
        description="1 to 256 bytes of UTF-8 without U+0000.",
        extra_json_schema={"minLength": 1, "maxLength": MAX_ID_BYTES, "pattern": "^[^\\u0000]+$"},
    ),
]


class DecisionRequest(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """Ask for a decision on one unit at one step, with the fields that the spec names."""

    schema_version: int = SCHEMA_VERSION
    request_id: Id
    domain: str
    time: Time
    unit: Id
    step: Whole = 0
    deadline: Time | None = None
    supersedes: Id | None = None
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
    request_id: Id
    slot: str = ""
    domain: str
    revision: Whole = 0
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

_DECODE_REQUEST = _DECODERS[DecisionRequest].decode


def to_bytes(record: Record) -> bytes:
    """Encode a record as one line of JSON.

    >>> outcome = Outcome(request_id="a", domain="shop", time=0, rewards={"click": 1.0})
    >>> from_bytes(to_bytes(outcome), Outcome) == outcome
    True

    Raises:
        ValueError: a float is not finite (JSON would say null, which means something else), or a bool is a number.
    """
    fault = _check_numbers(record)
    if fault is not None:
        raise ValueError(f"{fault.reason}: {fault.detail}")
    data = _ENCODER.encode(record)
    if isinstance(record, Decision) and (b"\n" in data or b"\r" in data):
        one_line = msgspec.structs.replace(record, request=msgspec.Raw(compact(bytes(record.request))))
        return _ENCODER.encode(one_line)
    return data


def from_bytes(data: bytes, kind: type[R]) -> R:
    """Decode one record and check its envelope.

    The fields of a request are checked against its spec later, by the encoder.

    Raises:
        UnableToDecode: the bytes are not such a record; its fault says which law was broken.
    """
    try:
        record: R = _DECODERS[kind].decode(data)
        if not data.isascii():
            str(data, "utf-8")  # the decoder passes over what it does not know, sound or not
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise explain(data, error, readable=(OLDEST_READABLE, SCHEMA_VERSION)) from error
    fault = check_envelope(record)
    if fault is not None:
        raise UnableToDecode(fault, request_id=readable_id(getattr(record, "request_id", None)))
    return record


def read_request(data: bytes) -> DecisionRequest:
    """Decode one request as `from_bytes` does, for less where a glance settles the checks.

    ASCII without an escape holds no U+0000 and no half of a character, so that lengths say whether ids are ids.

    Raises:
        UnableToDecode: the bytes are not a request.
    """
    if data.isascii() and _BACKSLASH not in data:
        try:
            request: DecisionRequest = _DECODE_REQUEST(data)
        except (msgspec.DecodeError, RecursionError):
            return from_bytes(data, DecisionRequest)  # which raises, and says why
        is_plain = request.schema_version == SCHEMA_VERSION and request.supersedes is None
        is_timed = type(request.time) is int and type(request.deadline) is not str
        is_named = 0 < len(request.request_id) <= MAX_ID_BYTES and 0 < len(request.unit) <= MAX_ID_BYTES
        if is_plain and is_timed and is_named:
            return request
    return from_bytes(data, DecisionRequest)


def check_envelope(record: Record) -> Fault | None:
    """Return what is wrong with a record's version, ids or times, or None.

    A record that a producer built in Python is checked by this too.
    """
    if not OLDEST_READABLE <= record.schema_version <= SCHEMA_VERSION:
        return version_fault(record.schema_version, readable=(OLDEST_READABLE, SCHEMA_VERSION))
    if isinstance(record, DecisionRequest):
        return _check_request(record)
    if isinstance(record, Outcome):
        return _check_outcome(record)
    return _check_time("time", record.time)


def compact(raw: bytes) -> bytes:
    """Return a JSON document without line breaks, the form in which a decision echoes its request."""
    return raw if _NEWLINE not in raw and _RETURN not in raw else msgspec.json.format(raw, indent=-1)


_NEWLINE, _RETURN, _BACKSLASH = b"\n\r\\"
"""As numbers: a byte is found six times faster by its number than by a text of one byte."""


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
    hints = {**get_type_hints(Decision, include_extras=True), "request": DecisionRequest}
    fields = [(f.name, hints[f.name], *_default(f)) for f in msgspec.structs.fields(Decision)]
    return msgspec.defstruct("Decision", fields, kw_only=True)


def _default(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    return () if field.default is msgspec.NODEFAULT else (field.default,)


def _check_request(request: DecisionRequest) -> Fault | None:
    for name, value in (("request_id", request.request_id), ("unit", request.unit)):
        if not is_id(value):
            return _id_fault(name, value)
    if request.supersedes is not None and not is_id(request.supersedes):
        return _id_fault("supersedes", request.supersedes)
    return _check_time("time", request.time) or _check_time("deadline", request.deadline)


def _check_outcome(outcome: Outcome) -> Fault | None:
    if not is_id(outcome.request_id):
        return _id_fault("request_id", outcome.request_id)
    if outcome.slot and not is_id(outcome.slot):
        return _id_fault("slot", outcome.slot)
    return _check_time("time", outcome.time) or _check_numbers(outcome)


def _check_time(name: str, time: Time | None) -> Fault | None:
    if time is None or isinstance(time, int):
        return None
    try:
        microseconds(time)
    except ValueError:
        return Fault("wrong_type", f"{name} must be whole microseconds or ISO-8601, found {shorten(time)}")
    return None


def _id_fault(name: str, value: str) -> Fault:
    return Fault("empty_id", f"{name} must have 1 to {MAX_ID_BYTES} bytes and no U+0000, found {shorten(value)}")


def _check_numbers(record: Record) -> Fault | None:
    """Return which number of a record built in Python JSON cannot say, or None; one that was decoded is sound."""
    if isinstance(record, Decision):
        recourse = {} if record.recourse is None else record.recourse.outputs
        return _check_choices(record.choices) or _find_bad(recourse, "recourse.outputs.", _is_no_number)
    if isinstance(record, Outcome):
        return _find_bad(record.rewards, "rewards.", _is_no_number)
    if isinstance(record, DecisionRequest):
        tables = _find_bad(record.actions or {}, "actions.") or _find_bad(record.slots or {}, "slots.")
        return _find_bad(record.fields, "fields.") or tables
    return None


def _check_choices(choices: tuple[Choice, ...]) -> Fault | None:
    for choice in choices:
        is_drawn = type(choice.action) is str and type(choice.applied) is not list
        if not is_drawn or (choice.propensity is not None and not isfinite(choice.propensity)):
            numbers = {"action": choice.action, "applied": choice.applied, "propensity": choice.propensity}
            fault = _find_bad(numbers, f"choices.{choice.slot}.", _is_no_number)
            if fault is not None:
                return fault
    return None


def _is_not_finite(value: object) -> bool:
    return type(value) is float and not isfinite(value)


def _is_no_number(value: object) -> bool:
    return type(value) is bool or _is_not_finite(value)


def _find_bad(values: Mapping[str, Any], where: str, is_bad: Callable[[object], bool] = _is_not_finite) -> Fault | None:
    for name, value in values.items():
        found = _first_bad(value, is_bad)
        if found is not None:
            reason: Reason = "wrong_type" if type(found) is bool else "not_finite"
            return Fault(reason, f"{where}{name} must hold finite numbers, found {found}")
    return None


def _first_bad(value: object, is_bad: Callable[[object], bool]) -> object:
    if isinstance(value, list | tuple):
        return next((bad for item in value if (bad := _first_bad(item, is_bad)) is not None), None)
    return value if is_bad(value) else None
