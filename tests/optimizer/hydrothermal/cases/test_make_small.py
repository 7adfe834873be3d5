from pathlib import Path

from optimizer.hydrothermal.cases.make_small import SCENARIOS, WEEKS, make_small
from optimizer.hydrothermal.data import small_case_folder
from tests.helpers.small_case import small_case, table_of


def test_the_shipped_files_are_what_the_script_writes(tmp_path: Path) -> None:
    make_small(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in small_case_folder().iterdir()}


def test_it_has_the_shapes_that_models_go_wrong_on() -> None:
    case = small_case()
    assert (len(case.hydros), len(case.buses), len(case.branches)) == (4, 5, 6)
    assert table_of(case).flow.shape == (WEEKS, SCENARIOS, 4)
    upper, middle, river, lake = case.hydros
    assert (upper.turbine_to, upper.spill_to) == (1, None)
    assert (middle.turbine_to, middle.spill_to) == (2, 2)
    assert river.volume_max == 0.0
    assert lake.volume_min < lake.volume_final
    assert lake.turbine_min > 0
