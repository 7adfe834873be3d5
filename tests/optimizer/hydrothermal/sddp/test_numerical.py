from dataclasses import replace

import numpy as np

from optimizer.hydrothermal.sddp.noise import InflowNoise
from optimizer.hydrothermal.sddp.numerical import Range, numerical_report
from tests.helpers.small_case import small_case, small_stage
from tests.helpers.trainers import few_choices


def _found(noise: InflowNoise) -> dict[str, Range]:
    return {one.what: one for one in numerical_report(small_stage(), noise=noise)}


def test_ranges_are_those_of_the_arrays_with_their_names() -> None:
    found = _found(few_choices(stages=3))
    program = small_stage().program
    sizes = np.abs(program.matrix.data)
    assert (found["matrix"].least, found["matrix"].most) == (sizes.min(), sizes.max())
    costs = np.abs(program.cost)
    assert found["objective"].most == costs.max()
    assert found["objective"].most_at == program.column_names[int(costs.argmax())]
    row, column = found["matrix"].most_at.split(", ")
    at = program.row_names.index(row), program.column_names.index(column)
    assert abs(program.dense()[at]) == found["matrix"].most


def test_inflows_count_as_right_hand_sides_and_are_named_by_stage_and_scenario() -> None:
    noise = few_choices(stages=3)
    flow = noise.stages[1].constant.copy()
    flow[2, 0] = 1e9
    wet = replace(noise.stages[1], constant=flow)
    found = _found(InflowNoise(stages=(noise.stages[0], wet, noise.stages[2]), has_memory=False))["right-hand side"]
    assert (found.most, found.most_at) == (1e9 * small_case().volume_per_flow, "water[Upper] of stage 2, scenario 3")
    assert found.is_issue


def test_usual_sizes_are_no_issue() -> None:
    assert not any(one.is_issue for one in _found(few_choices(stages=2)).values())
