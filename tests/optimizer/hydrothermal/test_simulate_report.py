from functools import cache

from optimizer.hydrothermal.judge.course import Course
from optimizer.hydrothermal.judge.standing import standing_of
from optimizer.hydrothermal.simulate_report import make_page
from optimizer.report.page import Figure, Page
from optimizer.simulation_report import SimulationReport
from tests.helpers.small_case import small_case
from tests.helpers.small_judged import REPORTED, STAGES, judged_small, small_cuts


@cache
def _page(*, is_alone: bool = False) -> Page:
    judged = judged_small()
    sddp = judged.by_cuts("sddp", small_cuts())
    courses: list[Course] = [sddp] if is_alone else [sddp, judged.foresight()]
    report = SimulationReport(
        domain="hydrothermal",
        stages=STAGES,
        report_stages=REPORTED,
        scenarios=12,
        cost_units="$",
        deficit_units="MWh",
        confidence=0.95,
        reference="sddp",
        lower_bound=100.0,
        lower_bound_source="somewhere",
        policies=tuple(
            standing_of(one, reference=sddp, case=small_case(), confidence=0.95, lower_bound=100.0) for one in courses
        ),
    )
    return make_page(report, case=small_case(), courses=courses, reference=sddp)


def _figures(page: Page) -> dict[str, Figure]:
    return {part.title: part for part in page.parts if isinstance(part, Figure)}


def test_the_page_holds_what_people_look_at() -> None:
    assert list(_figures(_page())) == [
        "Cumulative paired difference",
        "Paired differences over scenarios",
        "Costs over scenarios",
        "Volumes",
        "Generation",
        "Water value",
    ]


def test_axes_carry_units() -> None:
    figures = _figures(_page())
    assert ">hm³<" in figures["Volumes"].svg
    assert ">MW, mean<" in figures["Generation"].svg
    assert ">$ per hm³<" in figures["Water value"].svg
    assert ">all reservoirs, foresight<" in figures["Volumes"].svg
    assert ">Upper, sddp<" in figures["Volumes"].svg


def test_tables_say_what_each_policy_cost() -> None:
    costs = next(part for part in _page().parts if part.title == "Costs")
    assert not isinstance(costs, Figure)
    assert [row[0] for row in costs.rows] == ["sddp", "foresight"]
    assert "100.00 $ (somewhere)" in costs.caption


def test_a_policy_alone_has_no_differences_to_draw() -> None:
    assert "Cumulative paired difference" not in _figures(_page(is_alone=True))
