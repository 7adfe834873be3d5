"""The extensive form: every way nature may go over some stages in one program, which says what SDDP must come to."""

from dataclasses import dataclass

import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.sddp.noise import InflowNoise
from optimizer.hydrothermal.stage import StageArrays
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import Integers, LinearProgram, rows_of_entries
from policies.recourse.program import Sparse


@dataclass(frozen=True, kw_only=True, eq=False)
class _Node:
    stage: int
    parent: int | None
    flow: Floats
    probability: float


def tree_cost(
    arrays: StageArrays, *, noise: InflowNoise, first: int = 0, volume: Floats, before: Floats | None = None
) -> float:
    """Return the least expected cost of stages `first` to the last, from volumes [R] and the inflow before [R]."""
    nodes = _nodes(noise, first, np.zeros(volume.size) if before is None else before)
    program = _program(arrays, nodes, stages=len(noise.stages), volume=volume)
    solver = WarmSolver(program, presolve_first=True)
    return solver.solve()


def _nodes(noise: InflowNoise, first: int, before: Floats) -> list[_Node]:
    nodes: list[_Node] = []
    level: list[tuple[int | None, Floats, float]] = [(None, before, 1.0)]
    for stage in range(first, len(noise.stages)):
        own, following = noise.stages[stage], []
        for parent, flow, reach in level:
            for choice, arriving in enumerate(own.flow(flow)):
                probability = reach * float(own.probability[choice])
                following.append((len(nodes), arriving, probability))
                nodes.append(_Node(stage=stage, parent=parent, flow=arriving, probability=probability))
        level = list(following)
    return nodes


def _program(arrays: StageArrays, nodes: list[_Node], *, stages: int, volume: Floats) -> LinearProgram:
    one, n, m = arrays.program, arrays.program.cost.size, arrays.program.row_lower.size
    own = [arrays.variant(node.stage, is_last=node.stage == stages - 1) for node in nodes]
    water = [
        arrays.water(volume if node.parent is None else np.zeros(volume.size), inflow_BR=node.flow) for node in nodes
    ]
    lower, upper = (np.array([getattr(each, name) for each in own]) for name in ("row_lower", "row_upper"))
    lower[:, arrays.water_rows] = upper[:, arrays.water_rows] = water
    rows, columns = list[Integers](), list[Integers]()
    data = list[Floats]()
    for at, node in enumerate(nodes):
        rows.append(rows_of_entries(one.matrix) + at * m)
        columns.append(one.matrix.indices + at * n)
        data.append(one.matrix.data)
        if node.parent is not None:
            rows.append(arrays.water_rows + at * m)
            columns.append(arrays.volume_columns + node.parent * n)
            data.append(np.full(volume.size, -1.0))
    row, column = np.concatenate(rows), np.concatenate(columns)
    order = np.lexsort((column, row))
    counts = np.bincount(row, minlength=m * len(nodes))
    return LinearProgram(
        cost=np.concatenate([node.probability * one.cost for node in nodes]),
        offset=one.offset * (stages - nodes[0].stage),
        column_lower=np.tile(one.column_lower, len(nodes)),
        column_upper=np.concatenate([each.column_upper for each in own]),
        row_lower=lower.ravel(),
        row_upper=upper.ravel(),
        matrix=Sparse(
            indptr=np.append(0, counts.cumsum()).astype(np.int32),
            indices=column[order].astype(np.int32),
            data=np.concatenate(data)[order],
        ),
        column_names=tuple(f"{at}: {name}" for at in range(len(nodes)) for name in one.column_names),
        row_names=tuple(f"{at}: {name}" for at in range(len(nodes)) for name in one.row_names),
    )
