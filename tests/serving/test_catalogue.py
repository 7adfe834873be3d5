"""The catalogue says what runs; what it cannot mean is refused."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from policies.artifact import ArtifactRefused
from serving.catalogue import (
    Canary,
    Catalogue,
    Entry,
    SaltRefused,
    UnableToChangeCatalogue,
    UnableToLoadCatalogue,
    kill,
    load_lineup,
    promote,
    read_catalogue,
    read_salt,
    roll_back,
    salt_id,
    write_catalogue,
)
from tests.helpers.domains import WORKLOADS


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, str]:
    fresh = tmp_path / "artifacts" / "fresh"
    identity = WORKLOADS["ad_load"]().export(fresh)
    fresh.rename(tmp_path / "artifacts" / identity)
    return tmp_path / "catalogue.json", identity


def _catalogue(identity: str, salt: bytes = b"", domain: str = "ad_load", **entry: object) -> Catalogue:
    made = Entry(live=identity, **entry)  # type: ignore[arg-type]
    return Catalogue(salt_id=salt_id(salt), domains={domain: made})


def test_a_written_catalogue_is_loaded_with_its_artifacts(place: tuple[Path, str]) -> None:
    path, identity = place
    canary = Canary(artifact=identity, share=0.1)
    write_catalogue(_catalogue(identity, shadow=identity, canary=canary), path)

    found = load_lineup(path)

    entry = found.domains["ad_load"]
    assert entry.live.policy == identity[:32]
    assert entry.canary is not None
    assert entry.shadow is not None
    assert (entry.share, entry.kill) == (0.1, False)
    assert found.identity == read_catalogue(path).identity[:32]


def test_the_identity_changes_with_what_runs_and_with_nothing_else(place: tuple[Path, str]) -> None:
    path, identity = place
    first = _catalogue(identity)
    write_catalogue(first, path)
    assert read_catalogue(path).identity == first.identity
    assert kill(first, "ad_load").identity != first.identity


def test_another_salt_than_the_catalogue_was_written_for_is_refused(place: tuple[Path, str]) -> None:
    path, identity = place
    write_catalogue(_catalogue(identity, salt=b"pepper"), path)
    with pytest.raises(UnableToLoadCatalogue, match="--salt-file"):
        load_lineup(path, salt=b"other")


def test_an_artifact_of_another_domain_is_refused(place: tuple[Path, str]) -> None:
    path, identity = place
    write_catalogue(_catalogue(identity, domain="payments"), path)
    with pytest.raises(UnableToLoadCatalogue, match="ad_load"):
        load_lineup(path)


def test_an_artifact_by_another_name_than_its_identity_is_refused(place: tuple[Path, str]) -> None:
    path, identity = place
    (path.parent / "artifacts" / identity).rename(path.parent / "artifacts" / "newest")
    write_catalogue(_catalogue("newest"), path)
    with pytest.raises(UnableToLoadCatalogue, match=identity):
        load_lineup(path)


def test_a_known_artifact_is_taken_as_it_is(place: tuple[Path, str]) -> None:
    path, identity = place
    write_catalogue(_catalogue(identity), path)
    known = load_lineup(path).artifacts()
    (path.parent / "artifacts" / identity).rename(path.parent / "elsewhere")
    assert load_lineup(path, known=known).artifacts() == known


def test_a_corrupted_artifact_is_refused(place: tuple[Path, str]) -> None:
    path, identity = place
    write_catalogue(_catalogue(identity), path)
    graph = path.parent / "artifacts" / identity / "policy.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactRefused):
        load_lineup(path)


@pytest.mark.parametrize(
    "text", ["{", '{"schema":"penstock-catalogue/1"}', '{"schema":"other","salt_id":"","domains":{}}']
)
def test_what_is_no_catalogue_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "catalogue.json"
    path.write_text(text)
    with pytest.raises(UnableToLoadCatalogue, match=r"catalogue\.json"):
        read_catalogue(path)


def test_rolling_back_names_the_previous_artifact() -> None:
    first = _catalogue("a" * 64)
    second = promote(first, "ad_load", artifact="b" * 64)
    assert second.domains["ad_load"] == Entry(live="b" * 64, previous="a" * 64)
    assert roll_back(second, "ad_load").domains["ad_load"] == Entry(live="a" * 64, previous="b" * 64)
    with pytest.raises(UnableToChangeCatalogue, match="no previous"):
        roll_back(first, "ad_load")


def test_the_kill_switch_can_be_turned_on_and_off() -> None:
    dead = kill(_catalogue("a" * 64), "ad_load")
    assert dead.domains["ad_load"].kill
    assert kill(dead, "ad_load", on=False) == _catalogue("a" * 64)


@pytest.mark.parametrize("change", [kill, roll_back, partial(promote, artifact="b" * 64)])
def test_an_unknown_domain_is_named(change: Callable[[Catalogue, str], Catalogue]) -> None:
    with pytest.raises(UnableToChangeCatalogue, match="'nowhere' is not in the catalogue; it has ad_load"):
        change(_catalogue("a" * 64), "nowhere")


def test_a_catalogue_is_synced_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "catalogue.json"
    write_catalogue(_catalogue("a" * 64), path)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(read_catalogue(path).domains["ad_load"].live[0]))
    write_catalogue(_catalogue("b" * 64), path)
    assert synced == ["a", "b"]


def test_a_catalogue_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnableToChangeCatalogue, match=r"elsewhere.*No such file"):
        write_catalogue(_catalogue("a" * 64), tmp_path / "elsewhere" / "catalogue.json")


def test_a_canary_takes_a_share_between_none_and_all() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Canary(artifact="a" * 64, share=1.5)
    with pytest.raises(msgspec.ValidationError, match=r"\[0, 1\]"):
        msgspec.json.decode(b'{"artifact":"a","share":2}', type=Canary)


def test_a_salt_file_is_read_without_its_line_break(tmp_path: Path) -> None:
    path = tmp_path / "salt"
    path.write_bytes(b"pepper\n")
    assert read_salt(path) == b"pepper"
    assert read_salt(None) == b""
    path.write_bytes(b"x" * 65)
    with pytest.raises(SaltRefused, match="65"):
        read_salt(path)
    with pytest.raises(SaltRefused, match="missing"):
        read_salt(tmp_path / "missing")
