"""The report of a simulation, for people: what each policy cost, and how it ran the reservoirs to get there."""

# B scenario, T reported stage, R reservoir

from collections.abc import Mapping, Sequence

import numpy as np

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.judge.course import Course
from optimizer.mean_interval import mean_interval
from optimizer.paired import paired_difference
from optimizer.report.charts import Fan, Layer, Line, Mark, Panel, Sample, colors_of, draw_distributions, draw_panels
from optimizer.report.page import Figure, Page, TextTable
from optimizer.simulation_report import SimulatedPolicy, SimulationReport

_LARGEST = 2  # reservoirs that get a row of their own beside the total
_STACK_COLORS = {"hydro": "#56b4e9", "thermal": "#b8b8b8", "deficit": "#c1121f"}
_STAGE = "stage"


def make_page(report: SimulationReport, *, case: Case, courses: Sequence[Course], reference: Course) -> Page:
    """Return the page of a simulation; `courses` are in the order of the report's policies."""
    colors = colors_of([course.name for course in courses])
    parts = [
        _cost_table(report),
        _cumulative_difference(case, courses, reference, colors, report.confidence),
        _difference_distribution(case, courses, reference, colors),
        _cost_distribution(case, courses, colors),
        _volume_fans(case, courses, colors),
        _generation(case, courses),
        _water_values(case, courses, colors),
        _operation_table(report),
    ]
    lead = (
        f"{report.scenarios} common scenarios, first {report.report_stages} of {report.stages} stages of "
        f"{case.stage_hours:g} hours, loads times {case.load_scale:g}. Costs in {report.cost_units}; intervals hold "
        f"{100 * report.confidence:g} % and are paired with {report.reference}. What is left in the reservoirs after "
        f"the last reported stage is credited to every policy by the same value function."
    )
    title = f"{case.name}: {' and '.join(course.name for course in courses)} on common scenarios"
    return Page(title=title, lead=lead, parts=[part for part in parts if part is not None])


def _cost_table(report: SimulationReport) -> TextTable:
    cost = report.cost_units
    columns = ("policy", f"mean, {cost}", f"credit, {cost}", f"with credit, {cost}", f"to {report.reference}, {cost}",
               "interval", "percent", "interval, percent", "above bound, percent")  # fmt: skip
    bound = "" if report.lower_bound is None else f"{report.lower_bound:,.2f} {cost} ({report.lower_bound_source})"
    caption = f"Lower bound of every policy's expected cost with credit: {bound}." if bound else ""
    return TextTable(title="Costs", columns=columns, rows=[_cost_row(one) for one in report.policies], caption=caption)


def _cost_row(policy: SimulatedPolicy) -> tuple[str, ...]:
    return (
        policy.name,
        f"{policy.mean:,.2f}",
        f"{policy.terminal_credit:,.2f}",
        f"{policy.mean_with_credit:,.2f}",
        _signed(policy.paired_difference, ",.2f"),
        _interval(policy.paired_low, policy.paired_high, ",.2f"),
        _signed(policy.paired_percent, ".4f"),
        _interval(policy.paired_percent_low, policy.paired_percent_high, ".4f"),
        _signed(policy.gap_percent, ".4f"),
    )


def _operation_table(report: SimulationReport) -> TextTable:
    violations = sorted({name for policy in report.policies for name in policy.violations})
    missed = [name.replace("_", " missed, ") for name in violations]
    columns = ("policy", f"deficit, {report.deficit_units}", *missed, "fallbacks", "recovered solves",
               "largest residual", "CPU, s")  # fmt: skip
    rows = [
        (
            one.name,
            f"{one.deficit:,.2f}",
            *(f"{one.violations.get(name, 0.0):,.4f}" for name in violations),
            str(one.fallbacks),
            str(sum(one.recoveries.values())),
            f"{one.residual:.1e}",
            f"{one.cpu_s:,.1f}",
        )
        for one in report.policies
    ]
    caption = "Deficit and missed soft bounds are means over scenarios of the sum over stages; the rest are totals."
    return TextTable(title="Operation", columns=columns, rows=rows, caption=caption)


def _cumulative_difference(
    case: Case, courses: Sequence[Course], reference: Course, colors: Mapping[str, str], confidence: float
) -> Figure | None:
    others = [course for course in courses if course is not reference]
    if not others:
        return None
    lines = [_cumulative_line(course, reference, colors[course.name], confidence) for course in others]
    marks = [_final_mark(course, reference, colors[course.name], confidence) for course in others]
    panel = Panel(
        title=f"cost so far minus that of {reference.name}",
        x_label=_STAGE,
        y_label=f"{case.units.cost}, mean",
        content=[*lines, *marks],
        zero=True,
    )
    caption = (
        "Paired over the scenarios, without the credit, with its interval; diamonds at the end are with the credit. A "
        "line that sinks for long and a diamond above it belong to a policy that hedges too little: it saves by "
        "keeping less water."
    )
    svg = draw_panels([[panel]], description="Cumulative paired cost difference by stage", row_height=3.2)
    return Figure(title="Cumulative paired difference", svg=svg, caption=caption)


def _cumulative_line(course: Course, reference: Course, color: str, confidence: float) -> Line:
    difference_BT = np.cumsum(course.stage_costs - reference.stage_costs, axis=1)
    estimates = [mean_interval(column, confidence=confidence) for column in difference_BT.T]
    low, high = (np.array([getattr(one, end) for one in estimates]) for end in ("low", "high"))
    is_known = bool(np.isfinite(low).all())
    return Line(
        label=course.name,
        values=difference_BT.mean(axis=0),
        color=color,
        low=low if is_known else None,
        high=high if is_known else None,
    )


def _final_mark(course: Course, reference: Course, color: str, confidence: float) -> Mark:
    found = paired_difference(course.cost_with_credit, reference.cost_with_credit, confidence=confidence)
    low, high = (end if np.isfinite(end) else found.mean for end in (found.low, found.high))
    return Mark(label=f"{course.name}, with credit", value=found.mean, low=low, high=high, color=color)


def _difference_distribution(
    case: Case, courses: Sequence[Course], reference: Course, colors: Mapping[str, str]
) -> Figure | None:
    samples = [
        Sample(label=one.name, values=one.cost_with_credit - reference.cost_with_credit, color=colors[one.name])
        for one in courses
        if one is not reference
    ]
    if not samples:
        return None
    svg = draw_distributions(
        samples,
        x_label=f"cost with credit minus that of {reference.name}, {case.units.cost}",
        description="Distribution of paired cost differences over scenarios",
        zero=True,
    )
    caption = f"Left of zero lie the scenarios in which a policy is cheaper than {reference.name}; dots are means."
    return Figure(title="Paired differences over scenarios", svg=svg, caption=caption)


def _cost_distribution(case: Case, courses: Sequence[Course], colors: Mapping[str, str]) -> Figure:
    samples = [Sample(label=one.name, values=one.cost_with_credit, color=colors[one.name]) for one in courses]
    svg = draw_distributions(
        samples, x_label=f"cost with credit, {case.units.cost}", description="Distribution of costs over scenarios"
    )
    caption = "Scenarios differ far more than policies do, which is why policies are compared in pairs; dots are means."
    return Figure(title="Costs over scenarios", svg=svg, caption=caption)


def _volume_fans(case: Case, courses: Sequence[Course], colors: Mapping[str, str]) -> Figure:
    largest = np.argsort(-case.volume_max, kind="stable")[:_LARGEST]
    rows = [[_volume_panel(case, course, None, colors) for course in courses]]
    rows += [
        [_volume_panel(case, course, int(place), colors) for course in courses]
        for place in largest
        if len(case.hydros) > 1 and case.volume_max[place] > 0
    ]
    svg = draw_panels(rows, description="Quantiles of stored volumes by stage for each policy")
    caption = (
        "Water at the end of each stage: all reservoirs together, then the largest ones. The line is the median, the "
        "bands hold 50 % and 90 % of the scenarios."
    )
    return Figure(title="Volumes", svg=svg, caption=caption)


def _volume_panel(case: Case, course: Course, place: int | None, colors: Mapping[str, str]) -> Panel:
    sample: Floats = course.volume.sum(axis=2) if place is None else course.volume[:, :, place]
    what = "all reservoirs" if place is None else case.hydros[place].name
    return Panel(
        title=f"{what}, {course.name}",
        x_label=_STAGE,
        y_label=_words(case.units.volume),
        content=[Fan(sample=sample, color=colors[course.name])],
    )


def _generation(case: Case, courses: Sequence[Course]) -> Figure:
    panels = [
        Panel(
            title=course.name,
            x_label=_STAGE,
            y_label="MW, mean",
            content=[
                Layer(label=name, values=getattr(course, name).mean(axis=0), color=color)
                for name, color in _STACK_COLORS.items()
            ],
        )
        for course in courses
    ]
    svg = draw_panels([panels], description="Mean hydro and thermal generation and deficit by stage", row_height=2.8)
    caption = "Mean over scenarios. What hydro does not make, thermal units make; the rest of the load is a deficit."
    return Figure(title="Generation", svg=svg, caption=caption)


def _water_values(case: Case, courses: Sequence[Course], colors: Mapping[str, str]) -> Figure:
    place = int(np.argmax(case.volume_max))
    panels = [
        Panel(
            title=f"{case.hydros[place].name}, {course.name}",
            x_label=_STAGE,
            y_label=f"{case.units.cost} per {_words(case.units.volume)}",
            content=[Fan(sample=course.water_values[:, :, place], color=colors[course.name])],
        )
        for course in courses
    ]
    svg = draw_panels([panels], description="Quantiles of the water value by stage for each policy", row_height=2.8)
    caption = (
        "What one unit of water more in the largest reservoir would have saved. With volumes held at a target it is "
        "the saving in that stage; with a cost to go, now or later; with foresight, on the path that comes."
    )
    return Figure(title="Water value", svg=svg, caption=caption)


def _words(unit: str) -> str:
    """Return a unit as people write it.

    >>> _words("hm3")
    'hm³'
    """
    return unit.replace("hm3", "hm³")


def _signed(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:+{form}}"


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "-" if low is None or high is None else f"{low:+{form}} to {high:+{form}}"
