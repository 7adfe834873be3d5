"""Read what the bytes of an ONNX file are made of, without the onnx package: operators, opset, tensors kept elsewhere.

It can also make a graph show its inner values. Only the few fields of the protocol buffer that are needed are looked
at; all others are skipped by their length.

Source: onnx.proto3 of ONNX 1.19 (field numbers); protobuf.dev, "Encoding" (wire format).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from policies.errors import Unable

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""The domains of operators that the ONNX standard defines; any other needs code beside the graph."""

# Field numbers, by message.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTION = 7, 8, 25
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 12, 15
_VALUE_NAME = 1
_NODE_OUTPUT = 2
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_GRAPHS, _ATTRIBUTE_TENSORS, _ATTRIBUTE_SPARSE = (6, 11), (5, 10), (22, 23)
_FUNCTION_NODE = 7
_SPARSE_TENSORS = (1, 2)
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 16


class UnableToReadGraph(Unable):
    """The bytes are not an ONNX model."""


@dataclass(slots=True)
class GraphContents:
    """Hold what a model is made of.

    operators: (domain, name) of every node, those of subgraphs and functions included.
    external: the names of tensors whose values lie in other files.
    """

    opset: int = 0
    operators: set[tuple[str, str]] = field(default_factory=set)
    external: list[str] = field(default_factory=list)


def read_contents(data: bytes) -> GraphContents:
    """Return the opset, the operators and the external tensors of an ONNX model.

    Raises:
        UnableToReadGraph: the bytes are not a protocol buffer with a graph and an opset.
    """
    contents = GraphContents()
    has_graph = False
    for number, value in _fields(memoryview(data)):
        if number == _MODEL_OPSET:
            _read_opset(_message(value), contents)
        elif number == _MODEL_GRAPH:
            has_graph = True
            _read_graph(_message(value), contents, depth=0)
        elif number == _MODEL_FUNCTION:
            _read_nodes(_message(value), contents, number=_FUNCTION_NODE, depth=0)
    if not has_graph or contents.opset < 1:
        raise UnableToReadGraph("expected an ONNX model, found no graph or no opset in the bytes")
    return contents


def expose_values(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a model that gives out its inner values too, and the operator that makes each, by the value's name.

    A protocol buffer is merged by writing one message after another: the outputs are appended, nothing is rewritten.

    Raises:
        UnableToReadGraph: the bytes are not a protocol buffer.
    """
    operators: dict[str, str] = {}
    outputs = set()
    for number, graph in _fields(memoryview(data)):
        if number != _MODEL_GRAPH:
            continue
        for kind, value in _fields(_message(graph)):
            if kind == _GRAPH_OUTPUT:
                outputs.add(_text(dict(_fields(_message(value))).get(_VALUE_NAME, memoryview(b""))))
            elif kind == _GRAPH_NODE:
                operators.update(_node_outputs(_message(value)))
    inner = {name: operator for name, operator in operators.items() if name and name not in outputs}
    values = b"".join(_encoded(_GRAPH_OUTPUT, _encoded(_VALUE_NAME, name.encode())) for name in inner)
    return data + _encoded(_MODEL_GRAPH, values), inner


def _node_outputs(data: memoryview) -> dict[str, str]:
    fields = list(_fields(data))
    operator = "".join(_text(value) for number, value in fields if number == _NODE_OPERATOR)
    return {_text(value): operator for number, value in fields if number == _NODE_OUTPUT}


def _encoded(number: int, payload: bytes) -> bytes:
    """Write one field of bytes: its key, its length, its payload."""
    return _encoded_varint(number << 3 | _BYTES) + _encoded_varint(len(payload)) + payload


def _encoded_varint(value: int) -> bytes:
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _read_opset(data: memoryview, contents: GraphContents) -> None:
    found = dict(_fields(data))
    domain, version = found.get(_OPSET_DOMAIN, memoryview(b"")), found.get(_OPSET_VERSION, 0)
    if _text(domain) in ("", "ai.onnx") and isinstance(version, int):
        contents.opset = version


def _read_graph(data: memoryview, contents: GraphContents, *, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise UnableToReadGraph(f"expected at most {_MAX_DEPTH} nested graphs, found more")
    for number, value in _fields(data):
        if number == _GRAPH_INITIALIZER:
            _read_tensor(_message(value), contents)
        elif number == _GRAPH_SPARSE:
            _read_sparse(_message(value), contents)
    _read_nodes(data, contents, number=_GRAPH_NODE, depth=depth)


def _read_nodes(data: memoryview, contents: GraphContents, *, number: int, depth: int) -> None:
    for found, value in _fields(data):
        if found == number:
            _read_node(_message(value), contents, depth=depth)


def _read_node(data: memoryview, contents: GraphContents, *, depth: int) -> None:
    operator = domain = ""
    for number, value in _fields(data):
        if number == _NODE_OPERATOR:
            operator = _text(value)
        elif number == _NODE_DOMAIN:
            domain = _text(value)
        elif number == _NODE_ATTRIBUTE:
            _read_attribute(_message(value), contents, depth=depth)
    contents.operators.add((domain, operator))


def _read_attribute(data: memoryview, contents: GraphContents, *, depth: int) -> None:
    for number, value in _fields(data):
        if number in _ATTRIBUTE_GRAPHS:
            _read_graph(_message(value), contents, depth=depth + 1)
        elif number in _ATTRIBUTE_TENSORS:
            _read_tensor(_message(value), contents)
        elif number in _ATTRIBUTE_SPARSE:
            _read_sparse(_message(value), contents)


def _read_sparse(data: memoryview, contents: GraphContents) -> None:
    for number, value in _fields(data):
        if number in _SPARSE_TENSORS:
            _read_tensor(_message(value), contents)


def _read_tensor(data: memoryview, contents: GraphContents) -> None:
    name, is_external = "", False
    for number, value in _fields(data):
        if number == _TENSOR_NAME:
            name = _text(value)
        elif number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value == 1):
            is_external = True
    if is_external:
        contents.external.append(name)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Walk one message: (field number, whole number or bytes); fixed-width numbers come as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size, at = _size_of(data, at, kind)
        if at + size > len(data):
            raise UnableToReadGraph(f"expected {size} bytes of field {key >> 3}, found {len(data) - at}")
        yield key >> 3, data[at : at + size]
        at += size


def _size_of(data: memoryview, at: int, kind: int) -> tuple[int, int]:
    if kind == _BYTES:
        return _varint(data, at)
    if kind in (_FIXED64, _FIXED32):
        return (8 if kind == _FIXED64 else 4), at
    raise UnableToReadGraph(f"expected a wire type of protocol buffers, found {kind}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise UnableToReadGraph("expected a whole number, found the end of the bytes or more than 64 bits")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise UnableToReadGraph("expected a nested message, found a number")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", errors="replace")
