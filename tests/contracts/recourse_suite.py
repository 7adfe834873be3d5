"""What every recourse must do, whatever its kind; a test class of an implementation inherits this suite.

An implementation says what its arrays and spec are, draws a feasible batch, and spoils one row of it.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from policies.npz import load_npz, save_npz
from policies.recourse.contract import Applied, Recourse, RecourseRefused
from policies.recourse.load import load_recourse
from policies.spec import ActionSet, PolicySpec

Arrays = dict[str, NDArray[Any]]
Batch = tuple[NDArray[np.float64], Arrays]

BATCH_SIZES = (1, 2, 3, 5, 7, 13)


def take(batch: Batch, rows: NDArray[np.intp]) -> Batch:
    """Return some rows of a batch, in the order asked for."""
    proposed, parameters = batch
    return proposed[rows], {name: values[rows] for name, values in parameters.items()}


def bits(applied: Applied, row: int) -> tuple[object, ...]:
    """Return everything that one row was given, bit by bit."""
    outputs = tuple((name, values[row].tobytes()) for name, values in sorted(applied.outputs.items()))
    return applied.values[row].tobytes(), applied.status[row], outputs, applied.faults.get(row)


class RecourseSuite:
    """Inherit me, and name me `Test…`."""

    kind: str

    def arrays(self) -> Arrays:
        raise NotImplementedError

    def spec(self) -> PolicySpec:
        raise NotImplementedError

    def draw(self, count: int, *, seed: int) -> Batch:
        """Return so many proposals and observations, all feasible."""
        raise NotImplementedError

    def spoil(self, batch: Batch, row: int) -> None:
        """Make one row infeasible, in place, all of its numbers finite."""
        raise NotImplementedError

    def load(self) -> Recourse:
        return load_recourse(self.kind, load_npz(save_npz(self.arrays())), self.spec())

    def applied(self, batch: Batch) -> Applied:
        return self.load().apply(batch[0], parameters=batch[1])

    def test_values_and_outputs_have_the_shapes_that_the_spec_names(self) -> None:
        applied = self.applied(self.draw(6, seed=1))
        recourse = self.spec().recourse
        assert recourse is not None
        assert applied.values.shape == (6, len(self.spec().actions.names))
        assert applied.values.dtype == np.float64
        found = {name: (values.shape, values.dtype) for name, values in applied.outputs.items()}
        sizes = {output.name: (6, len(output.names)) if output.names else (6,) for output in recourse.outputs}
        assert found == {name: (size, np.dtype(np.float64)) for name, size in sizes.items()}
        assert self.load().outputs == recourse.outputs

    def test_a_feasible_row_has_a_status_finite_values_and_no_fault(self) -> None:
        applied = self.applied(self.draw(20, seed=2))
        assert not applied.faults
        assert all(applied.status)
        assert np.isfinite(applied.values).all()
        assert all(np.isfinite(values).all() for values in applied.outputs.values())

    @pytest.mark.parametrize("size", BATCH_SIZES)
    def test_a_row_is_given_the_same_bits_in_any_batch(self, size: int) -> None:
        batch, recourse = self.draw(26, seed=3), self.load()
        whole = recourse.apply(batch[0], parameters=batch[1])
        for start in range(0, 26, size):
            rows = np.arange(start, min(start + size, 26))
            proposed, parameters = take(batch, rows)
            part = recourse.apply(proposed, parameters=parameters)
            assert [bits(part, at) for at in range(rows.size)] == [bits(whole, row) for row in rows.tolist()]

    def test_a_row_is_given_the_same_bits_in_any_order_and_after_any_history(self) -> None:
        batch = self.draw(200, seed=4)
        order = np.random.default_rng(5).permutation(200)
        used = self.load()
        other = self.draw(30, seed=6)
        self.spoil(other, 11)
        used.apply(other[0], parameters=other[1])
        proposed, parameters = take(batch, order)
        shuffled, straight = used.apply(proposed, parameters=parameters), self.applied(batch)
        assert [bits(shuffled, at) for at in range(200)] == [bits(straight, row) for row in order.tolist()]

    def test_an_infeasible_row_is_a_fault_and_its_neighbors_do_not_notice(self) -> None:
        batch, spoiled = self.draw(9, seed=7), self.draw(9, seed=7)
        self.spoil(spoiled, 4)
        clean, found = self.applied(batch), self.applied(spoiled)
        assert set(found.faults) == {4}
        assert "expected" in found.faults[4]
        assert "found" in found.faults[4]
        assert found.status[4] == "infeasible"
        assert np.isnan(found.values[4]).all()
        assert all(np.isnan(values[4]).all() for values in found.outputs.values())
        assert [bits(found, row) for row in range(9) if row != 4] == [bits(clean, row) for row in range(9) if row != 4]

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_proposal_that_is_not_finite_is_a_fault_of_its_row_alone(self, value: float) -> None:
        batch, spoiled = self.draw(5, seed=8), self.draw(5, seed=8)
        spoiled[0][2, 0] = value
        clean, found = self.applied(batch), self.applied(spoiled)
        assert set(found.faults) == {2}
        assert "proposed:0" in found.faults[2]
        assert found.status[2] == "not_finite"
        assert [bits(found, row) for row in (0, 1, 3, 4)] == [bits(clean, row) for row in (0, 1, 3, 4)]

    def test_the_inputs_are_left_as_they_were(self) -> None:
        batch, same = self.draw(5, seed=9), self.draw(5, seed=9)
        self.applied(batch)
        assert np.array_equal(batch[0], same[0])
        assert all(np.array_equal(values, same[1][name]) for name, values in batch[1].items())

    def test_a_batch_of_no_rows_is_applied(self) -> None:
        applied = self.applied(take(self.draw(2, seed=10), np.arange(0)))
        assert applied.values.shape == (0, len(self.spec().actions.names))
        assert applied.status == ()

    def test_arrays_of_other_sizes_are_a_programming_error(self) -> None:
        proposed, parameters = self.draw(3, seed=11)
        with pytest.raises(ValueError, match="proposed"):
            self.load().apply(proposed[:, :-1], parameters=parameters)

    def test_each_array_that_is_needed_is_missed_by_name(self) -> None:
        arrays = self.arrays()
        for name in self.needed(arrays):
            rest = {key: value for key, value in arrays.items() if key != name}
            with pytest.raises(RecourseRefused, match=name):
                load_recourse(self.kind, rest, self.spec())

    def needed(self, arrays: Arrays) -> list[str]:
        """Name the arrays without which the recourse must be refused."""
        return sorted(arrays)

    def test_a_kind_that_the_arrays_do_not_name_is_refused(self) -> None:
        with pytest.raises(RecourseRefused, match="one kind of recourse"):
            load_recourse(self.kind, self.arrays() | {"kind": np.array("other")}, self.spec())

    def test_a_spec_without_quantities_is_refused(self) -> None:
        choice = ActionSet(kind="choice", ids=("left", "right"))
        spec = PolicySpec(domain="d", fields=self.spec().fields, actions=choice, recourse=self.spec().recourse)
        with pytest.raises(RecourseRefused, match="quantities"):
            load_recourse(self.kind, self.arrays(), spec)
