"""An ONNX graph as a policy or as a reward model: the only importer of onnxruntime.

onnxruntime sends telemetry by default since 1.29; the variable that forbids it is set before the import. A session runs
on one thread without spinning, and takes what the encoder made as it is: nothing is cast on the way.
"""

# B request, S slot, A action, N component of a quantity

import os
import platform
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from policies.errors import Unable, UsageProblem
from policies.graph import expose_values
from policies.signature import GraphTensor, check_inputs, check_output, output_name
from policies.spec import PolicySpec

_CPU_INFO = Path("/proc/cpuinfo")
_FEATURE_KEYS = ("flags", "Features")  # x86 and Arm name the same line differently
_DTYPES = {"tensor(double)": "float64", "tensor(float)": "float32", "tensor(bool)": "bool"}
_ERRORS_ONLY = 3


class UnableToLoadGraph(Unable):
    """onnxruntime does not take the bytes as a model."""


class RewardModelNotFound(UsageProblem):
    """There is no reward model where one was expected."""


class OnnxPolicy:
    """Propose by an ONNX graph; a pure function of each request alone where the graph passed the artifact's gates."""

    def __init__(self, graph: bytes, *, spec: PolicySpec, identity: str) -> None:
        """Open a session on the graph.

        Raises:
            UnableToLoadGraph: onnxruntime refuses the bytes.
            SignatureMismatch: inputs or outputs are not those of the spec.
        """
        self.spec = spec
        self.identity = identity
        self._session = _Session(graph, spec=spec, output=output_name(spec))

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        """Return probabilities, float32 [B, S, A], or quantities, float32 or float64 [B, N].

        arrays: the encoder's, float64; those that the graph does not use are not fed.
        mask: bool [B, S, A], true where an action is eligible.
        """
        if len(mask):
            return self._session.run(arrays, mask)
        shape = (0, len(self.spec.actions.names)) if self.spec.is_quantity else mask.shape
        return np.zeros(shape, dtype=np.float32)


class OnnxProbe:
    """Look at the inner values of a policy's graph: one that depends on the batch shows there first.

    `operators` names the operator that makes each value. Not for serving: what is given out is not fused.
    """

    def __init__(self, graph: bytes) -> None:
        """Open a session that gives out every inner value.

        Raises:
            UnableToReadGraph: the bytes are no ONNX model.
            UnableToLoadGraph: onnxruntime refuses the bytes.
        """
        exposed, self.operators = expose_values(graph)
        self._session = _open(exposed)
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}
        self._names = list(self.operators)

    def values(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> dict[str, NDArray[np.floating]]:
        """Return the inner values of floating point that have one row per request, by their names."""
        feeds = {name: array for name, array in {**arrays, "mask": mask}.items() if name in self._inputs}
        found = self._session.run(self._names, feeds) if self._names else []
        return {name: v for name, v in zip(self._names, found, strict=True) if _has_rows(v, len(mask))}


class OnnxRewardModel:
    """Predict by an ONNX graph what each action would earn."""

    def __init__(self, graph: bytes, *, spec: PolicySpec) -> None:
        """Open a session on the graph.

        Raises:
            UnableToLoadGraph: onnxruntime refuses the bytes.
            SignatureMismatch: inputs are not those of the spec, or the output is not `reward`.
        """
        self.spec = spec
        self._session = _Session(graph, spec=spec, output="reward")

    def predict(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the predicted reward of each action, float64 [B, S, A]; cells outside the mask mean nothing."""
        if not len(mask):
            return np.zeros(mask.shape)
        return self._session.run(arrays, mask).astype(np.float64)


def reward_model_from_onnx(path: Path, *, spec: PolicySpec) -> OnnxRewardModel:
    """Read a reward model: the inputs of the spec's graph, and one output `reward` [B, S, A].

    Raises:
        RewardModelNotFound: there is no such file.
        UnableToLoadGraph: it is no ONNX model.
        SignatureMismatch: it does not fit the spec.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RewardModelNotFound(f"expected a reward model at {path}: {error.strerror}") from error
    return OnnxRewardModel(data, spec=spec)


@cache
def platform_digest() -> str:
    """Return 8 hex of the SHA-256 of what bitwise equality depends on: onnxruntime's version and the CPU's features."""
    return _platform_digest(onnxruntime.__version__, cpu_features(_CPU_INFO))


def cpu_features(cpu_info: Path) -> str:
    """Return the CPU's features, sorted, as Linux lists them; elsewhere the machine's and the processor's names."""
    try:
        lines = cpu_info.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in _FEATURE_KEYS:
            return " ".join(sorted(value.split()))
    return f"{platform.machine()} {platform.processor()}"


def _platform_digest(version: str, features: str) -> str:
    return sha256(f"{version}\n{features}".encode()).hexdigest()[:8]


class _Session:
    """One onnxruntime session with one output, fed with the inputs that its graph has."""

    def __init__(self, graph: bytes, *, spec: PolicySpec, output: str) -> None:
        self._session = _open(graph)
        inputs = [_described(tensor) for tensor in self._session.get_inputs()]
        check_inputs(inputs, spec=spec)
        check_output([_described(tensor) for tensor in self._session.get_outputs()], name=output)
        self._names = tuple(tensor.name for tensor in inputs if tensor.name != "mask")
        self._has_mask = len(self._names) < len(inputs)
        self._outputs = [output]

    def run(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
        feeds: dict[str, NDArray[Any]] = {name: arrays[name] for name in self._names}
        if self._has_mask:
            feeds["mask"] = mask
        result: NDArray[np.floating] = self._session.run(self._outputs, feeds)[0]
        return result


def _open(graph: bytes) -> Any:
    try:
        return onnxruntime.InferenceSession(graph, _options(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common root but Exception
        raise UnableToLoadGraph(f"expected an ONNX model, found bytes that onnxruntime refuses: {error}") from error


def _has_rows(value: Any, count: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 0 and len(value) == count


def _options() -> Any:
    """Return one thread, in order, not spinning: scale comes from processes, and a core is not burned by waiting."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    return options


def _described(tensor: Any) -> GraphTensor:
    """Bring onnxruntime's description into ours; an axis without a size is symbolic, named or not."""
    axes = tuple(axis if isinstance(axis, int) else str(axis) for axis in tensor.shape or ())
    return GraphTensor(name=tensor.name, dtype=_DTYPES.get(tensor.type, tensor.type), axes=axes)
