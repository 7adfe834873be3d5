"""Cuts as JSON in the schema of SDDP.jl, so that either program can go on from the other's.

An array of nodes {node, single_cuts, multi_cuts, risk_set_cuts}; node "t" holds the cuts of what comes after stage t,
counted from 1. A cut is {intercept, coefficients, state}: cost to go ≥ intercept + Σ coefficient · (x − state). **The
intercept is the height at `state`**, not at the origin; a cut without `state` was made at the origin. The volume at the
end of the stage is `reservoir[i]`, i from 1 in the order of the case's plants, as HydroPowerModels names it; where
inflows remember, `inflow[i]` is the stage's own inflow.
"""

# C cut, D dimension of the state, R reservoir

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from optimizer.hydrothermal.sddp.cuts import CostToGo
from policies.errors import ContentRefused, UsageProblem

_KINDS: Final = ("reservoir", "inflow")


class CutsMissing(UsageProblem):
    """There is no file of cuts where one was named, or none can be written there."""


class CutsRefused(ContentRefused):
    """A file of cuts does not hold cuts of this case and horizon."""


class _Cut(msgspec.Struct, frozen=True, kw_only=True):
    intercept: float
    coefficients: dict[str, float]
    state: dict[str, float] = {}


class _Node(msgspec.Struct, frozen=True, kw_only=True):
    node: str
    single_cuts: list[_Cut] = []
    multi_cuts: list[Any] = []
    risk_set_cuts: list[Any] = []


def write_cuts(path: Path, cuts: Sequence[CostToGo]) -> None:
    """Write the cost to go after each stage.

    Raises:
        CutsMissing: the file cannot be written.
    """
    nodes = [_Node(node=str(at), single_cuts=_cuts_of(one)) for at, one in enumerate(cuts, start=1)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(nodes))
    except OSError as error:
        raise CutsMissing(f"cannot write cuts to {path}: {error.strerror}") from error


def read_cuts(
    path: Path,
    *,
    stages: int,
    reservoirs: int,
    has_memory: bool | None = None,
    floors: Sequence[float] | None = None,
) -> list[CostToGo]:
    """Read the cost to go after each of `stages` stages of a case with so many reservoirs.

    `has_memory` says whether inflows are a state, which the file says where it is not given. `floors` are least costs
    to go, zero where they are not given (`train.cost_floors`).

    Raises:
        CutsMissing: there is no such file.
        CutsRefused: it is no file of single cuts, of another horizon, or of other states; the message says where.
    """
    nodes = {node.node: node for node in _decode(path)}
    wanted = [str(stage) for stage in range(1, stages + 1)]
    unknown = sorted(set(nodes) - set(wanted))
    missing = [name for name in wanted[:-1] if name not in nodes]
    if unknown or missing:
        raise CutsRefused(
            f"{path.name}: expected the nodes 1 to {stages}; unknown: {', '.join(unknown) or 'none'}, "
            f"missing: {', '.join(missing) or 'none'}. The cuts are of another horizon"
        )
    remembers = _remember(nodes.values()) if has_memory is None else has_memory
    names = _state_names(reservoirs, has_memory=remembers)
    least = floors or [0.0] * stages
    empty = _Node(node="")
    return [
        _cost_to_go(path, nodes.get(name, empty), names, reservoirs, floor)
        for name, floor in zip(wanted, least, strict=True)
    ]


def _decode(path: Path) -> list[_Node]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[_Node])
    except FileNotFoundError as error:
        raise CutsMissing(f"expected a file of cuts at {path}, found none") from error
    except msgspec.DecodeError as error:
        raise CutsRefused(f"{path.name}: expected cuts in the schema of SDDP.jl: {error}") from error


def _names(kind: str, reservoirs: int) -> list[str]:
    return [f"{kind}[{at}]" for at in range(1, reservoirs + 1)]


def _remember(nodes: Iterable[_Node]) -> bool:
    return any("inflow[1]" in cut.coefficients for node in nodes for cut in node.single_cuts)


def _state_names(reservoirs: int, *, has_memory: bool) -> list[str]:
    return [name for kind in (_KINDS if has_memory else _KINDS[:1]) for name in _names(kind, reservoirs)]


def _cuts_of(one: CostToGo) -> list[_Cut]:
    names = _state_names(one.reservoirs, has_memory=one.has_memory)
    return [
        _Cut(
            intercept=value,
            coefficients=dict(zip(names, slope, strict=True)),
            state=dict(zip(names, state, strict=True)),
        )
        for value, slope, state in zip(one.value.tolist(), one.slope.tolist(), one.state.tolist(), strict=True)
    ]


def _cost_to_go(path: Path, node: _Node, names: list[str], reservoirs: int, floor: float) -> CostToGo:
    where = f"{path.name}: node {node.node}"
    if node.multi_cuts or node.risk_set_cuts:
        raise CutsRefused(f"{where}: expected single cuts alone, found multi_cuts or risk_set_cuts")
    slope, state = np.zeros((len(node.single_cuts), len(names))), np.zeros((len(node.single_cuts), len(names)))
    for at, cut in enumerate(node.single_cuts):
        unknown = sorted((set(cut.coefficients) | set(cut.state)) - set(names))
        if unknown:
            raise CutsRefused(
                f"{where}, cut {at + 1}: expected the states {names[0]} to {names[-1]}, found {unknown[0]}"
            )
        slope[at] = [cut.coefficients.get(name, 0.0) for name in names]
        state[at] = [cut.state.get(name, 0.0) for name in names]
    value = np.array([cut.intercept for cut in node.single_cuts])
    return CostToGo(value=value, slope=slope, state=state, reservoirs=reservoirs, floor=floor)
