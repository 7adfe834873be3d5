"""From courses to figures: each policy's mean, and its paired difference to the reference."""

# B scenario, T reported stage, R reservoir

import math

from optimizer.hydrothermal.case import Case
from optimizer.hydrothermal.judge.course import Course
from optimizer.mean_interval import MeanInterval, mean_interval
from optimizer.paired import paired_difference
from optimizer.simulation_report import SimulatedPolicy


def standing_of(
    course: Course, *, reference: Course, case: Case, confidence: float, lower_bound: float | None
) -> SimulatedPolicy:
    """Return the figures of a course beside those of the reference, over the same scenarios."""
    own = mean_interval(course.cost, confidence=confidence)
    paired = paired_difference(course.cost_with_credit, reference.cost_with_credit, confidence=confidence)
    unpaired = _unpaired(course, reference, confidence)
    with_credit, against = float(course.cost_with_credit.mean()), float(reference.cost_with_credit.mean())
    percent = 100.0 / abs(against) if against else None
    return SimulatedPolicy(
        name=course.name,
        mean=own.mean,
        standard_error=_finite(own.standard_error),
        terminal_credit=float(course.credit.mean()),
        mean_with_credit=with_credit,
        paired_difference=paired.mean,
        paired_low=_finite(paired.low),
        paired_high=_finite(paired.high),
        paired_percent=_scaled(paired.mean, percent),
        paired_percent_low=_scaled(paired.low, percent),
        paired_percent_high=_scaled(paired.high, percent),
        unpaired_low=_finite(unpaired.low),
        unpaired_high=_finite(unpaired.high),
        gap_percent=None if not lower_bound else 100.0 * (with_credit - lower_bound) / abs(lower_bound),
        deficit=float(course.deficit.sum(axis=1).mean()) * case.stage_hours,
        violations={name: float(missed.sum(axis=1).mean()) for name, missed in course.violations.items()},
        stage_costs=tuple(course.stage_costs.mean(axis=0).tolist()),
        fallbacks=course.fallbacks,
        recoveries=course.recoveries,
        residual=course.residual,
        cpu_s=round(course.cpu_s, 3),
        details=_details(course, case),
    )


def _unpaired(course: Course, reference: Course, confidence: float) -> MeanInterval:
    """Return the interval of the difference as if the two had met different scenarios."""
    parts = [mean_interval(one.cost_with_credit, confidence=confidence) for one in (course, reference)]
    mean = parts[0].mean - parts[1].mean
    reach = math.hypot(*(part.high - part.mean for part in parts))
    error = math.hypot(*(part.standard_error for part in parts))
    return MeanInterval(mean=mean, standard_error=error, low=mean - reach, high=mean + reach, count=parts[0].count)


def _details(course: Course, case: Case) -> dict[str, object]:
    last = dict(zip(case.hydro_names, course.volume[:, -1].mean(axis=0).tolist(), strict=True))
    return {
        "volume_units": case.units.volume,
        "mean_total_volumes": course.volume.sum(axis=2).mean(axis=0).tolist(),
        "mean_last_volumes": last,
        "mean_water_values": dict(zip(case.hydro_names, course.water_values.mean(axis=(0, 1)).tolist(), strict=True)),
        **course.details,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _scaled(value: float, percent: float | None) -> float | None:
    return None if percent is None else _finite(value * percent)
