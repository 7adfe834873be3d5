import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.networks.quantity import BoundedQuantities


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_quantities_stay_within_their_bounds(score: float, lower: float, span: float) -> None:
    upper = lower + span
    found = float(BoundedQuantities((lower,), (upper,))(torch.tensor([[score]]))[0, 0])
    rounding = 1e-12 * max(1.0, abs(lower), abs(upper))

    assert lower - rounding <= found <= upper + rounding


def test_quantities_are_float64_and_rise_with_their_score() -> None:
    found = BoundedQuantities((0.0,), (8.0,))(torch.tensor([[-1.0], [0.0], [1.0]]))

    assert found.dtype == torch.float64
    assert found[0, 0] < found[1, 0] < found[2, 0]
    assert float(found[1, 0]) == 4.0
