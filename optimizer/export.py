"""From a trained module to an artifact, proven on the way: ONNX equals torch, and every gate of the loader opens.

Uniform and constant policies are written as graphs by hand, so that they need neither torch nor its export.
"""

# B batch, S slot, A action, N component of the quantity

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from optimizer.plain_graph import constant_choice_graph, constant_quantity_graph, uniform_graph
from policies.artifact import load_artifact, save_artifact
from policies.errors import Unable, UsageProblem
from policies.graph import read_contents
from policies.onnx_policy import OnnxPolicy
from policies.selftest import Group, Proposing, random_inputs, selftest_of, tolerance_scale
from policies.signature import input_names as input_names
from policies.spec import PolicySpec

if TYPE_CHECKING:
    from torch import nn

PARITY_TOLERANCE = 1e-6
"""How far ONNX may be from torch: measured 2.4e-7 on probabilities of perceptrons."""

BATCH_VARIANT = frozenset({"Acos", "Asin", "Atan", "Cos", "Log", "Mish", "Sin", "Softplus"})
"""Operators whose rows depend on the batch in onnxruntime 1.31: measured at widths 1, 7, 16, 33 in nine batch sizes."""

BATCH_VARIANT_IN_FLOAT64 = frozenset({"Exp", "LogSoftmax", "Sigmoid", "Softmax", "Tanh"})
"""Operators that are batch-invariant in float32 and not in float64, measured likewise."""

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators that draw: a decision draws outside the graph, keyed by its request."""

_PARITY_ROWS = 64
_PARITY_SEED = 11
_SELFTEST_SEED = 23


class ExportRefused(Unable):
    """A module or graph cannot become an artifact: an operator, a difference to torch."""


class UnableToMakeConstant(UsageProblem):
    """The constants do not fit the spec."""


def export_policy(
    module: "nn.Module",
    *,
    spec: PolicySpec,
    folder: Path,
    provenance: Mapping[str, Any],
    recourse: Mapping[str, NDArray[Any]] | None = None,
) -> str:
    """Export a module as an artifact and return its identity; the module is left as it is.

    `module.forward` takes inputs of `input_names(spec)` by keyword (float64, the mask bool; `**inputs` takes all) and
    returns probabilities, float32 [B, S, A] with mask and floor inside, or quantities [B, N].

    Raises:
        ExportRefused: the graph has an operator that varies with the batch or draws, or differs from torch.
        ArtifactRefused: the artifact does not open a gate of the loader; nothing is left in the folder.
        TypeError: `forward` asks for an input that the spec does not have.
    """
    from optimizer.torch_graph import frozen_copy, graph_of  # torch takes two seconds to import: only modules pay

    frozen = frozen_copy(module)
    model = graph_of(frozen, spec=spec)
    lint(model)
    policy = OnnxPolicy(_bytes_of(model), spec=spec, identity="")
    groups = random_inputs(spec, count=_PARITY_ROWS, seed=_PARITY_SEED)
    check_parity(frozen, policy, groups, spec=spec)
    return _save(model, spec=spec, folder=folder, provenance=provenance, recourse=recourse)


def export_uniform(spec: PolicySpec, *, folder: Path, provenance: Mapping[str, Any] | None = None) -> str:
    """Export the policy that gives each eligible action the same probability; return the identity.

    Raises:
        UnableToMakeConstant: the spec is one of quantities.
    """
    if spec.is_quantity:
        raise UnableToMakeConstant(f"{spec.domain!r} proposes quantities; only choices have a uniform policy")
    return _save(uniform_graph(spec), spec=spec, folder=folder, provenance=provenance or {"recipe": "uniform"})


def export_constant(
    spec: PolicySpec,
    *,
    folder: Path,
    quantities: Sequence[float] | None = None,
    probabilities: Sequence[float] | None = None,
    recourse: Mapping[str, NDArray[Any]] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Export the policy that always proposes the same; return the identity.

    quantities: N numbers within the spec's bounds; probabilities: one per fixed id, not negative, summing to one
    (eligible ones share the mass of the others in proportion, and the spec's floor is mixed in).

    Raises:
        UnableToMakeConstant: the numbers do not fit the spec.
    """
    if spec.is_quantity:
        model = constant_quantity_graph(spec, _quantities(spec, quantities, probabilities))
    else:
        model = constant_choice_graph(spec, _probabilities(spec, quantities, probabilities))
    provenance = provenance or {"recipe": "constant"}
    return _save(model, spec=spec, folder=folder, provenance=provenance, recourse=recourse)


def lint(model: onnx.ModelProto) -> None:
    """Refuse operators that vary with the batch or that draw.

    Raises:
        ExportRefused: the message names the operators.
    """
    used = {name for _, name in read_contents(model.SerializeToString()).operators}
    found = sorted(used & (BATCH_VARIANT | RANDOM)) + sorted(_float64_operators(model) & BATCH_VARIANT_IN_FLOAT64)
    if found:
        raise ExportRefused(
            f"expected operators whose rows do not depend on the batch, found {', '.join(found)} "
            "(Exp, Sigmoid, Softmax and Tanh only in float64); use float32 and Relu, Gelu, Elu, Tanh or Sigmoid"
        )


def check_parity(module: "nn.Module", policy: Proposing, groups: Sequence[Group], *, spec: PolicySpec) -> None:
    """Refuse a graph that differs from its module by more than 1e-6 (of a quantity: of its range, if that is above 1).

    Raises:
        ExportRefused: the message says by how much and in which row.
    """
    from optimizer.torch_graph import run_module

    allowed = PARITY_TOLERANCE * tolerance_scale(spec)
    for arrays, mask in groups:
        expected = run_module(module, arrays, mask, spec=spec).numpy().astype(np.float64)
        found = policy.propose(arrays, mask).astype(np.float64)
        if found.shape != expected.shape:
            raise ExportRefused(f"expected ONNX to give torch's shape {expected.shape}, found {found.shape}")
        off = np.abs(found - expected)
        is_off = ~(off <= allowed)
        if is_off.any():
            row = int(is_off.reshape(len(off), -1).any(axis=1).argmax())
            worst = float(np.max(off[row]))
            raise ExportRefused(f"expected ONNX to equal torch to {PARITY_TOLERANCE:g}, found {worst:.3g} in row {row}")


def _save(
    model: onnx.ModelProto,
    *,
    spec: PolicySpec,
    folder: Path,
    provenance: Mapping[str, Any],
    recourse: Mapping[str, NDArray[Any]] | None = None,
) -> str:
    """Write the artifact beside its folder, let it prove itself there, then write it where it belongs."""
    graph = _bytes_of(model)
    selftest = selftest_of(OnnxPolicy(graph, spec=spec, identity=""), spec=spec, seed=_SELFTEST_SEED)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        for place in (Path(scratch) / "trial", folder):
            identity = save_artifact(
                place, spec=spec, graph=graph, selftest=selftest, recourse=recourse, provenance=provenance
            )
            if place != folder:
                load_artifact(place)
    return identity


def _bytes_of(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _float64_operators(model: onnx.ModelProto) -> set[str]:
    """Return the operators of the graph that give float64."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.output)
    doubles = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE}
    return {node.op_type for node in inferred.node if doubles & set(node.output)}


def _quantities(
    spec: PolicySpec, quantities: Sequence[float] | None, probabilities: Sequence[float] | None
) -> NDArray[np.float64]:
    count = len(spec.actions.names)
    if quantities is None or probabilities is not None or len(quantities) != count:
        raise UnableToMakeConstant(f"{spec.domain!r} needs {count} quantities: {', '.join(spec.actions.names)}")
    values = np.asarray(quantities, dtype=np.float64)
    if not ((values >= spec.actions.lower) & (values <= spec.actions.upper)).all():
        raise UnableToMakeConstant(f"quantities must lie within the spec's bounds, found {values.tolist()}")
    return values


def _probabilities(
    spec: PolicySpec, quantities: Sequence[float] | None, probabilities: Sequence[float] | None
) -> NDArray[np.float64]:
    ids = spec.actions.ids
    if ids is None:
        raise UnableToMakeConstant(f"{spec.domain!r} has actions of each request's own; only fixed ids have constants")
    if probabilities is None or quantities is not None or len(probabilities) != len(ids):
        raise UnableToMakeConstant(f"{spec.domain!r} needs {len(ids)} probabilities, one for each action id")
    values = np.asarray(probabilities, dtype=np.float64)
    if not (values >= 0).all() or abs(values.sum() - 1) > PARITY_TOLERANCE:
        raise UnableToMakeConstant(f"probabilities must not be negative and sum to 1, found {values.tolist()}")
    return values
