import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.hydrothermal.sddp.risk import Risk

COST = np.array([30.0, 10.0, 20.0, 40.0])
PROBABILITY = np.array([0.1, 0.4, 0.3, 0.2])


def _value(expectation_weight: float, tail_share: float) -> float:
    weights = Risk(expectation_weight=expectation_weight, tail_share=tail_share).weights(
        COST, probability_S=PROBABILITY
    )
    return float(weights @ COST)


@pytest.mark.parametrize(("expectation_weight", "tail_share"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.4, 1.0)])
def test_full_weight_or_a_full_tail_is_the_mean(expectation_weight: float, tail_share: float) -> None:
    assert _value(expectation_weight, tail_share) == pytest.approx(PROBABILITY @ COST, rel=1e-15)


def test_an_empty_tail_is_the_worst_case() -> None:
    assert _value(0.0, 0.0) == 40.0


def test_the_worst_case_has_a_probability() -> None:
    weights = Risk(expectation_weight=0.0, tail_share=0.0).weights(COST, probability_S=np.array([0.5, 0.5, 0.0, 0.0]))
    assert weights.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_the_tail_takes_part_of_the_scenario_at_its_edge() -> None:
    """The worst 25 %: all 20 % of 40, then 5 of the 10 % of 30."""
    assert _value(0.0, 0.25) == pytest.approx((0.2 * 40 + 0.05 * 30) / 0.25, rel=1e-12)


def test_the_two_measures_mix_by_their_weights() -> None:
    assert _value(0.3, 0.25) == pytest.approx(0.3 * _value(1.0, 1.0) + 0.7 * _value(0.0, 0.25), rel=1e-12)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.01, 1.0)), min_size=1, max_size=8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_weights_are_probabilities_and_their_mean_is_never_below_the_mean(
    outcomes: list[tuple[float, float]], expectation_weight: float, tail_share: float
) -> None:
    cost = np.array([cost for cost, _ in outcomes])
    probability = np.array([share for _, share in outcomes]) / sum(share for _, share in outcomes)
    weights = Risk(expectation_weight=expectation_weight, tail_share=tail_share).weights(
        cost, probability_S=probability
    )
    assert weights.sum() == pytest.approx(1.0, rel=1e-9)
    assert (weights >= 0.0).all()
    assert weights @ cost >= probability @ cost - 1e-9 * np.abs(cost).max()


@pytest.mark.parametrize("name", ["expectation_weight", "tail_share"])
def test_numbers_outside_are_errors_of_the_program(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\], found 1.5"):
        Risk(**{name: 1.5})
