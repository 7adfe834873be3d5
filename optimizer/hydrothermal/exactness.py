"""What of the cache's prices is proven on given paths, and by how much the rest may be off: HiGHS says.

Every stage has been solved by the judge already (`operate.py`), so the certificates are held against it too.
"""

# B path, T stage, R reservoir

from dataclasses import dataclass

import numpy as np
import torch

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.operate import Operation
from optimizer.hydrothermal.vertices import DualVertices, violation_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Exactness:
    """Say how the cached prices of stages compare with HiGHS's costs.

    Attributes:
        certified_share: of the stages, those whose price is proven to be the cost.
        certified_largest_gap: the largest difference among them, either way, as a share of the cost.
        uncertified_largest_gap: the largest shortfall of the others, as a share of the cost; zero where there is none.
    """

    certified_share: float
    certified_largest_gap: float
    uncertified_largest_gap: float


def exactness(vertices: DualVertices, operation: Operation, *, volume_BTR: Floats, inflow_BTR: Floats) -> Exactness:
    """Compare the cache with an operation to the end of its horizon.

    Args:
        vertices: the cache of the operated case.
        operation: as `operate` returned it for these volumes and inflows.
        volume_BTR: float64 [B, T + 1, R], the volumes before the first stage and after each one.
        inflow_BTR: float64 [B, T, R], in the case's flow.
    """
    arrays = vertices.arrays
    release_BTR = arrays.water(volume_BTR[:, :-1], inflow_BR=inflow_BTR) - volume_BTR[:, 1:]
    after = torch.tensor(volume_BTR[:, 1:])
    violations = [
        violation_cost(arrays, after[:, :-1], is_last=False),
        violation_cost(arrays, after[:, -1:], is_last=True),
    ]
    cost_BT = operation.cost - torch.cat(violations, dim=1).numpy()
    gap_BT, is_certified = np.empty_like(cost_BT), np.empty(cost_BT.shape, dtype=np.bool_)
    for period in range(min(vertices.periods, cost_BT.shape[1])):
        part = slice(period, None, vertices.periods)
        shape = cost_BT[:, part].shape
        release = torch.tensor(release_BTR[:, part].reshape(-1, arrays.reservoirs), device=vertices.device)
        bound = vertices.evaluate(release, period=period)[0].cpu().numpy().reshape(shape)
        gap_BT[:, part] = (cost_BT[:, part] - bound) / np.maximum(np.abs(cost_BT[:, part]), 1.0)
        is_certified[:, part] = vertices.certify(release, period=period).cpu().numpy().reshape(shape)
    return Exactness(
        certified_share=float(is_certified.mean()),
        certified_largest_gap=float(np.abs(gap_BT[is_certified]).max(initial=0.0)),
        uncertified_largest_gap=float(gap_BT[~is_certified].max(initial=0.0)),
    )
