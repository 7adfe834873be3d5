from pathlib import Path

import pytest

from penstock.arguments import FileMissing, attach_values, bounds, existing, name_and_rest, number, words_after
from policies.errors import UsageProblem


def test_a_negative_value_is_attached_to_its_flag() -> None:
    assert attach_values(["--reward-bounds", "-2,3", "--json"]) == ["--reward-bounds=-2,3", "--json"]


def test_a_flag_is_not_taken_for_a_value() -> None:
    assert attach_values(["--reward-bounds", "--json"]) == ["--reward-bounds", "--json"]


def test_a_reference_may_hold_equals_signs() -> None:
    assert name_and_rest("a=b=c", flag="--target", form="NAME=REF") == ("a", "b=c")


@pytest.mark.parametrize("text", ["a", "=b", "a=", ""])
def test_a_half_pair_is_a_usage_problem(text: str) -> None:
    with pytest.raises(UsageProblem, match="NAME=REF"):
        name_and_rest(text, flag="--target", form="NAME=REF")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "one", ""])
def test_what_is_not_a_finite_number_is_a_usage_problem(text: str) -> None:
    with pytest.raises(UsageProblem, match="--clip must be a finite number"):
        number(text, flag="--clip")


@pytest.mark.parametrize("text", ["1", "1,0", "0,0", "0,1,2", "0,inf", "a,b"])
def test_bounds_are_two_ascending_numbers(text: str) -> None:
    with pytest.raises(UsageProblem, match="--reward-bounds"):
        bounds(text, flag="--reward-bounds")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"expected a log at .*log\.parquet"):
        existing(tmp_path / "log.parquet", what="a log")


def test_words_of_another_verb_are_none() -> None:
    assert words_after("train", ["evaluate", "train"]) == []
