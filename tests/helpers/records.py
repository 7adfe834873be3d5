"""Contents of sound records, to be spoiled, and the fault that spoiling them brings."""

import json
from typing import Any

import pytest

from policies.events import DecisionRequest, Fault, UnableToDecode, from_bytes

SOUND: dict[str, Any] = {"schema_version": 1, "request_id": "r", "domain": "shop", "time": 1, "unit": "u"}
OUTCOME: dict[str, Any] = {"schema_version": 1, "request_id": "r", "domain": "shop", "time": 1, "rewards": {"click": 1}}


def fault_of(data: bytes | dict[str, Any], kind: Any = DecisionRequest) -> Fault:
    """Return why some bytes are refused."""
    with pytest.raises(UnableToDecode) as caught:
        from_bytes(data if isinstance(data, bytes) else json.dumps(data).encode(), kind)
    return caught.value.fault
