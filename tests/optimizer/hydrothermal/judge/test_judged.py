import numpy as np

from optimizer.hydrothermal.judge.artifact import ServedPolicy
from optimizer.hydrothermal.sddp.policy import CutPolicy
from tests.helpers.small_case import small_case, small_stage
from tests.helpers.small_judged import REPORTED, STAGES, artifact_keeping, judged_small, small_cuts


def test_everyone_is_credited_by_the_one_value_function_at_what_is_left() -> None:
    judged = judged_small()
    served = judged.served("kept", ServedPolicy(artifact_keeping(0.3), case=small_case(), stages=STAGES))
    for course in (served, judged.by_cuts("sddp", small_cuts()), judged.foresight()):
        expected = small_cuts()[REPORTED - 1].evaluate(course.volume[:, -1])
        np.testing.assert_array_equal(course.credit, expected)
        assert course.stage_costs.shape == (12, REPORTED)


def test_sddps_course_is_that_of_its_own_simulation() -> None:
    judged = judged_small()
    expected = CutPolicy(small_stage(), cuts=small_cuts()).simulate(judged.inflow)
    course = judged.by_cuts("sddp", small_cuts())
    np.testing.assert_allclose(course.stage_costs, expected.costs, rtol=1e-9)
    np.testing.assert_allclose(course.volume, expected.volumes[:, 1:], atol=1e-9)


def test_nothing_is_left_to_credit_after_the_whole_horizon() -> None:
    assert (judged_small(reported=STAGES).by_cuts("sddp", small_cuts()).credit == 0.0).all()
