from typing import Literal, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.choose import keyed, unit_hashes
from policies.errors import ContentRefused
from policies.evaluation.scored import (
    Scored,
    UnableToScore,
    hashes_of,
    refuse_deterministic,
    scored_from_columns,
)


class Columns(TypedDict):
    reward: NDArray[np.float64]
    propensity: NDArray[np.float64]
    target: NDArray[np.float64]


def columns(count: int = 20) -> Columns:
    return {"reward": np.zeros(count), "propensity": np.full(count, 0.5), "target": np.full(count, 0.25)}


def test_the_weight_is_target_over_propensity() -> None:
    assert Scored(**columns()).weight.tolist() == [0.5] * 20


def test_no_rows_are_a_log_too() -> None:
    assert len(Scored(**columns(0))) == 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("propensity", 0.0, r"propensity must lie in \(0, 1\], found 0.0 in row 17.*simulate"),
        ("propensity", -0.1, r"propensity must lie in \(0, 1\], found -0.1 in row 17"),
        ("propensity", 1.0 + 1e-8, r"propensity must lie in \(0, 1\], found 1.00000001 in row 17"),
        ("propensity", np.nan, r"propensity must lie in \(0, 1\], found nan in row 17"),
        ("target", -1e-3, r"target probability must lie in \[0, 1\], found -0.001 in row 17"),
        ("target", np.inf, r"target probability must lie in \[0, 1\], found inf in row 17"),
        ("reward", np.nan, "reward must be finite .* found nan in row 17"),
        ("reward", -np.inf, "reward must be finite .* found -inf in row 17"),
    ],
)
def test_a_bad_value_is_refused_with_its_row(
    name: Literal["reward", "propensity", "target"], value: float, message: str
) -> None:
    given = columns()
    given[name][17] = value
    with pytest.raises(UnableToScore, match=message) as caught:
        Scored(**given)
    assert isinstance(caught.value, ContentRefused)


def test_the_row_is_named_beyond_the_first_chunk() -> None:
    given = columns(40_000)
    given["propensity"][[33_333, 39_000]] = 0.0
    with pytest.raises(UnableToScore, match="in row 33333"):
        Scored(**given)


def test_probabilities_may_round_above_one() -> None:
    given = columns()
    given["target"][:] = 1.0 + 1e-10
    given["propensity"][:] = 1.0
    assert Scored(**given).weight.max() < 1.0 + 1e-9


def test_a_weight_whose_square_overflows_is_refused() -> None:
    given = columns()
    given["propensity"][3] = 1e-200
    with pytest.raises(UnableToScore, match=r"importance weight .* in row 3"):
        Scored(**given)


def test_a_prediction_that_is_not_finite_is_refused() -> None:
    prediction = np.zeros(20)
    prediction[4] = np.nan
    with pytest.raises(UnableToScore, match=r"q_target must be finite .* in row 4"):
        Scored(**columns(), q_logged=np.zeros(20), q_target=prediction)


def test_columns_of_unequal_length_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="target must be flat and as long as reward"):
        Scored(reward=np.ones(20), propensity=np.ones(20), target=np.ones(19))
    with pytest.raises(ValueError, match="come together"):
        Scored(**columns(), q_logged=np.zeros(20))
    with pytest.raises(ValueError, match="uint64"):
        Scored(**columns(), unit=np.zeros(20, dtype=np.int64))


def test_a_golden_npz_is_a_scored() -> None:
    half = np.full(3, 0.5)
    scored = scored_from_columns(
        {
            "reward": np.array([0, 1, 1], dtype=np.int8),
            "pscore": half,
            "p_eval": half / 2,
            "q_logged": half,
            "q_pi": half / 5,
            "action": np.array([1, 2, 3]),
            "unit": np.array(["ann", "bob", "ann"]),
        }
    )
    assert scored.unit is not None
    assert scored.q_target is not None
    assert scored.reward.tolist() == [0.0, 1.0, 1.0]
    assert scored.q_target.tolist() == [0.1, 0.1, 0.1]
    assert scored.unit.tolist() == [keyed("shard", b"", unit) for unit in ("ann", "bob", "ann")]


def test_a_missing_propensity_is_never_taken_as_one() -> None:
    with pytest.raises(UnableToScore, match=r"missing: pscore\. A missing propensity is never taken as 1"):
        scored_from_columns({"reward": np.ones(2), "p_eval": np.ones(2)})


def test_one_prediction_column_without_the_other_is_refused() -> None:
    given = {"reward": np.ones(2), "pscore": np.ones(2), "p_eval": np.ones(2), "q_pi": np.ones(2)}
    with pytest.raises(UnableToScore, match="q_logged and q_pi come together"):
        scored_from_columns(given)


def test_named_columns_must_be_numbers_of_one_length() -> None:
    half = np.full(2, 0.5)
    with pytest.raises(UnableToScore, match="column pscore must be a flat column of numbers"):
        scored_from_columns({"reward": half, "pscore": np.array(["a", "b"]), "p_eval": half})
    with pytest.raises(UnableToScore, match="one length, found reward 2, pscore 3, p_eval 2 rows"):
        scored_from_columns({"reward": half, "pscore": np.full(3, 0.5), "p_eval": half})
    with pytest.raises(UnableToScore, match="unit 1"):
        scored_from_columns({"reward": half, "pscore": half, "p_eval": half, "unit": np.array([1])})


def test_a_deterministic_log_is_refused_and_points_to_simulate() -> None:
    given = {"reward": np.ones(3), "pscore": np.ones(3), "p_eval": np.array([1.0, 0.3, 1.0])}
    with pytest.raises(UnableToScore, match=r"propensity 1 in all 3 rows .* 0\.3 in row 1: .* simulate"):
        scored_from_columns(given)


def test_a_log_of_single_choices_is_not_deterministic() -> None:
    refuse_deterministic(np.ones(3), target=np.ones(3))
    refuse_deterministic(np.array([1.0, 0.5]), target=np.array([0.2, 0.2]))


def test_whole_number_units_are_hashed_as_decimal_text() -> None:
    assert hashes_of(np.array([7, 12, 7])).tolist() == unit_hashes(["7", "12", "7"]).tolist()
    assert hashes_of(np.array([7.0, 12.0, 7.0])).tolist() == unit_hashes(["7", "12", "7"]).tolist()
    assert hashes_of(np.array([b"ann"])).tolist() == hashes_of(np.array(["ann"])).tolist()


def test_fractional_units_are_refused() -> None:
    with pytest.raises(UnableToScore, match="unit must be a flat column of texts or whole numbers"):
        hashes_of(np.array([1.5]))
    with pytest.raises(UnableToScore, match="unit must be a text or a whole number, found None"):
        hashes_of(np.array([None], dtype=object))
