import pytest

from optimizer.hydrothermal.judge.course import Course
from optimizer.hydrothermal.judge.foresight import no_costs_to_go
from optimizer.hydrothermal.judge.standing import standing_of
from optimizer.simulation_report import SimulatedPolicy
from tests.helpers.small_case import small_case
from tests.helpers.small_judged import STAGES, judged_small, small_cuts

_JUDGED = judged_small(scenarios=30)
_SDDP = _JUDGED.by_cuts("sddp", small_cuts())


def _standing(course: Course, *, lower_bound: float | None = None) -> SimulatedPolicy:
    return standing_of(course, reference=_SDDP, case=small_case(), confidence=0.95, lower_bound=lower_bound)


def test_a_policy_beside_itself_differs_by_nothing() -> None:
    again = _standing(_JUDGED.by_cuts("again", small_cuts()))
    assert (again.paired_difference, again.paired_low, again.paired_high, again.paired_percent_high) == (0, 0, 0, 0)


def test_draining_looks_cheaper_without_the_credit_and_is_dearer_with_it() -> None:
    greedy = no_costs_to_go(stages=STAGES, reservoirs=len(small_case().hydros))
    drained, kept = _standing(_JUDGED.by_cuts("greedy", greedy)), _standing(_SDDP)
    assert drained.mean < kept.mean
    assert drained.terminal_credit > kept.terminal_credit
    assert drained.paired_low is not None
    assert drained.paired_low > 0


def test_figures_with_credit_are_the_sum_of_both_and_percent_is_of_the_references() -> None:
    found = _standing(_JUDGED.foresight(), lower_bound=1000.0)
    assert found.mean_with_credit == pytest.approx(found.mean + found.terminal_credit, rel=1e-12)
    reference = float(_SDDP.cost_with_credit.mean())
    assert found.paired_difference == pytest.approx(found.mean_with_credit - reference, abs=1e-6)
    assert found.mean_with_credit < reference - 1.0
    assert found.paired_high is not None
    assert found.paired_percent_high == pytest.approx(100 * found.paired_high / reference, rel=1e-12)
    assert found.gap_percent == pytest.approx(100 * (found.mean_with_credit / 1000.0 - 1), rel=1e-9)


def test_pairing_narrows_the_interval() -> None:
    found = _standing(_JUDGED.foresight())
    ends = (found.paired_low, found.paired_high, found.unpaired_low, found.unpaired_high)
    low, high, unpaired_low, unpaired_high = (end for end in ends if end is not None)
    assert high - low < 0.5 * (unpaired_high - unpaired_low)


def test_one_scenario_has_a_difference_without_an_interval() -> None:
    alone = judged_small(scenarios=1, seed=5)
    sddp = alone.by_cuts("sddp", small_cuts())
    found = standing_of(alone.foresight(), reference=sddp, case=small_case(), confidence=0.95, lower_bound=None)
    assert found.paired_difference is not None
    assert (found.paired_low, found.paired_percent_high, found.standard_error) == (None, None, None)
