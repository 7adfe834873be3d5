from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from serving.health import HealthServer, PortTaken, Progress, Readiness
from serving.metrics import Metrics
from tests.helpers.streams import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    return Progress("decide", clock=clock, stall_s=10.0)


@pytest.fixture
def server(progress: Progress) -> Iterator[HealthServer]:
    metrics = Metrics(CollectorRegistry())
    metrics.counter("penstock_requests_total", "decide").inc(3)
    readiness = Readiness(["artifacts", "transport"])
    made = HealthServer(port=0, loops=[progress], readiness=readiness, registry=metrics.registry)
    yield made
    made.close()


def get(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_loop_that_comes_round_without_lag_is_alive(clock: Clock, progress: Progress) -> None:
    progress.begin()
    for _ in range(5):
        clock.advance(9.0)
        progress.come_round()
    assert progress.trouble() is None


def test_a_loop_that_does_not_come_round_is_in_trouble(clock: Clock, progress: Progress) -> None:
    progress.begin()
    clock.advance(10.5)
    assert "has not come round for 10.5 s" in str(progress.trouble())


def test_a_loop_that_comes_round_but_commits_nothing_is_in_trouble_only_with_lag(
    clock: Clock, progress: Progress
) -> None:
    progress.begin()
    clock.advance(100.0)
    progress.come_round()
    progress.measure(7)
    assert progress.trouble() is None
    clock.advance(10.5)
    progress.come_round()
    assert "with 7 messages waiting" in str(progress.trouble())
    progress.move()
    assert progress.trouble() is None


def test_a_loop_that_has_not_begun_or_has_ended_is_not_in_trouble(clock: Clock, progress: Progress) -> None:
    clock.advance(100.0)
    assert progress.trouble() is None
    progress.begin()
    progress.end()
    clock.advance(100.0)
    assert progress.trouble() is None


def test_readiness_names_what_is_missing() -> None:
    readiness = Readiness(["artifacts", "transport"])
    readiness.set("artifacts")
    assert readiness.missing() == ["transport"]
    with pytest.raises(ValueError, match="no condition"):
        readiness.set("weather")


def test_the_pages_answer_over_http(server: HealthServer, clock: Clock, progress: Progress) -> None:
    progress.begin()
    assert get(server, "/healthz") == (200, "ok\n")
    assert get(server, "/readyz") == (503, "not yet: artifacts\nnot yet: transport\n")
    status, text = get(server, "/metrics")
    assert status == 200
    assert 'penstock_requests_total{loop="decide"} 3.0' in text
    assert get(server, "/elsewhere")[0] == 404
    clock.advance(11.0)
    assert get(server, "/healthz")[0] == 503


def test_a_taken_port_is_refused_by_number(server: HealthServer) -> None:
    with pytest.raises(PortTaken, match=str(server.port)):
        HealthServer(port=server.port, loops=[], readiness=Readiness([]), registry=CollectorRegistry())
