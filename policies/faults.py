"""Why a record was refused: a reason from the closed list, told from bytes that are not what was expected.

The schema version is read before anything else, so that a newer schema is told from a broken message.
"""

import json
import re
import reprlib
from math import isfinite
from typing import Any, Literal, NamedTuple

import msgspec

from policies.errors import ContentRefused
from policies.spec import is_id

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

_READABLE_DETAIL = 300
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


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


class _Head(msgspec.Struct, gc=False):
    schema_version: Any = None
    request_id: Any = None


class _Brief(reprlib.Repr):
    """Shows values from outside, which may be huge or deeply nested."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxstring = 2, 4, 4, 4, 60

    def repr_int(self, x: int, level: int) -> str:
        """Show a whole number; one of many digits only by their count, which Python would refuse to write."""
        return repr(x) if x.bit_length() <= 128 else f"a whole number of {x.bit_length()} bits"


_HEAD = msgspec.json.Decoder(_Head)
_BRIEF = _Brief()


def shorten(value: object) -> str:
    """Return what a value looks like, in few words however large it is.

    >>> shorten([1, 2, 3, 4, 5, 6]), shorten("a" * 1000)[:8]
    ('[1, 2, 3, 4, ...]', "'aaaaaaa")
    """
    return _BRIEF.repr(value)


def readable_id(value: object) -> str | None:
    """Return a value that may be an id, None of any other."""
    return value if isinstance(value, str) and is_id(value) else None


def version_fault(found: object, *, readable: tuple[int, int]) -> Fault:
    """Say that a schema version lies outside the readable ones, oldest to newest."""
    versions = " or ".join(str(version) for version in range(readable[0], readable[1] + 1))
    return Fault("schema_version", f"schema_version must be {versions}, found {shorten(found)}")


def explain(data: bytes, error: Exception, *, readable: tuple[int, int]) -> UnableToDecode:
    """Say why some bytes were not decoded.

    Args:
        data: the bytes.
        error: what the decoder said.
        readable: the oldest and the newest schema version that can be read.
    """
    try:
        head = _HEAD.decode(data)
    except _UNREADABLE:
        head = _Head()
    request_id, version = readable_id(head.request_id), head.schema_version
    if type(version) is int and not readable[0] <= version <= readable[1]:
        return UnableToDecode(version_fault(version, readable=readable), request_id=request_id)
    try:
        document = msgspec.json.decode(data)
    except _UNREADABLE as broken:
        return UnableToDecode(_explain_unreadable(data, broken), request_id=request_id)
    if version is not None and type(version) is not int:
        fault = Fault("wrong_type", f"schema_version must be an integer, found {shorten(version)}")
    else:
        fault = _explain_type(document, str(error))
    return UnableToDecode(fault, request_id=request_id)


def _explain_unreadable(data: bytes, error: Exception) -> Fault:
    """Tell numbers that are not finite from bytes that are no JSON at all."""
    if isinstance(error, RecursionError):
        return Fault("not_json", "the message must be JSON, found lists or objects nested too deeply")
    try:
        place = _place_of_not_finite(json.loads(data.decode()))  # a lenient reader: NaN, Infinity, 1e400
    except (ValueError, RecursionError):
        place = None
    if place is not None:
        return Fault("not_finite", f"{place[0]} must be a finite number, found {place[1]}")
    if "out of range" in str(error):
        return Fault("not_finite", f"numbers must be finite, found one too large for a float: {error}")
    return Fault("not_json", f"the message must be JSON in UTF-8, found: {error}")


def _place_of_not_finite(value: object, path: str = "") -> tuple[str, float] | None:
    """Return where the first number that is not finite stands, and the number."""
    if isinstance(value, float):
        return None if isfinite(value) else (path or "the message", value)
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    places = (_place_of_not_finite(entry, f"{path}.{name}" if path else str(name)) for name, entry in entries)
    return next((place for place in places if place is not None), None)


def _explain_type(document: Any, message: str) -> Fault:
    message = _name_entry(document, message)[:_READABLE_DETAIL]
    if "missing required field" in message:
        return Fault("missing_field", message)
    if re.match(r"Expected `\w+` [<>]=", message):
        return Fault("out_of_range", message)
    return Fault("wrong_type", message)


def _name_entry(document: Any, message: str) -> str:
    """Name the entry that the decoder's message leaves open: `$.rewards[...]` -> `$.rewards.click`."""
    match = re.search(r"`\$\.(actions|slots|rewards)\[\.\.\.\]`", message)
    if match is None:
        return message
    sound = (float, int, type(None)) if match[1] == "rewards" else (list,)
    name = next((name for name, value in document[match[1]].items() if type(value) not in sound), "...")
    return message.replace(match[0], f"`$.{match[1]}.{name}`")
