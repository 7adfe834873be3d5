from bench.sddp import measure, show
from tests.helpers.small_case import small_case


def test_what_is_measured_is_a_training_of_the_case() -> None:
    found = measure(small_case(), stages=3, iterations=4)
    assert (found["iterations"], found["solves"]) == (4, 4 * (3 + 2 * 6 + 6))
    assert 0.0 < found["highs_share"] < 1.0
    assert [one["iteration"] for one in found["bounds"]] == [1, 4]
    assert "4 iterations, 84 solves" in show(found)
