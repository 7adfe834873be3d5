"""What a peer's user would write around the policy: decode a batch, run the graph once, take the best, encode.

It is less than Penstock does: the best action instead of a keyed draw, no check of bounds, no source, no echo of the
request. The session has the options of `policies.onnx_policy`; a test holds the two equal.
"""

import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

ACTION_COUNT = 16


class Fields(msgspec.Struct, gc=False):
    """The context of a request."""

    x: list[float]


class Request(msgspec.Struct, gc=False):
    """The part of a request that is needed to decide it."""

    request_id: str
    fields: Fields


class Answer(msgspec.Struct, gc=False):
    """What is answered: about 440 bytes."""

    request_id: str
    action: str
    probability: float
    scores: list[float]
    policy: str


def options() -> Any:
    """Return one thread, in order, not spinning."""
    found = onnxruntime.SessionOptions()
    found.intra_op_num_threads = 1
    found.inter_op_num_threads = 1
    found.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    found.add_session_config_entry("session.intra_op.allow_spinning", "0")
    found.add_session_config_entry("session.inter_op.allow_spinning", "0")
    found.log_severity_level = 3
    return found


class Answering:
    """Answer requests by a `policy.onnx` with the inputs `request` [B, 32] and `mask` [B, 1, 16]."""

    def __init__(self, model: Path) -> None:
        graph = model.read_bytes()
        self._session = onnxruntime.InferenceSession(graph, options(), providers=["CPUExecutionProvider"])
        self._policy = sha256(graph).hexdigest()[:16]
        self._actions = [f"a{number:02d}" for number in range(ACTION_COUNT)]
        self._masks: dict[int, Any] = {}
        self.decode = msgspec.json.Decoder(Request).decode
        self.encode = msgspec.json.Encoder().encode

    def decide(self, requests: Sequence[Request]) -> list[Answer]:
        """Decide a batch by one run of the graph."""
        count = len(requests)
        mask = self._masks.get(count)
        if mask is None:
            mask = self._masks[count] = np.ones((count, 1, ACTION_COUNT), dtype=np.bool_)
        values = np.array([request.fields.x for request in requests], dtype=np.float64)
        rows = self._session.run(["probabilities"], {"request": values, "mask": mask})[0][:, 0, :]
        best = rows.argmax(axis=1).tolist()
        return [
            Answer(request.request_id, self._actions[place], row[place], row, self._policy)
            for request, place, row in zip(requests, best, rows.tolist(), strict=True)
        ]

    def answer(self, values: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Return key and value of the answer to each request."""
        answers = self.decide([self.decode(value) for value in values])
        return [(answer.request_id.encode(), self.encode(answer)) for answer in answers]
