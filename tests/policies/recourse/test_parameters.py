import numpy as np
import pytest

from policies.recourse.contract import RecourseRefused
from policies.recourse.parameters import ParameterReader
from policies.spec import ActionSet, Field, PolicySpec

SPEC = PolicySpec(
    domain="dam",
    fields=(
        Field(name="inflow", units="m3/s", width=2, steps=3, lower=0.0, upper=9.0),
        Field(name="load", units="MW", lower=0.0, upper=9.0),
        Field(name="volume", units="hm3", width=2, lower=0.0, upper=9.0),
    ),
    actions=ActionSet(kind="quantity", names=("a", "b"), units=("hm3", "hm3"), lower=(0.0, 0.0), upper=(9.0, 9.0)),
)
PROPOSED = np.array([[0.1, 0.2], [0.3, 0.4]])
PARAMETERS = {
    "request": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    "sequence_inflow": np.arange(12.0).reshape(2, 3, 2),
    "length_inflow": np.array([3, 1]),
}


def test_columns_last_steps_and_proposals_are_read_in_the_order_of_the_names() -> None:
    names = ("request:volume:1", "proposed:1", "sequence:inflow:last:0", "request:load", "sequence:inflow:last:1")
    found = ParameterReader(names, spec=SPEC).read(PROPOSED, parameters=PARAMETERS)
    assert found.tolist() == [[3.0, 0.2, 4.0, 1.0, 5.0], [6.0, 0.4, 10.0, 4.0, 11.0]]


def test_a_sequence_of_no_steps_has_no_last_one() -> None:
    parameters = PARAMETERS | {"length_inflow": np.array([0, 2])}
    found = ParameterReader(("sequence:inflow:last:0",), spec=SPEC).read(PROPOSED, parameters=parameters)
    assert np.array_equal(found, [[np.nan], [10.0]], equal_nan=True)


def test_what_is_not_finite_is_described_by_row_and_name() -> None:
    names = ("proposed:0", "proposed:1")
    proposed = np.array([[1.0, np.nan], [2.0, 3.0], [np.inf, -np.inf]])
    found, faults = ParameterReader(names, spec=SPEC).read_sound(proposed, parameters={})
    assert found.tolist() == [[1.0, 0.0], [2.0, 3.0], [0.0, 0.0]]
    assert faults == {
        0: "expected finite parameters, found proposed:1 = nan",
        2: "expected finite parameters, found proposed:0 = inf, proposed:1 = -inf",
    }


@pytest.mark.parametrize(
    "name",
    [
        "load",
        "request:stage",
        "request:volume",
        "request:volume:2",
        "proposed:2",
        "proposed:-1",
        "proposed:x",
        "sequence:inflow",
        "sequence:inflow:first:0",
        "sequence:inflow:last:2",
        "sequence:volume:last:0",
        "",
    ],
)
def test_a_name_that_the_spec_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(RecourseRefused, match="columns load, volume:0, volume:1"):
        ParameterReader((name,), spec=SPEC)


@pytest.mark.parametrize("name", ["request:load", "sequence:inflow:last:0"])
def test_arrays_of_another_number_of_rows_are_a_programming_error(name: str) -> None:
    with pytest.raises(ValueError, match="expected 1 rows of each array, found 2"):
        ParameterReader((name,), spec=SPEC).read(PROPOSED[:1], parameters=PARAMETERS | {"length_inflow": np.ones(2)})
