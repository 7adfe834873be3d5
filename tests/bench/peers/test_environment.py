import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from bench.peers import environment
from bench.peers.environment import PeerUnavailable, obp_python, streaming_python


def test_an_environment_that_is_ready_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(home: Path, python: Path) -> None:
        made.append(home)
        home.mkdir()

    monkeypatch.setattr(environment, "_make", make)
    home = tmp_path / "obp"
    assert obp_python(home) == obp_python(home) == home / "bin" / "python"
    assert made == [home]


def test_an_environment_that_failed_half_way_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "obp"

    def fail(home: Path, python: Path) -> None:
        (home / "bin").mkdir(parents=True)
        raise PeerUnavailable("no index is reached")

    monkeypatch.setattr(environment, "_make", fail)
    for _ in range(2):
        with pytest.raises(PeerUnavailable):
            obp_python(home)


def test_a_step_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(PeerUnavailable, match=r"ended with 1: no index"):
        environment._do([sys.executable, "-I", "-S", "-c", "raise SystemExit('no index')"])


def test_an_environment_is_made_anew_where_it_should_hold_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, ...]] = []

    def install(home: Path, python: Path, *requirements: str) -> None:
        made.append(requirements)
        home.mkdir()

    monkeypatch.setattr(environment, "_install", install)
    for _ in range(2):
        streaming_python("aiokafka", tmp_path / "aiokafka")
    monkeypatch.setattr(environment, "STREAMING", {"aiokafka": ("aiokafka==99",)})
    streaming_python("aiokafka", tmp_path / "aiokafka")
    assert [requirements[0] for requirements in made] == ["aiokafka==0.14.0", "aiokafka==99"]


def test_streaming_peers_decide_with_the_versions_of_this_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(home: Path, python: Path, *requirements: str) -> None:
        home.mkdir()

    monkeypatch.setattr(environment, "_install", install)
    for name in environment.STREAMING:
        streaming_python(name, tmp_path / name)
        wanted = (tmp_path / name / ".ready").read_text().splitlines()
        assert {f"{shared}=={version(shared)}" for shared in environment.SHARED} <= set(wanted)
