"""A served policy in closed loop: what it proposes stage by stage becomes the volumes it meets in the next one.

This is how an artifact is judged, whatever is inside it: requests as they would come, proposals rounded as serving
rounds them. In strict form the volumes applied are the targets; `operate.operate` says what they cost.
"""

# B path, T stage, R reservoir, W inflow of a window

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.reach import ReachableMap
from optimizer.hydrothermal.spec import has_load_field
from optimizer.hydrothermal.stage import StageArrays
from policies.policy import Policy
from policies.quantities import decimals, settle_quantities
from policies.spec import PolicySpec

SAFE_HM3 = 1e-7
"""How far below its reach a target stays: the solver's own tolerance on rows."""


def roll_out(policy: Policy, arrays: StageArrays, inflow_BTR: Floats) -> Floats:
    """Return the volumes of a policy along paths of inflow, float64 [B, T + 1, R], the first being the case's own.

    Args:
        policy: of `spec.policy_spec`; an artifact's, for one.
        arrays: of the case.
        inflow_BTR: float64 [B, T, R], in the case's flow; the policy sees each stage's and those before it.
    """
    count, stages, hydros = inflow_BTR.shape
    volume_BTR = np.empty((count, stages + 1, hydros))
    volume_BTR[:, 0] = arrays.case.volume_initial
    mask = np.ones((count, 1, 1), dtype=np.bool_)
    for stage in range(stages):
        observed = observe(arrays.case, volume_BTR[:, stage], inflow_BTR, stage=stage, spec=policy.spec)
        proposed = policy.propose(observed, mask)
        volume_BTR[:, stage + 1] = settle_quantities(proposed, spec=policy.spec)[0]
    return volume_BTR


def observe(
    case: Case, volume_BR: Floats, inflow_BTR: Floats, *, stage: int, spec: PolicySpec
) -> dict[str, NDArray[Any]]:
    """Return the graph's inputs of a stage (from 0), as the encoder lays them out."""
    (sequence,) = spec.sequence_fields
    assert sequence.steps is not None
    count, length = len(volume_BR), min(stage + 1, sequence.steps)
    columns = [np.full((count, 1), stage + 1.0), volume_BR]
    if has_load_field(case):
        load = case.load[stage % case.load.shape[0]] * case.base_mva
        columns.append(np.tile(load, (count, 1)))
    window_BWR = np.zeros((count, sequence.steps, inflow_BTR.shape[2]))
    window_BWR[:, sequence.steps - length :] = inflow_BTR[:, stage + 1 - length : stage + 1]
    return {
        "request": np.concatenate(columns, axis=1),
        "sequence_inflow": window_BWR,
        "length_inflow": np.full(count, float(length)),
    }


def served_margin(case: Case, *, spec: PolicySpec) -> Floats:
    """Return how far below its reach each target must stay, float64 [R], to be within it once all are rounded.

    Serving rounds targets to a decimal grid. A plant's own target may be rounded up by half a step, and so may those
    above it, which then leave less water.
    """
    half_step = np.array([0.5 * 10.0 ** -min(digits, 15) for digits in decimals(spec)])
    reach = ReachableMap(case)
    links, above = reach.links.numpy(), half_step
    margin = half_step + SAFE_HM3
    for _ in range(reach.depth):
        above = above @ links
        margin = margin + above
    return margin
