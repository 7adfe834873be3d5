from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.operate import operate
from optimizer.hydrothermal.problem import draw_paths
from optimizer.hydrothermal.reach import FULLEST, ReachableMap, stretched_sigmoid
from optimizer.hydrothermal.stage import StageArrays
from tests.helpers.hydrothermal_policies import bolivia
from tests.helpers.small_case import draw_states, small_case, small_stage


def _by_hand(case: Case, water: list[float], fraction: list[float]) -> list[float]:
    """The definition, plant by plant in the order of the water."""
    leaving, targets = [0.0] * len(water), [0.0] * len(water)
    for place in case.upstream_first:
        arrived = water[place]
        for above, hydro in enumerate(case.hydros):
            if hydro.spill_to == place and hydro.turbine_to in (place, None):
                arrived += leaving[above]
            elif hydro.turbine_to == place and hydro.spill_to is None:
                arrived += min(case.volume_per_flow * hydro.turbine_max, leaving[above])
        targets[place] = fraction[place] * min(case.hydros[place].volume_max, arrived)
        leaving[place] = max(0.0, arrived - targets[place])
    return targets


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_the_map_is_its_definition_plant_by_plant(seed: int) -> None:
    case, generator = small_case(), np.random.default_rng(seed)
    water = generator.uniform(0.0, 1.5, (3, 4)) * np.maximum(case.volume_max, 1.0)
    fraction = generator.beta(0.5, 0.5, (3, 4))
    found = ReachableMap(case)(torch.tensor(water), torch.tensor(fraction)).numpy()
    expected = [_by_hand(case, w, f) for w, f in zip(water.tolist(), fraction.tolist(), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def _cost_of_random_targets(arrays: StageArrays, *, count: int, seed: int) -> np.ndarray:
    """Solve one stage at random states for targets anywhere within reach; HiGHS raises where one is not."""
    volume, inflow = draw_states(arrays.case, count=count, seed=seed)
    generator = np.random.default_rng(seed)
    fraction = generator.beta(0.3, 0.3, volume.shape).clip(0.0, FULLEST)
    water = torch.tensor(arrays.water(volume, inflow_BR=inflow))
    targets = ReachableMap(arrays.case)(water, torch.tensor(fraction)).numpy()
    return operate(arrays, np.stack([volume, targets], axis=1), inflow_BTR=inflow[:, None]).cost


def test_every_target_of_the_small_case_is_feasible() -> None:
    assert np.isfinite(_cost_of_random_targets(small_stage(), count=150, seed=3)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("load_scale", "initial_storage"), [(0.6, 0.0), (1.0, 0.7)])
def test_every_target_of_bolivia_is_feasible(shared_data: Path, load_scale: float, initial_storage: float) -> None:
    arrays = bolivia(shared_data, load_scale=load_scale, initial_storage=initial_storage)
    assert np.isfinite(_cost_of_random_targets(arrays, count=400, seed=4)).all()
    reach, generator = ReachableMap(arrays.case), np.random.default_rng(5)
    inflow = draw_paths(arrays.case, 4, stages=60, generator=generator)
    volumes = [np.tile(arrays.case.volume_initial, (4, 1))]
    for stage in range(60):
        fraction = torch.tensor(generator.beta(0.3, 0.3, volumes[0].shape).clip(0.0, FULLEST))
        water = torch.tensor(arrays.water(volumes[-1], inflow_BR=inflow[:, stage]))
        volumes.append(reach(water, fraction).numpy())
    assert np.isfinite(operate(arrays, np.stack(volumes, axis=1), inflow_BTR=inflow).cost).all()


def test_a_target_above_the_reach_is_not_feasible() -> None:
    """What the map calls the upper end is the upper end: a little more, and the stage has no optimum."""
    arrays, water = small_stage(), torch.tensor([[2.0, 2.0, 0.0, 3.0]], dtype=torch.float64)
    upper = ReachableMap(arrays.case).upper(water, torch.zeros(1, 4, dtype=torch.float64)).numpy()
    solver = arrays.solver()
    held = arrays.volume_columns[1:2]
    for move, is_feasible in ((-1e-6, True), (1e-3, False)):
        solver.set_column_bounds(held, lower=upper[0, 1:2] + move, upper=upper[0, 1:2] + move)
        if is_feasible:
            assert solver.solve(water[0].numpy()) > 0
        else:
            with pytest.raises(Exception, match="expected an optimum"):
                solver.solve(water[0].numpy())


def test_a_reservoir_without_room_has_the_target_zero_and_finite_gradients() -> None:
    case = small_case()
    assert case.volume_max[2] == 0.0
    water = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    fraction = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    targets = ReachableMap(case)(water, fraction)
    assert (targets[:, 2] == 0.0).all()
    targets.sum().backward()
    assert water.grad is not None
    assert fraction.grad is not None
    assert torch.isfinite(water.grad).all()
    assert torch.isfinite(fraction.grad).all()


def test_turbined_and_spilled_water_to_different_plants_are_not_counted() -> None:
    hydros = list(small_case().hydros)
    hydros[0] = replace(hydros[0], turbine_to=1, spill_to=3)
    case = replace(small_case(), hydros=tuple(hydros))
    water, nothing = torch.tensor([[40.0, 1.0, 0.0, 2.0]]), torch.zeros(1, 4)
    upper = ReachableMap(case, dtype=torch.float32).upper(water, nothing)
    assert upper[0, [1, 3]].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_stretched_sigmoid_attains_empty_and_almost_full(dtype: torch.dtype) -> None:
    ends = stretched_sigmoid(torch.tensor([-20.0, 20.0], dtype=dtype))
    assert ends[0] == 0.0
    assert ends[1] == torch.tensor(1.0 - 1e-4, dtype=dtype)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_the_adjoint_is_what_automatic_differentiation_gives(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reach = ReachableMap(small_case())
    water = 30.0 * torch.rand(6, 4, dtype=torch.float64, generator=generator)
    fraction = torch.rand(6, 4, dtype=torch.float64, generator=generator)
    weight = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    leaves = water.requires_grad_(), fraction.requires_grad_()
    expected = torch.autograd.grad((reach(*leaves) * weight).sum(), leaves)
    with torch.no_grad():
        found = reach.pull(reach.slopes([reach.trace(*leaves)[1]])[0], weight)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_bounds_held_constant_would_lose_most_of_the_gradient() -> None:
    """The peers' trap: with the reach detached, a target no longer depends on the water it was made from."""
    reach = ReachableMap(small_case())
    water = torch.full((1, 4), 3.0, dtype=torch.float64, requires_grad=True)
    fraction = torch.full((1, 4), 0.5, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(reach(water, fraction).sum(), water)
    assert (gradient[0, [0, 1, 3]] >= 0.5 - 1e-12).all()
