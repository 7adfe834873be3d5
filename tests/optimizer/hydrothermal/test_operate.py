import numpy as np
import pytest

from optimizer.hydrothermal.deterministic import DeterministicEquivalent
from optimizer.hydrothermal.operate import operate
from optimizer.solvers.highs import UnableToSolve
from tests.helpers.small_case import small_case, small_stage, table_of

STAGES = 6


def _foresight() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the volumes that foresight goes through, its stage costs, and the paths."""
    drawn = table_of(small_case()).draw(2, stages=STAGES, generator=np.random.default_rng(2))
    inflow = table_of(small_case()).paths(drawn)
    found = DeterministicEquivalent(small_stage(), stages=STAGES).solve(inflow)
    after = np.clip(found.columns[:, :, small_stage().volume_columns], 0.0, small_case().volume_max)
    first = np.broadcast_to(small_case().volume_initial, (2, 1, 4))
    return np.concatenate([first, after], axis=1), found.stage_costs, inflow


def test_the_volumes_of_foresight_cost_what_foresight_costs() -> None:
    volumes, expected, inflow = _foresight()
    found = operate(small_stage(), volumes, inflow_BTR=inflow)
    np.testing.assert_allclose(found.cost, expected, rtol=1e-7)
    assert found.water_values.shape == (2, STAGES, 4)


def test_the_last_stage_is_that_of_the_horizon() -> None:
    volumes, _, inflow = _foresight()
    volumes[:, -1, 3] = 2.0  # the lake holds less than its final volume of 5, at 900 for each unit that lacks
    whole = operate(small_stage(), volumes, inflow_BTR=inflow)
    part = operate(small_stage(), volumes, inflow_BTR=inflow, horizon=STAGES + 1)
    np.testing.assert_allclose((whole.cost - part.cost)[:, -1], 3.0 * 900.0, rtol=1e-6)


def test_volumes_out_of_reach_are_named_by_path_and_stage() -> None:
    volumes, _, inflow = _foresight()
    volumes[1, 2] = small_case().volume_max
    volumes[1, 1] = 0.0
    inflow[1, 1] = 0.0
    with pytest.raises(UnableToSolve, match="stage 2 of path 2"):
        operate(small_stage(), volumes, inflow_BTR=inflow)
