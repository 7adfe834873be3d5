import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from serving.metrics import DECLARED, Metrics, metrics_reference

UNITS = ("total", "seconds", "messages", "info", "offset", "decisions", "units", "reward")


@pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: str(declared.name))
def test_a_name_carries_its_unit_and_a_counter_ends_in_total(declared: tuple[str, str]) -> None:
    name, kind = declared[:2]
    assert re.fullmatch(r"penstock_[a-z_]+", name)
    assert name.rpartition("_")[2] in UNITS
    assert name.endswith("_total") == (kind == "counter")


def test_everything_that_is_declared_is_scraped_under_its_name() -> None:
    metrics = Metrics(CollectorRegistry())
    for declared in DECLARED:
        labels = ["x"] * len(declared.labels)
        if declared.kind == "counter":
            metrics.counter(declared.name, *labels).inc()
        elif declared.kind == "gauge":
            metrics.gauge(declared.name, *labels).set(1)
        else:
            metrics.histogram(declared.name).observe(0.1)
    text = generate_latest(metrics.registry).decode()
    for declared in DECLARED:
        suffix = "_count" if declared.kind == "histogram" else ""
        assert re.search(rf"^{declared.name}{suffix}[{{ ]", text, re.MULTILINE), declared.name


def test_children_are_bound_once() -> None:
    metrics = Metrics(CollectorRegistry())
    name = "penstock_requests_total"
    assert metrics.counter(name, "decide") is metrics.counter(name, "decide")


def test_a_forgotten_gauge_starts_anew() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.gauge("penstock_catalogue_info", "old").set(1)
    metrics.forget_gauge("penstock_catalogue_info")
    metrics.gauge("penstock_catalogue_info", "new").set(1)
    assert metrics.registry.get_sample_value("penstock_catalogue_info", {"catalogue": "old"}) is None
    assert metrics.registry.get_sample_value("penstock_catalogue_info", {"catalogue": "new"}) == 1


def test_the_reference_names_every_metric_once() -> None:
    names = re.findall(r"^\| `(\w+)`", metrics_reference(), re.MULTILINE)
    assert names == [declared.name for declared in DECLARED]
