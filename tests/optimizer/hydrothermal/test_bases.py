from collections.abc import Sequence

import numpy as np
import pytest
import torch

from optimizer.hydrothermal import bases as module
from optimizer.hydrothermal.affine import BASIC, LOWER, UPPER, Statuses, UnableToUseBasis
from optimizer.hydrothermal.bases import OptimalBases
from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.vertices import release_program
from optimizer.solvers.highs import WarmSolver
from optimizer.solvers.program import LinearProgram
from policies.recourse.program import Sparse
from tests.helpers.small_case import small_stage


def _bases() -> OptimalBases:
    arrays = small_stage()
    return OptimalBases([release_program(arrays)], moved_rows=arrays.water_rows)


def _releases(*, count: int, seed: int) -> Floats:
    return np.random.default_rng(seed).uniform(0.0, 3.0, (count, small_stage().reservoirs))


def _by_highs(releases: Floats) -> tuple[Floats, list[Statuses]]:
    arrays = small_stage()
    solver = WarmSolver(release_program(arrays), moved_rows=arrays.water_rows)
    costs, statuses = [], []
    for release in releases:
        costs.append(solver.solve(release))
        statuses.append(solver.statuses())
    return np.array(costs), statuses


def _filled(statuses: Sequence[Statuses]) -> OptimalBases:
    bases = _bases()
    for one in statuses:
        bases.add(one)
    return bases


def _proven(bases: OptimalBases, releases: Floats, price: Floats) -> list[bool]:
    found: list[bool] = bases.prove(torch.tensor(releases), price=torch.tensor(price), period=0).tolist()
    return found


def test_a_price_is_proven_where_its_basis_was_found() -> None:
    releases = _releases(count=60, seed=1)
    costs, statuses = _by_highs(releases)
    assert all(_proven(_filled(statuses), releases, costs))


@pytest.mark.parametrize("share", [-1e-6, 1e-6])
def test_a_price_that_is_not_the_cost_is_not_proven(share: float) -> None:
    releases = _releases(count=60, seed=2)
    costs, statuses = _by_highs(releases)
    assert not any(_proven(_filled(statuses), releases, costs * (1.0 + share)))


def test_no_basis_proves_nothing() -> None:
    releases = _releases(count=3, seed=3)
    assert not any(_proven(_bases(), releases, _by_highs(releases)[0]))


def test_a_basis_is_kept_once() -> None:
    statuses = _by_highs(_releases(count=30, seed=4))[1]
    bases = _filled(statuses)
    assert not any(bases.add(one) for one in statuses)
    assert bases.size == len(bases.statuses) < 30
    assert bases.statuses.dtype == np.int8


def _two_equal_plants() -> tuple[OptimalBases, list[Statuses]]:
    """Serve a load by two plants at the same cost of 1, up to 4 and 9: one vertex, a basis before 4 and one after."""
    program = LinearProgram(
        cost=np.ones(2),
        offset=0.0,
        column_lower=np.zeros(2),
        column_upper=np.array([4.0, 9.0]),
        row_lower=np.zeros(1),
        row_upper=np.zeros(1),
        matrix=Sparse.from_entries(1, [(0, 0, 1.0), (0, 1, 1.0)]),
        column_names=("first", "second"),
        row_names=("load",),
    )
    statuses = [np.array(one, dtype=np.int8) for one in ((BASIC, LOWER, LOWER), (UPPER, BASIC, LOWER))]
    return OptimalBases([program], moved_rows=np.zeros(1, np.int32)), statuses


def test_what_one_basis_cannot_prove_its_sibling_does(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = np.array([[1.0], [5.0], [14.0]])
    both, statuses = _two_equal_plants()
    assert [both.add(one) for one in statuses] == [True, True]
    assert _proven(both, loads, loads[:, 0]) == [True, True, False]
    monkeypatch.setattr(module, "SIBLINGS_AT_MOST", 1)
    one_alone, _ = _two_equal_plants()
    assert [one_alone.add(one) for one in statuses] == [True, False]
    assert _proven(one_alone, loads, loads[:, 0]) == [True, False, False]


def test_bases_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NUMBERS_AT_MOST", 200)
    assert 1 <= _filled(_by_highs(_releases(count=30, seed=6))[1]).size < 10


def test_what_is_proven_does_not_depend_on_how_much_is_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known, fresh = _releases(count=2, seed=7), _releases(count=200, seed=8)
    bases, costs = _filled(_by_highs(known)[1]), _by_highs(fresh)[0]
    at_once = _proven(bases, fresh, costs)
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 7)
    assert _proven(bases, fresh, costs) == at_once
    assert 0 < sum(at_once) < len(fresh)


def test_a_basis_that_proves_nothing_is_refused_by_name() -> None:
    wrong = np.full(_bases().system.cost.size, LOWER, dtype=np.int8)
    with pytest.raises(UnableToUseBasis, match="basic columns and rows at the third one, found 0"):
        _bases().add(wrong, where="the third one")
