from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.hydrothermal.case import cascade_order
from optimizer.hydrothermal.inflow import InflowTable
from tests.helpers.small_case import small_case, table_of


@given(st.permutations(range(6)), st.data())
def test_water_flows_in_the_order_of_the_cascade(order: list[int], data: st.DataObject) -> None:
    """Draw links that only go from earlier to later places of a drawn order, so that no cycle can be."""
    downstream: list[tuple[int | None, ...]] = [(None, None)] * 6
    for at, place in enumerate(order):
        later = [None, *order[at + 1 :]]
        downstream[place] = (data.draw(st.sampled_from(later)), data.draw(st.sampled_from(later)))
    found = cascade_order(downstream)
    assert found is not None
    assert sorted(found) == list(range(6))
    assert all(found.index(a) < found.index(b) for a in range(6) for b in downstream[a] if b is not None)


def test_a_cycle_has_no_order() -> None:
    assert cascade_order([(1, None), (2, None), (0, None), (None, None)]) is None
    assert cascade_order([(0,)]) is None


def test_the_small_case_flows_from_upper_by_middle_to_river() -> None:
    case = small_case()
    names = [case.hydro_names[place] for place in case.upstream_first]
    assert names.index("Upper") < names.index("Middle") < names.index("River")
    upper = case.hydros[case.hydro_names.index("Upper")]
    assert (case.hydro_names[upper.turbine_to or 0], upper.spill_to) == ("Middle", None)


def test_a_case_with_one_scenario_is_deterministic() -> None:
    case = small_case()
    assert not case.is_deterministic
    table = InflowTable(flow=table_of(case).flow[:, :1], probability=np.ones((24, 1)))
    assert replace(case, inflow=table).is_deterministic


def test_a_cascade_with_a_cycle_is_an_error_of_the_program() -> None:
    case = small_case()
    looped = replace(case.hydros[2], turbine_to=0)
    with pytest.raises(ValueError, match="cycle"):
        _ = replace(case, hydros=(*case.hydros[:2], looped, case.hydros[3])).upstream_first
