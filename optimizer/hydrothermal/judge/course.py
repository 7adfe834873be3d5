"""What came of operating a case under one policy: a course, read from the columns of each stage and nothing else.

Whoever decides hands over the columns of its programs. Their cost is computed here, and every equation and bound is
checked here: a policy's own word about its cost or its feasibility does not count.
"""

# B scenario, T reported stage, R reservoir, n column, m row

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.stage import StageArrays
from policies.errors import Unable

FEASIBLE = 1e-5
"""Largest error of an equation or bound, as a share of its terms: a hundred times the solver's tolerance of 1e-7."""

LEAST_SHARE = 1e-4
"""Terms count as at least one, and as at least this share of the largest term of the same solution: a balance of
nothing inherits the rounding of the flows beside it."""


class CourseInfeasible(Unable):
    """A policy's columns do not fulfill the stage's equations and bounds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """Hold what a policy did in T stages of B scenarios.

    Attributes:
        columns: float64 [B, T, n], in the blocks of `StageArrays.columns`.
        water_values: float64 [B, T, R], what one unit of water more would have saved, as the policy's program saw it.
    """

    columns: Floats
    water_values: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """Hold the course of B scenarios over T reported stages.

    Attributes:
        name: of the policy.
        stage_costs: float64 [B, T], in the case's unit of cost.
        credit: float64 [B], cost of what comes after the reported stages, by the common value function.
        volume: float64 [B, T, R], at the end of each stage, in the case's volume.
        water_values: float64 [B, T, R], cost per unit of volume.
        hydro, thermal, deficit: float64 [B, T], MW over the whole system.
        violations: by soft bound with its unit: float64 [B, T], how much it was missed by, over all reservoirs.
        residual: largest error of any equation or bound, as a share of its terms where these are above one.
        fallbacks: decisions that were not the policy's own.
        recoveries: how often each rung of the solver's ladder helped.
        cpu_s: processor time of the simulation.
        details: what is said beside these of this policy alone; plain values.
    """

    name: str
    stage_costs: Floats
    credit: Floats
    volume: Floats
    water_values: Floats
    hydro: Floats
    thermal: Floats
    deficit: Floats
    violations: dict[str, Floats]
    residual: float
    fallbacks: int = 0
    recoveries: dict[str, int] = field(default_factory=dict)
    cpu_s: float = 0.0
    details: dict[str, float] = field(default_factory=dict)

    @cached_property
    def cost(self) -> Floats:
        """Return the cost of the reported stages, float64 [B], without the credit."""
        cost_B: Floats = self.stage_costs.sum(axis=1)
        return cost_B

    @cached_property
    def cost_with_credit(self) -> Floats:
        """Return the cost of the reported stages and of what comes after them, float64 [B]."""
        return self.cost + self.credit


def make_course(
    name: str,
    steps: Steps,
    *,
    arrays: StageArrays,
    inflow_BTR: Floats,
    horizon: int,
    credit: Floats,
    fallbacks: int = 0,
    recoveries: dict[str, int] | None = None,
    cpu_s: float = 0.0,
    details: dict[str, float] | None = None,
) -> Course:
    """Return the course of a policy's columns, having checked them.

    Args:
        name: of the policy.
        steps: what it did.
        arrays: of the case.
        inflow_BTR: float64 [B, T, R], what flowed in.
        horizon: stages of the whole horizon, whose last one asks for the final volumes.
        credit: float64 [B].
        fallbacks: as in `Course`.
        recoveries: as in `Course`.
        cpu_s: as in `Course`.
        details: as in `Course`.

    Raises:
        CourseInfeasible: the columns miss an equation or a bound; the message names policy, stage, scenario and row.
    """
    case, columns = arrays.case, steps.columns
    is_hydro = np.isin(np.arange(len(case.generators)), [hydro.generator for hydro in case.hydros])
    power = case.base_mva * columns[:, :, arrays.columns["power"]]
    return Course(
        name=name,
        stage_costs=columns @ arrays.program.cost + arrays.program.offset,
        credit=credit,
        volume=columns[:, :, arrays.volume_columns],
        water_values=steps.water_values,
        hydro=power[:, :, is_hydro].sum(axis=2),
        thermal=power[:, :, ~is_hydro].sum(axis=2),
        deficit=case.base_mva * columns[:, :, arrays.columns["deficit"]].sum(axis=2),
        violations=_violations(arrays, columns),
        residual=_largest_residual(name, columns, arrays=arrays, inflow_BTR=inflow_BTR, horizon=horizon),
        fallbacks=fallbacks,
        recoveries={name: count for name, count in (recoveries or {}).items() if count},
        cpu_s=cpu_s,
        details=details or {},
    )


def _violations(arrays: StageArrays, columns: Floats) -> dict[str, Floats]:
    blocks = {"volume": "volume_violation", "outflow": "outflow_violation"}
    return {
        f"{name}_{arrays.column_units(block)}": columns[:, :, arrays.columns[block]].sum(axis=2)
        for name, block in blocks.items()
    }


def _largest_residual(name: str, columns: Floats, *, arrays: StageArrays, inflow_BTR: Floats, horizon: int) -> float:
    matrix = arrays.program.dense().T
    before_BR = np.broadcast_to(arrays.case.volume_initial, inflow_BTR[:, 0].shape)
    worst = 0.0
    for stage in range(columns.shape[1]):
        taken_Bn = columns[:, stage]
        water_BR = arrays.water(before_BR, inflow_BR=inflow_BTR[:, stage])
        program = arrays.of_stage(stage, is_last=stage == horizon - 1)
        errors = _row_errors(taken_Bn @ matrix, program.row_lower, program.row_upper, arrays, water_BR)
        errors = np.hstack([errors, _beyond(taken_Bn, program.column_lower, program.column_upper)])
        size = np.abs(taken_Bn)
        found = shares_of_terms(errors, np.hstack([size @ np.abs(matrix), size]))
        at = np.unravel_index(int(found.argmax()), found.shape)
        if not found[at] <= FEASIBLE:
            names = (*program.row_names, *program.column_names)
            raise CourseInfeasible(
                f"{name}: stage {stage + 1} of scenario {at[0] + 1}: {names[at[1]]} is missed by {errors[at]:g}, "
                f"expected a share of at most {FEASIBLE:g} of its terms, found {found[at]:g}"
            )
        worst = max(worst, float(found[at]))
        before_BR = taken_Bn[:, arrays.volume_columns].clip(0.0, arrays.case.volume_max)
    return worst


def shares_of_terms(errors: Floats, terms: Floats) -> Floats:
    """Return errors as shares of the terms that they are made of, float64 [B, N] each (see `LEAST_SHARE`).

    >>> shares_of_terms(np.array([[1.0, 0.0]]), np.array([[0.5, 80_000.0]])).tolist()
    [[0.125, 0.0]]
    """
    least = np.maximum(1.0, LEAST_SHARE * terms.max(axis=1, keepdims=True))
    shares: Floats = errors / np.maximum(terms, least)
    return shares


def _row_errors(values_Bm: Floats, lower: Floats, upper: Floats, arrays: StageArrays, water_BR: Floats) -> Floats:
    lower_Bm, upper_Bm = (np.repeat(bound[None], len(values_Bm), axis=0) for bound in (lower, upper))
    lower_Bm[:, arrays.water_rows] = upper_Bm[:, arrays.water_rows] = water_BR
    return _beyond(values_Bm, lower_Bm, upper_Bm)


def _beyond(values: Floats, lower: Floats, upper: Floats) -> Floats:
    """Return how far values lie outside their bounds; 0 within."""
    outside: Floats = np.maximum(np.maximum(lower - values, values - upper), 0.0)
    return outside
