import json
import signal
import socket
from collections.abc import Iterator

import pytest

from penstock.main import main
from serving.settings import ServeSettings
from serving.transport.kafka import UnableToReachBrokers
from serving.transport.kafka_open import open_kafka_transport, worker_settings
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_topics import Topics, new_prefix
from tests.helpers.lineups import artifact_of


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_each_loop_has_its_own_group_and_transactional_id() -> None:
    settings = ServeSettings(brokers=("b:1",), group="g", instance="one")
    decide = worker_settings(settings, loop="decide", domains=["demo"])
    join = worker_settings(settings, loop="join", domains=["demo"])
    assert (decide.group, decide.transactional_id) == ("g", "g-one")
    assert (join.group, join.transactional_id) == ("g-join", "g-join-one")


def test_a_worker_without_a_name_has_the_name_of_its_host() -> None:
    worker = worker_settings(ServeSettings(brokers=("b:1",), group="g"), loop="decide", domains=["demo"])
    assert worker.transactional_id == f"g-{socket.gethostname()}"


def test_brokers_that_are_away_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr("serving.transport.kafka_topics.open_admin", refuse)
    with pytest.raises(UnableToReachBrokers, match="nowhere:9"):
        open_kafka_transport(ServeSettings(brokers=("nowhere:9",)), loop="decide", domains=["demo"])


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.xdist_group("kafka")
@pytest.mark.parametrize("loops", ["decide", "decide,join"])
def test_what_is_in_the_topics_is_served_to_its_end(
    bootstrap: str, capsys: pytest.CaptureFixture[str], loops: str
) -> None:
    prefix = new_prefix()
    words = ["serve", "--artifact", str(artifact_of("ad_load").folder), "--transport", "kafka", "--until-end"]
    words += ["--brokers", bootstrap, "--prefix", prefix, "--group", prefix, "--instance", "a", "--create-topics"]
    words += ["--loops", loops, "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["result"]["decisions"] == 0
    topics = Topics(bootstrap, partition_count=4, domain="ad_load", prefix=prefix)
    topics.feed([*WORKLOADS["ad_load"]().messages(20), b"nonsense"])
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["result"]
    assert (found["decisions"], found["dead_letters"]) == (20, 1)
    assert len(topics.read("decisions")) == 20
    assert len(topics.read("dead-letters")) == 1
    if loops == "decide,join":
        assert len(topics.read("feedback")) == 20
