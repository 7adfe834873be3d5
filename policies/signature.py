"""What the graph of a policy takes and gives, read off its spec: names, kinds of number and shapes.

An axis that the spec does not have is an input that the graph does not have; a graph may leave out inputs that it does
not use. The batch and every ragged axis are symbolic, so that one graph serves any size.
"""

# B batch, F flat column, T step, W width, A action, S slot, N component of a quantity

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from policies.errors import Unable
from policies.spec import Field, PolicySpec

BATCH, ACTIONS, SLOTS = "batch", "actions", "slots"
"""The names of the symbolic axes."""

Axes = tuple[int | str, ...]


class SignatureMismatch(Unable):
    """A graph's inputs or outputs are not those that its spec asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTensor:
    """Name one input or output: its kind of number in numpy's words, and its axes, sizes or symbolic names."""

    name: str
    dtype: str
    axes: Axes


def graph_inputs(spec: PolicySpec) -> tuple[GraphTensor, ...]:
    """Return what a graph of this spec may take, in canonical order.

    `request` [B, F], `sequence_<field>` [B, T, W] with `length_<field>` [B], `actions` [B, A, Fa], `slots` [B, S, Fs],
    all float64, and `mask` [B, S, A] bool (a quantity's is [B, 1, 1] and says only how many requests there are).

    >>> from policies.spec import ActionSet, Field
    >>> actions = ActionSet(kind="choice", ids=("left", "right"))
    >>> spec = PolicySpec(domain="shop", fields=(Field(name="hour", lower=0, upper=24),), actions=actions)
    >>> [(tensor.name, tensor.axes) for tensor in graph_inputs(spec)]
    [('request', ('batch', 1)), ('mask', ('batch', 1, 2))]
    """
    slots, actions = _table_axes(spec)
    found = [_floats("request", (BATCH, _width(spec.flat_fields)))] if spec.flat_fields else []
    for field in spec.sequence_fields:
        assert field.steps is not None
        found.append(_floats(f"sequence_{field.name}", (BATCH, field.steps, field.width)))
        found.append(_floats(f"length_{field.name}", (BATCH,)))
    if spec.on("action"):
        found.append(_floats("actions", (BATCH, actions, _width(spec.on("action")))))
    if spec.on("slot"):
        found.append(_floats("slots", (BATCH, slots, _width(spec.on("slot")))))
    return (*found, GraphTensor(name="mask", dtype="bool", axes=(BATCH, slots, actions)))


def input_names(spec: PolicySpec) -> tuple[str, ...]:
    """Return the names of `graph_inputs`, in their order."""
    return tuple(tensor.name for tensor in graph_inputs(spec))


def output_name(spec: PolicySpec) -> str:
    """Return what the one output of the spec's graph is called: `probabilities` or `quantities`."""
    return "quantities" if spec.is_quantity else "probabilities"


def check_inputs(found: Sequence[GraphTensor], *, spec: PolicySpec) -> None:
    """Refuse inputs that the spec does not have, or that have another kind of number or shape.

    Raises:
        SignatureMismatch: the message names the input, what was expected and what was found.
    """
    expected = {tensor.name: tensor for tensor in graph_inputs(spec)}
    names = [tensor.name for tensor in found]
    if not names:
        raise SignatureMismatch(f"expected inputs among {', '.join(expected)}, found none")
    for tensor in found:
        if tensor.name not in expected:
            raise SignatureMismatch(f"expected inputs among {', '.join(expected)}, found {tensor.name!r}")
        _check_tensor(tensor, expected[tensor.name])


def check_output(found: Sequence[GraphTensor], *, name: str) -> None:
    """Refuse anything but the one output `name`, float32 [B, S, A], or float32 or float64 [B, N] for `quantities`.

    Raises:
        SignatureMismatch: the message says what was expected and what was found.
    """
    if [tensor.name for tensor in found] != [name]:
        raise SignatureMismatch(f"expected one output {name!r}, found {', '.join(t.name for t in found) or 'none'}")
    is_quantity = name == "quantities"
    dtypes = ("float32",) if name == "probabilities" else ("float32", "float64")
    tensor, rank = found[0], 2 if is_quantity else 3
    if tensor.dtype not in dtypes:
        raise SignatureMismatch(f"output {name!r}: expected {' or '.join(dtypes)}, found {tensor.dtype}")
    if tensor.axes and (len(tensor.axes) != rank or isinstance(tensor.axes[0], int)):
        expected = f"{rank} axes, the first symbolic"
        raise SignatureMismatch(f"output {name!r}: expected {expected}, found {_shown(tensor.axes)}")


def _check_tensor(found: GraphTensor, expected: GraphTensor) -> None:
    if found.dtype != expected.dtype:
        raise SignatureMismatch(f"input {found.name!r}: expected {expected.dtype}, found {found.dtype}")
    if len(found.axes) != len(expected.axes) or not all(map(_fits, found.axes, expected.axes)):
        raise SignatureMismatch(
            f"input {found.name!r}: expected axes {_shown(expected.axes)} with names for symbolic ones, "
            f"found {_shown(found.axes)}"
        )


def _fits(found: int | str, expected: int | str) -> bool:
    """Say whether an axis serves: what may vary must be symbolic, what is fixed may be."""
    return isinstance(found, str) or found == expected


def _shown(axes: Axes) -> str:
    return "[" + ", ".join(map(str, axes)) + "]"


def _table_axes(spec: PolicySpec) -> tuple[int | str, int | str]:
    """Return the slots' and the actions' axis of the mask."""
    if spec.is_quantity:
        return 1, 1
    slots: int | str = SLOTS if spec.has_slots else 1
    return slots, ACTIONS if spec.actions.ids is None else len(spec.actions.ids)


def _width(fields: Iterable[Field]) -> int:
    return sum(field.width for field in fields)


def _floats(name: str, axes: Axes) -> GraphTensor:
    return GraphTensor(name=name, dtype="float64", axes=axes)
