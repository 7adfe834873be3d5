from collections.abc import Callable

import numpy as np
import pytest

from optimizer.hydrothermal.sddp.cuts import CostToGo
from optimizer.hydrothermal.sddp.program import REBUILT, StageProgram
from optimizer.solvers.highs import UnableToSolve, WarmSolver
from tests.helpers.small_case import draw_states, small_case, small_stage


def _cuts(count: int, *, seed: int, has_memory: bool = False) -> CostToGo:
    generator = np.random.default_rng(seed)
    dimension = 8 if has_memory else 4
    return CostToGo(
        value=generator.uniform(5e3, 2e4, count),
        slope=-generator.uniform(10.0, 300.0, (count, dimension)),
        state=generator.uniform(0.0, 20.0, (count, dimension)),
        reservoirs=4,
    )


def _joined(one: CostToGo, other: CostToGo) -> CostToGo:
    value, slope, state = (
        np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("value", "slope", "state")
    )
    return CostToGo(value=value, slope=slope, state=state, reservoirs=4)


def _solve(program: StageProgram, seed: int = 3) -> tuple[float, np.ndarray]:
    volume, inflow = (one[0] for one in draw_states(small_case(), count=1, seed=seed))
    found = program.solve(small_stage().water(volume, inflow_BR=inflow), inflow_R=inflow, where=lambda: "here")
    return found, inflow


def _program(cuts: CostToGo) -> StageProgram:
    return StageProgram(small_stage(), stage=2, is_last=False, cost_to_go=cuts)


@pytest.mark.parametrize("has_memory", [False, True])
def test_the_cost_is_that_of_the_stage_and_of_the_highest_cut_at_its_end(has_memory: bool) -> None:
    cuts = _cuts(12, seed=1, has_memory=has_memory)
    program = _program(cuts)
    found, inflow = _solve(program)
    columns, to_go = program.columns()
    volume = columns[small_stage().volume_columns]
    own = columns @ small_stage().program.cost + small_stage().program.offset
    assert found == pytest.approx(own + to_go, rel=1e-10)
    assert to_go == pytest.approx(cuts.evaluate(volume[None], inflow_BR=inflow[None])[0], rel=1e-9)


@pytest.mark.parametrize("has_memory", [False, True])
def test_gradients_are_finite_differences(has_memory: bool) -> None:
    program = _program(_cuts(12, seed=2, has_memory=has_memory))
    volume, inflow = (one[0] for one in draw_states(small_case(), count=1, seed=4))

    def cost(v: np.ndarray, w: np.ndarray) -> float:
        return program.solve(small_stage().water(v, inflow_BR=w), inflow_R=w, where=lambda: "here")

    cost(volume, inflow)
    by_volume, by_inflow = program.gradients()
    assert (by_inflow is not None) == has_memory
    for at in range(4):
        step = np.zeros(4)
        step[at] = 1e-4
        for sign in (1.0, -1.0):  # a subgradient never promises less than a step costs
            assert cost(volume + sign * step, inflow) >= cost(volume, inflow) + sign * by_volume[at] * 1e-4 - 1e-6
            if by_inflow is not None:
                moved = cost(volume, inflow + sign * step)
                assert moved >= cost(volume, inflow) + sign * by_inflow[at] * 1e-4 - 1e-6


def test_cuts_that_are_added_and_dropped_leave_the_program_of_those_that_remain() -> None:
    first, more = _cuts(6, seed=5), _cuts(6, seed=6)
    whole = _joined(first, more)
    program = _program(first)
    _solve(program)
    program.add_cuts(more)
    assert _solve(program)[0] == pytest.approx(_solve(_program(whole))[0], rel=1e-10)
    keep = np.arange(12) % 2 == 0
    program.drop_cuts(keep)
    kept = CostToGo(value=whole.value[keep], slope=whole.slope[keep], state=whole.state[keep], reservoirs=4)
    assert _solve(program)[0] == pytest.approx(_solve(_program(kept))[0], rel=1e-10)
    program.rebuild(first)
    assert _solve(program)[0] == pytest.approx(_solve(_program(first))[0], rel=1e-10)
    assert program.solves == 4


def _failing(times: int, real: Callable[..., float]) -> Callable[..., float]:
    left = [times]

    def solve(self: WarmSolver, *given: object, **named: object) -> float:
        left[0] -= 1
        if left[0] >= 0:
            raise UnableToSolve("no rung helped")
        return real(self, *given, **named)

    return solve


def test_a_model_that_no_rung_helps_is_made_anew_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(_cuts(12, seed=7))
    expected = _solve(program)[0]
    monkeypatch.setattr(WarmSolver, "solve", _failing(1, WarmSolver.solve))
    assert _solve(program)[0] == pytest.approx(expected, rel=1e-10)
    assert program.recoveries == {REBUILT: 1}


def test_a_program_that_no_new_model_helps_either_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(_cuts(12, seed=8))
    monkeypatch.setattr(WarmSolver, "solve", _failing(2, WarmSolver.solve))
    with pytest.raises(UnableToSolve):
        _solve(program)
