import numpy as np
import pyomo.environ as pyo
import pytest

from optimizer.hydrothermal.model import COLUMN_UNITS, ROW_UNITS, has_volume_floor, least_volume, stage_model
from tests.helpers.small_case import small_case


def test_blocks_are_the_components_of_the_model() -> None:
    model = stage_model(small_case())
    assert {one.name for one in model.component_objects(pyo.Var)} == set(COLUMN_UNITS)
    assert {one.name for one in model.component_objects(pyo.Constraint)} == set(ROW_UNITS)


def test_the_water_balance_of_middle_reads_as_it_is_written() -> None:
    """Upper's turbined water arrives, its spill does not; K = 0.0036 · 168."""
    model = stage_model(
        small_case(), volume_before=np.array([1.0, 2.0, 0.0, 4.0]), inflow=np.array([5.0, 10.0, 7.0, 8.0])
    )
    values = {"volume": 1.5, "turbined": 3.0, "spilled": 0.25}
    for block, value in values.items():
        for variable in getattr(model, block).values():
            variable.set_value(value)
    row = model.water["Middle"]
    assert pyo.value(row.body) - pyo.value(row.upper) == pytest.approx(
        1.5 + 0.6048 * 3.0 + 0.25 - 0.6048 * 3.0 - (2.0 + 0.6048 * 10.0), rel=1e-12
    )


def test_a_least_volume_is_soft_and_the_final_one_counts_in_the_last_stage_alone() -> None:
    upper, lake = small_case().hydros[0], small_case().hydros[3]
    assert (has_volume_floor(upper), has_volume_floor(lake)) == (False, True)
    assert (least_volume(lake, is_last=False), least_volume(lake, is_last=True)) == (1.5, 5.0)


def test_a_state_is_a_parameter_and_may_be_moved() -> None:
    model = stage_model(small_case())
    model.volume_before["Upper"] = 12.0
    assert pyo.value(model.water["Upper"].upper) == 12.0
