import pytest

from bench.peers.environment import PeerUnavailable
from bench.serving import contenders
from bench.serving.contenders import clients_offered, find_contenders, same_versions


def test_each_client_that_serve_offers_is_a_row() -> None:
    assert clients_offered("  [--kafka-client {python,librdkafka}]") == ["python", "librdkafka"]
    assert clients_offered("  [--json]") == [""]


def test_a_peer_whose_environment_cannot_be_made_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise PeerUnavailable("no index is reached")

    monkeypatch.setattr(contenders, "streaming_python", fail)
    found, absent = find_contenders(["aiokafka", "quix"], also={})
    assert found == []
    assert absent == dict.fromkeys(
        ["aiokafka loop", "Quix Streams, 50 ms", "Quix Streams, default"], "no index is reached"
    )


def test_rows_of_penstock_can_be_added_with_flags_of_their_own() -> None:
    found, _ = find_contenders(["penstock, small"], also={"small": ["--metrics-port", "0", "PENSTOCK_MAX_BATCH=64"]})
    assert [(one.name, one.flags) for one in found] == [("Penstock, small", ("--metrics-port", "0"))]
    assert found[0].environment["PENSTOCK_MAX_BATCH"] == "64"


def test_environments_that_differ_are_refused() -> None:
    assert same_versions({"one": {"numpy": "2"}, "two": {"numpy": "2"}}) == {"numpy": "2"}
    with pytest.raises(PeerUnavailable, match="two"):
        same_versions({"one": {"numpy": "2"}, "two": {"numpy": "1"}})
