import numpy as np

from optimizer.hydrothermal.value import ValueCuts


def test_the_value_is_the_largest_cut_and_never_below_the_floor() -> None:
    cuts = ValueCuts(intercept=np.array([10.0, 4.0]), slope=np.array([[-1.0, 0.0], [0.0, -0.25]]), floor=1.0)
    volume = np.array([[0.0, 0.0], [8.0, 4.0], [8.0, 40.0]])
    assert cuts.evaluate(volume).tolist() == [10.0, 3.0, 2.0]
    assert cuts.evaluate(np.array([[20.0, 40.0]])).tolist() == [1.0]


def test_without_cuts_the_value_is_the_floor() -> None:
    assert ValueCuts(intercept=np.zeros(0), slope=np.zeros((0, 2))).evaluate(np.ones((3, 2))).tolist() == [0.0] * 3
