from pathlib import Path

import numpy as np

from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.spec import deficit_names, policy_spec
from optimizer.hydrothermal.stage import compile_stage
from tests.helpers.small_case import small_case, small_stage


def test_targets_are_bounded_by_the_reservoirs_and_the_fallback_lies_between() -> None:
    actions = policy_spec(small_case(), stages=12, history=1).actions
    assert actions.names == small_case().hydro_names
    assert actions.upper == tuple(small_case().volume_max)
    assert actions.fallback == tuple(0.5 * small_case().volume_max)


def test_floods_that_a_law_draws_are_no_typing_errors(shared_data: Path) -> None:
    case = load_case(shared_data / "hydrothermal" / "msppy_brazil", stage_hours=730.0)
    (inflow,) = policy_spec(case, stages=120, history=1).sequence_fields
    drawn = case.inflow.draw(500, stages=120, generator=np.random.default_rng(0))
    assert (drawn.max(axis=(0, 1)) < 0.5 * np.array(inflow.uppers)).all()


def test_deficits_are_named_as_the_program_orders_them() -> None:
    assert len(deficit_names(small_case())) == small_stage().columns["deficit"].size


def test_tiers_are_named_where_there_are_several(shared_data: Path) -> None:
    case = load_case(shared_data / "hydrothermal" / "msppy_brazil", stage_hours=730.0)
    assert len(deficit_names(case)) == compile_stage(case).columns["deficit"].size
    assert deficit_names(case)[1].endswith(", tier 2")
