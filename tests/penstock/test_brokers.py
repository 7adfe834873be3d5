import argparse
import threading
from urllib.request import urlopen

import pytest

from penstock.brokers import broker_settings, connect, names_brokers, watched
from serving.settings import SettingsRefused


def arguments(**more: object) -> argparse.Namespace:
    named = {"settings": None, "brokers": None, "prefix": None, "group": None, "metrics_port": None, "follow": False}
    return argparse.Namespace(**{**named, "command": "audit", "json": True, **more})


def test_brokers_are_named_by_flag_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not names_brokers(arguments())
    assert names_brokers(arguments(brokers=["h:1"]))
    monkeypatch.setenv("PENSTOCK_BROKERS", "a:1,b:2")
    assert names_brokers(arguments())
    settings = broker_settings(arguments(group="g"))
    assert settings.brokers == ("a:1", "b:2")
    assert connect(settings, verb="audit").client_id == "g-audit"


def test_without_brokers_they_are_asked_for() -> None:
    with pytest.raises(SettingsRefused, match="--brokers"):
        broker_settings(arguments())


def test_a_long_run_shows_its_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    given = arguments(brokers=["h:1"], metrics_port="0")
    with watched(given, broker_settings(given)) as watch:
        watch.metrics.counter("penstock_audit_double_total", "t").inc(3)
        url = capsys.readouterr().err.removeprefix("metrics: ").strip()
        assert 'penstock_audit_double_total{topic="t"} 3.0' in urlopen(url, timeout=5).read().decode()
        assert not watch.stop.is_set()
    assert "health" not in {thread.name for thread in threading.enumerate()}
