from collections.abc import Sequence
from typing import Any

import pytest

from policies.evaluation.score import score
from policies.events import Choice, Decision, Outcome, Source, from_bytes
from policies.feedback import Feedback, fold
from policies.spec import Field
from serving.assess import Assessment, drift
from serving.metrics import Metrics
from tests.helpers.small_specs import FEED, request_of
from tests.helpers.streams import new_metrics, sample
from tests.serving.test_join import CLOCK_START, decision_of

SECOND = 1_000_000


@pytest.fixture
def metrics() -> Metrics:
    return new_metrics()


@pytest.fixture
def assessment(metrics: Metrics) -> Assessment:
    return Assessment(FEED, unit_window_s=60.0, metrics=metrics, since=CLOCK_START)


def feedback(units: list[str], clicks: Sequence[float | None], *, first: int = 0, **changes: Any) -> Feedback:
    decisions, outcomes = [], []
    source = Source(topic="outcomes", partition=0, offset=0)
    for number, (unit, click) in enumerate(zip(units, clicks, strict=True), first):
        request = request_of(FEED, number, unit=unit, actions=None)
        decisions.append(from_bytes(decision_of(request, **changes), Decision))
        if click is not None:
            said = Outcome(request_id=request.request_id, domain="feed", time=0, rewards={"click": click})
            outcomes.append((said, source))
    return fold(decisions, outcomes, as_of=CLOCK_START, spec=FEED).feedback


def outcome_feedback(clicks: Sequence[float | None]) -> Feedback:
    """Fold decisions of units of their own with one outcome each, where None retracts."""
    decisions = [from_bytes(decision_of(request_of(FEED, n, actions=None)), Decision) for n in range(len(clicks))]
    source = Source(topic="outcomes", partition=0, offset=0)
    ids = [request_of(FEED, n, actions=None).request_id for n in range(len(clicks))]
    outcomes = [
        (Outcome(request_id=one, domain="feed", time=0, rewards={"click": click}), source)
        for one, click in zip(ids, clicks, strict=True)
    ]
    return fold(decisions, outcomes, as_of=CLOCK_START, spec=FEED).feedback


def test_a_unit_enters_the_estimate_when_its_window_closes(assessment: Assessment, metrics: Metrics) -> None:
    assessment.add(feedback(["a", "a", "b"], [1.0, 0.0, 1.0]), now=CLOCK_START)
    (report,) = assessment.reports(now=CLOCK_START)
    assert (report.open_units, report.estimate) == (2, None)
    assert sample(metrics, "penstock_open_units", domain="feed") == 2
    assessment.close_units(now=CLOCK_START + 60 * SECOND)
    (report,) = assessment.reports(now=CLOCK_START + 60 * SECOND)
    assert report.open_units == 0
    assert report.estimate is not None
    assert (report.estimate.unit_count, report.estimate.row_count) == (2, 3)
    assert report.estimate.value == pytest.approx(2 / 3)
    assert sample(metrics, "penstock_estimate_reward", domain="feed", reward="click") == pytest.approx(2 / 3)


def test_the_order_and_the_parts_of_arrival_do_not_change_the_estimate(metrics: Metrics) -> None:
    units, clicks = [f"u{n % 7}" for n in range(30)], [float(n % 3 == 0) for n in range(30)]
    found = []
    for cut in (0, 11, 29):
        running = Assessment(FEED, unit_window_s=60.0, metrics=metrics, since=CLOCK_START)
        running.add(feedback(units[cut:], clicks[cut:], first=cut), now=CLOCK_START)
        running.add(feedback(units[:cut], clicks[:cut]), now=CLOCK_START)
        running.close_units(now=CLOCK_START, is_over=True)
        found.append(running.reports(now=CLOCK_START)[0].estimate)
    assert found[0] == found[1] == found[2]


def test_a_unit_that_comes_back_is_counted(assessment: Assessment, metrics: Metrics) -> None:
    assessment.add(feedback(["a"], [1.0]), now=CLOCK_START + 61 * SECOND)
    assessment.add(feedback(["a"], [1.0], first=1), now=CLOCK_START + 62 * SECOND)
    (report,) = assessment.reports(now=CLOCK_START + 62 * SECOND)
    assert report.returned_units == 1
    assert report.estimate is not None
    assert report.estimate.unit_count == 2
    assert sample(metrics, "penstock_returned_units_total", domain="feed") == 1


def test_pending_rows_and_fallbacks_are_counted_and_left_out(assessment: Assessment, metrics: Metrics) -> None:
    assessment.add(feedback(["a", "b"], [1.0, None]), now=CLOCK_START)
    plain = (Choice(action="none"),)
    assessment.add(feedback(["c"], [1.0], first=2, fallback="kill", choices=plain), now=CLOCK_START + 61 * SECOND)
    (report,) = assessment.reports(now=CLOCK_START)
    assert report.estimate is not None
    assert (report.estimate.row_count, report.estimate.pending, report.estimate.excluded) == (1, 1, 1)
    assert sample(metrics, "penstock_pending_rows_total", domain="feed", reward="click") == 1
    assert sample(metrics, "penstock_excluded_rows_total", domain="feed") == 1


def test_what_is_pending_and_what_is_excluded_is_told_apart_as_the_evaluation_does(
    assessment: Assessment, metrics: Metrics
) -> None:
    retracted = outcome_feedback([1.0, 0.0, None])
    plain = (Choice(action="none"),)
    killed = feedback(["c", "d"], [1.0, None], first=3, fallback="kill", choices=plain)
    shadows = feedback(["e", "f"], [1.0, None], first=5, role="shadow")
    expected = [score(part, None, reward={"click": 1.0}) for part in (retracted, shadows)]
    assert [(part.excluded, part.pending) for part in expected] == [(1, 0), (0, 2)]
    for part in (retracted, killed, shadows):
        assessment.add(part, now=CLOCK_START + 61 * SECOND)
    (report,) = assessment.reports(now=CLOCK_START)
    assert report.estimate is not None
    assert (report.estimate.row_count, report.estimate.excluded, report.estimate.pending) == (2, 2, 3)
    assert sample(metrics, "penstock_pending_rows_total", domain="feed", reward="click") == 3
    assert sample(metrics, "penstock_excluded_rows_total", domain="feed") == 2


def test_an_estimate_that_cannot_be_made_is_logged(assessment: Assessment, caplog: pytest.LogCaptureFixture) -> None:
    assessment.add(feedback(["a"], [7.0]), now=CLOCK_START + 61 * SECOND)
    with caplog.at_level("WARNING", logger="penstock.serving"):
        (report,) = assessment.reports(now=CLOCK_START)
    assert report.estimate is None
    (record,) = caplog.records
    assert record.getMessage() == "skip estimate"
    assert record.__dict__["fields"] == {"domain": "feed", "reward": "click"}


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        (Field(name="x", lower=0, upper=1), [0.5, 2.0, -1.0, None], (2, 1, 0)),
        (Field(name="x", width=2, lower=(0.0, -1.0), upper=(1.0, 1.0)), [[0.5, -2.0], None], (1, 1, 0)),
        (Field(name="x", steps=3, lower=0, upper=1), [[0.5, 7.0], []], (1, 0, 0)),
        (Field(name="x", vocabulary=("a", "b")), ["a", "c", None], (0, 1, 1)),
    ],
)
def test_drift_counts_what_the_spec_does_not_expect(
    field: Field, values: list[Any], expected: tuple[int, int, int]
) -> None:
    assert drift(field, values) == dict(zip(("clipped", "filled", "unseen"), expected, strict=True))


def test_drift_is_counted_by_field(assessment: Assessment, metrics: Metrics) -> None:
    assessment.add(feedback(["a"], [1.0]), now=CLOCK_START)
    labels = {"domain": "feed", "field": "hour", "fate": "clipped"}
    assert sample(metrics, "penstock_field_values_total", **labels) == 0
