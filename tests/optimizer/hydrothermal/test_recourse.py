import numpy as np
import torch

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.operate import operate
from optimizer.hydrothermal.reach import ReachableMap
from optimizer.hydrothermal.recourse import shortfall_price, stage_recourse
from optimizer.hydrothermal.spec import policy_spec
from policies.recourse.contract import Applied
from policies.recourse.linear import LinearRecourse
from tests.helpers.small_case import draw_states, small_case, small_stage


def _apply(volume: Floats, inflow: Floats, targets: Floats) -> Applied:
    spec = policy_spec(small_case(), stages=12, history=2)
    recourse = LinearRecourse(stage_recourse(small_stage()), spec=spec)
    count = len(volume)
    parameters = {
        "request": np.hstack([np.ones((count, 1)), volume]),
        "sequence_inflow": np.stack([np.full_like(inflow, 99.0), inflow], axis=1),
        "length_inflow": np.full(count, 2.0),
    }
    return recourse.apply(targets, parameters=parameters)


def _states(count: int, seed: int) -> tuple[Floats, Floats, Floats]:
    volume, inflow = draw_states(small_case(), count=count, seed=seed)
    fraction = np.random.default_rng(seed).beta(0.5, 0.5, volume.shape).clip(0.0, 0.9999)
    water = torch.tensor(small_stage().water(volume, inflow_BR=inflow))
    return volume, inflow, ReachableMap(small_case())(water, torch.tensor(fraction)).numpy()


def test_what_is_served_is_the_strict_stage() -> None:
    volume, inflow, targets = _states(40, 1)
    found = _apply(volume, inflow, targets)
    strict = operate(small_stage(), np.stack([volume, targets], axis=1), inflow_BTR=inflow[:, None])
    assert found.faults == {}
    np.testing.assert_allclose(found.values, targets, atol=1e-9)
    assert np.abs(found.outputs["shortfall"]).max() < 1e-9
    columns = strict.columns[:, 0]
    served_cost = _cost(found)
    floor = np.maximum(np.array([one.volume_min for one in small_case().hydros]) - targets, 0.0)
    violation = floor @ np.array([one.volume_violation_cost for one in small_case().hydros])
    last = np.maximum(np.array([one.volume_final for one in small_case().hydros]) - targets, 0.0)
    final = last @ np.array([one.volume_violation_cost for one in small_case().hydros])
    np.testing.assert_allclose(served_cost, strict.cost[:, 0] - np.maximum(violation, final), rtol=1e-7, atol=1e-5)
    np.testing.assert_allclose(
        found.outputs["deficit"].sum(axis=1),
        columns[:, small_stage().columns["deficit"]].sum(axis=1) * small_case().base_mva,
        atol=1e-6,
    )


def _cost(found: Applied) -> Floats:
    """Return what the named outputs cost; violations of the outflow come from the turbined flow."""
    case, outputs = small_case(), found.outputs
    power = outputs["dispatch"] / case.base_mva @ np.array([one.cost for one in case.generators])
    deficit = outputs["deficit"].sum(axis=1) / case.base_mva * case.tiers[0].cost
    spilled = outputs["spill"] @ np.array([one.spill_cost for one in case.hydros])
    lacking = np.maximum(np.array([one.turbine_min for one in case.hydros]) - outputs["turbined"], 0.0)
    cost: Floats = power + deficit + spilled + lacking @ np.array([one.outflow_violation_cost for one in case.hydros])
    return cost


def test_prices_and_water_values_are_what_one_unit_more_costs_and_saves() -> None:
    volume, inflow, targets = _states(12, 2)
    inflow = inflow + 2.0
    step, found = 1e-4, _apply(volume, inflow, targets)
    more = inflow.copy()
    more[:, 0] += step / small_case().volume_per_flow
    saved = (_cost(found) - _cost(_apply(volume, more, targets))) / step
    less = inflow.copy()
    less[:, 0] -= step / small_case().volume_per_flow
    missed = (_cost(_apply(volume, less, targets)) - _cost(found)) / step
    value = found.outputs["water_value"][:, 0]
    assert ((saved - 1e-3 <= value) & (value <= missed + 1e-3)).all()
    assert (value > 0.0).any()


def test_a_target_out_of_reach_is_a_shortfall_and_never_infeasible() -> None:
    volume, inflow = np.zeros((1, 4)), np.zeros((1, 4))
    targets = 0.5 * small_case().volume_max[None, :]
    found = _apply(volume, inflow, targets)
    assert found.faults == {}
    np.testing.assert_allclose(found.outputs["shortfall"], targets, atol=1e-9)
    np.testing.assert_allclose(found.values, 0.0, atol=1e-9)


def test_no_water_is_worth_the_price_of_a_shortfall() -> None:
    volume, inflow, targets = _states(200, 3)
    found = _apply(volume, inflow, targets)
    assert found.outputs["water_value"].max() < 0.5 * shortfall_price(small_case())


def test_an_inflow_that_is_not_told_is_a_fault_of_its_row() -> None:
    spec = policy_spec(small_case(), stages=12, history=2)
    recourse = LinearRecourse(stage_recourse(small_stage()), spec=spec)
    parameters = {
        "request": np.ones((2, 5)),
        "sequence_inflow": np.ones((2, 2, 4)),
        "length_inflow": np.array([0.0, 1.0]),
    }
    found = recourse.apply(np.zeros((2, 4)), parameters=parameters)
    assert list(found.faults) == [0]
    assert "sequence:inflow:last:0 = nan" in found.faults[0]


def test_dispatch_does_not_depend_on_the_soft_bound_of_the_stage() -> None:
    """The last stage's final volume is a cost of the target alone, so the served program does without it."""
    volume, inflow, targets = _states(6, 4)
    volumes, power = np.stack([volume, targets], axis=1), small_stage().columns["power"]
    last, other = (operate(small_stage(), volumes, inflow_BTR=inflow[:, None], horizon=horizon) for horizon in (1, 24))
    assert (last.cost > other.cost + 1.0).any()
    generated = [one.columns[:, 0, power].sum(axis=1) for one in (last, other)]
    np.testing.assert_allclose(generated[0], generated[1], rtol=1e-7)
