"""All metrics of the service, declared once; names carry their units.

`DECLARED` is the reference. `Metrics` makes them in the registry it is given and hands out children that are bound
once, so that a batch costs a few increments and no message costs any.
"""

from functools import cache
from typing import Final, Literal, NamedTuple, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Declared(NamedTuple):
    """Declare one metric: its full name as it is scraped, its kind, what it says, its labels and buckets."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MESSAGES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)

DECLARED: Final[tuple[Declared, ...]] = (
    Declared("penstock_requests_total", "counter", "Messages settled, whatever they ended in", ("loop",)),
    Declared(
        "penstock_results_total",
        "counter",
        "Results committed; kind is decision, fallback, shadow or dead_letter, reason is empty for plain decisions",
        ("domain", "kind", "reason"),
    ),
    Declared("penstock_decide_seconds", "histogram", "Time from polled to recorded, per batch", (), _SECONDS),
    Declared("penstock_settle_seconds", "histogram", "Time to commit a batch", (), _SECONDS),
    Declared(
        "penstock_commit_age_seconds",
        "histogram",
        "Age of a batch's oldest message, by its own timestamp, when it was committed (decide on Kafka)",
        (),
        _SECONDS,
    ),
    Declared("penstock_linger_seconds", "gauge", "Wait before each poll, so that batches hold more messages"),
    Declared("penstock_batch_messages", "histogram", "Messages per batch", (), _MESSAGES),
    Declared("penstock_clipped_values_total", "counter", "Field values clipped to a bound of the spec while deciding"),
    Declared("penstock_filled_values_total", "counter", "Missing field values filled from the spec while deciding"),
    Declared("penstock_duplicate_requests_total", "counter", "Requests seen before with the same bytes"),
    Declared(
        "penstock_incomplete_windows_total",
        "counter",
        "Duplicate windows rebuilt without all that is committed, because an open transaction hid results",
    ),
    Declared("penstock_rewinds_total", "counter", "Batches that were rewound instead of committed", ("loop",)),
    Declared("penstock_artifact_info", "gauge", "1 for each artifact that is loaded", ("domain", "role", "artifact")),
    Declared("penstock_catalogue_info", "gauge", "1 for the catalogue in force", ("catalogue",)),
    Declared(
        "penstock_catalogue_swaps_total", "counter", "Changes of the catalogue, swapped in or refused", ("outcome",)
    ),
    Declared("penstock_committed_offset", "gauge", "First message not yet settled", ("loop", "topic", "partition")),
    Declared("penstock_lag_messages", "gauge", "Messages beyond the committed offset", ("loop", "topic", "partition")),
    Declared("penstock_loop_timestamp_seconds", "gauge", "When the loop last came round (Unix time)", ("loop",)),
    Declared("penstock_open_decisions", "gauge", "Decisions held until their outcomes are in", ("domain",)),
    Declared("penstock_feedback_rows_total", "counter", "Rows of feedback emitted", ("domain",)),
    Declared(
        "penstock_outcomes_total",
        "counter",
        "Outcomes by fate: joined, late, conflict, orphan or unnamed; and, decisions among them, foreign (of a domain "
        "that the join does not know) or unreadable",
        ("domain", "fate"),
    ),
    Declared("penstock_open_units", "gauge", "Units whose window is open, not yet in the estimate", ("domain",)),
    Declared("penstock_returned_units_total", "counter", "Units that came back after their window", ("domain",)),
    Declared(
        "penstock_pending_rows_total",
        "counter",
        "Rows whose reward was pending when they left the join",
        ("domain", "reward"),
    ),
    Declared(
        "penstock_excluded_rows_total",
        "counter",
        "Rows left out of an estimate: fallbacks, shadows and retracted rewards",
        ("domain",),
    ),
    Declared("penstock_estimate_reward", "gauge", "Running estimate of the logging policy", ("domain", "reward")),
    Declared("penstock_estimate_low_reward", "gauge", "Lower end of its interval", ("domain", "reward")),
    Declared("penstock_estimate_high_reward", "gauge", "Upper end of its interval", ("domain", "reward")),
    Declared("penstock_estimate_units", "gauge", "Closed units in the estimate", ("domain", "reward")),
    Declared("penstock_audit_results_total", "counter", "Audit: results of the requests of a topic", ("topic",)),
    Declared("penstock_audit_missing_total", "counter", "Audit: committed requests found without a result", ("topic",)),
    Declared("penstock_audit_double_total", "counter", "Audit: results beyond the first of a request", ("topic",)),
    Declared("penstock_audit_lag_messages", "gauge", "Audit: offsets beyond the committed one", ("topic", "partition")),
    Declared("penstock_collected_records_total", "counter", "Records in files whose offset is committed", ("topic",)),
    Declared(
        "penstock_field_values_total",
        "counter",
        "Field values outside what the spec expects, by fate: clipped, filled or unseen",
        ("domain", "field", "fate"),
    ),
)


@final
class Metrics:
    """Make every declared metric in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for name, kind, meaning, labels, buckets in DECLARED:
            if kind == "counter":
                self._counters[name] = Counter(name, meaning, labels, registry=registry)
            elif kind == "gauge":
                self._gauges[name] = Gauge(name, meaning, labels, registry=registry)
            else:
                self._histograms[name] = Histogram(name, meaning, labels, registry=registry, buckets=buckets)
        # A cache on the instance: children live as long as their registry.
        self.counter = cache(self._bind_counter)
        self.gauge = cache(self._bind_gauge)

    def histogram(self, name: str) -> Histogram:
        """Return a histogram, which has no labels here."""
        return self._histograms[name]

    def forget_gauge(self, name: str) -> None:
        """Drop all children of a gauge, such as those of a catalogue that is no longer in force."""
        self._gauges[name].clear()
        self.gauge.cache_clear()

    def _bind_counter(self, name: str, *labels: str) -> Counter:
        return self._counters[name].labels(*labels) if labels else self._counters[name]

    def _bind_gauge(self, name: str, *labels: str) -> Gauge:
        return self._gauges[name].labels(*labels) if labels else self._gauges[name]


def metrics_reference() -> str:
    """Return the table of all metrics as Markdown; the documentation holds it, and a test compares the two."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for declared in DECLARED:
        labels = ", ".join(f"`{label}`" for label in declared.labels) or "none"
        lines.append(f"| `{declared.name}` | {declared.kind} | {labels} | {declared.meaning} |")
    return "\n".join(lines) + "\n"
