import json
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from policies.artifact import ArtifactRefused
from policies.events import DecisionRequest, from_bytes, to_bytes
from serving.contract import Transport
from serving.service import Service, UnableToOpenTransport, open_transport, stop_on_signals
from serving.settings import ServeSettings, read_settings
from serving.transport.file import FileTransport
from tests.helpers.domains import ad_load
from tests.helpers.lineups import artifact_of
from tests.helpers.streams import Clock


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    messages = ad_load().messages(12)
    (tmp_path / "requests.jsonl").write_bytes(b"\n".join([*messages, b"not json"]) + b"\n")
    outcomes = [to_bytes(ad_load().outcome(from_bytes(m, DecisionRequest))) for m in messages[:10]]
    (tmp_path / "outcomes.jsonl").write_bytes(b"\n".join(outcomes) + b"\n")
    return tmp_path


def settings_for(queue: Path, **flags: Any) -> ServeSettings:
    return read_settings(flags={"artifact": artifact_of("ad_load").folder, "dir": queue, "follow": False, **flags})


def serve(settings: ServeSettings, **more: Any) -> Service:
    clock = Clock()
    return Service(settings, stop=more.pop("stop", threading.Event()), now=clock.microseconds, seconds=clock, **more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_loops_run_over_a_folder_and_results_appear_beside_it(queue: Path) -> None:
    served = serve(settings_for(queue, loops=("decide", "join"), max_batch=5)).run()
    assert served.results == {("ad_load", "decision", ""): 12, ("unknown", "dead_letter", "not_json"): 1}
    assert served.open_count == 0
    assert [d["source"]["offset"] for d in lines(queue / "decisions.jsonl")] == list(range(12))
    assert [d["source"]["offset"] for d in lines(queue / "dead-letters.jsonl")] == [12]
    feedback = {row["request_id"]: row["status_revenue"] for row in lines(queue / "feedback.jsonl")}
    assert sorted(feedback) == [ad_load().request(number).request_id for number in range(12)]
    assert list(feedback.values()).count("pending") == 2
    assert {report["reward"] for report in lines(queue / "estimates.jsonl")} == {"revenue", "stayed"}


def test_a_second_run_adds_only_what_is_new(queue: Path) -> None:
    serve(settings_for(queue, loops=("decide", "join"))).run()
    with (queue / "requests.jsonl").open("ab") as file:
        file.write(to_bytes(ad_load().request(100)) + b"\n")
    served = serve(settings_for(queue, loops=("decide", "join"))).run()
    assert served.results == {("ad_load", "decision", ""): 1}
    assert len(lines(queue / "decisions.jsonl")) == len(lines(queue / "feedback.jsonl")) == 13


def test_following_loops_run_side_by_side_until_they_are_stopped(queue: Path) -> None:
    stop, ports = threading.Event(), list[int]()

    class Patience:
        """Stops the service once the join waits with all feedback written; the test never sleeps."""

        def wait(self, seconds: float) -> None:
            path = queue / "feedback.jsonl"
            if path.exists() and path.read_bytes().count(b"\n") == 10:
                with urlopen(f"http://127.0.0.1:{ports[0]}/readyz", timeout=5) as response:
                    assert response.status == 200
                stop.set()

    def open_briefly(settings: ServeSettings, *, loop: str, stop: threading.Event, domains: Sequence[str]) -> Transport:
        return FileTransport(queue, group=loop, is_following=True, wait=Patience().wait)

    settings = settings_for(queue, loops=("decide", "join"), follow=True, metrics_port=0)
    served = serve(settings, stop=stop, open_transport=open_briefly).run(announce=ports.append)
    assert sum(served.results.values()) == 13
    assert served.open_count == 2


def test_a_loop_that_fails_stops_the_others_and_the_process(queue: Path) -> None:
    def open_briefly(settings: ServeSettings, *, loop: str, stop: threading.Event, domains: Sequence[str]) -> Transport:
        if loop == "join":
            raise UnableToOpenTransport("the join is away")
        return open_transport(settings, loop=loop, stop=stop, domains=domains)

    settings = settings_for(queue, loops=("decide", "join"), follow=True)
    with pytest.raises(UnableToOpenTransport, match="the join is away"):
        serve(settings, open_transport=open_briefly).run()


def test_an_artifact_that_is_not_there_is_refused_before_anything_is_read(queue: Path) -> None:
    settings = read_settings(flags={"artifact": queue, "dir": queue, "follow": False})
    with pytest.raises(ArtifactRefused):
        serve(settings).run()
    assert not (queue / "decisions.jsonl").exists()


def test_the_file_transport_needs_a_folder() -> None:
    settings = ServeSettings(artifact=Path("a"))
    with pytest.raises(UnableToOpenTransport, match="folder"):
        open_transport(settings, loop="decide", stop=threading.Event(), domains=["ad_load"])


def test_sigterm_sets_the_stop() -> None:
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop_on_signals(stop)
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
