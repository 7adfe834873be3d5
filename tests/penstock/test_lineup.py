import shutil
from pathlib import Path

import pytest

from penstock.arguments import FileMissing
from penstock.lineup import UnableToLineUp, load_lineups, load_one
from serving.catalogue import Catalogue, Entry, salt_id, write_catalogue
from tests.helpers.lineups import artifact_of


def _catalogue(folder: Path, domain: str) -> Path:
    artifact = artifact_of(domain)
    shutil.copytree(artifact.folder, folder / "artifacts" / artifact.identity)
    path = folder / "catalogue.json"
    write_catalogue(Catalogue(salt_id=salt_id(b""), domains={domain: Entry(live=artifact.identity)}), path)
    return path


def test_an_artifact_alone_is_live() -> None:
    artifact = artifact_of("ad_load")
    found = load_one(artifact.folder, catalogue=None, salt_file=None)
    assert found.domains["ad_load"].live.policy == artifact.identity[:32]


def test_a_catalogue_decides_when_it_runs_the_artifact(tmp_path: Path) -> None:
    path = _catalogue(tmp_path, "ad_load")
    found = load_one(artifact_of("ad_load").folder, catalogue=path, salt_file=None)
    assert found.identity == load_one(None, catalogue=path, salt_file=None).identity


def test_an_artifact_that_the_catalogue_does_not_run_is_refused(tmp_path: Path) -> None:
    path = _catalogue(tmp_path, "ad_load")
    with pytest.raises(UnableToLineUp, match="not in the catalogue"):
        load_one(artifact_of("payments").folder, catalogue=path, salt_file=None)


def test_something_must_decide() -> None:
    with pytest.raises(UnableToLineUp, match="--artifact DIR"):
        load_lineups([], catalogue=None, salt_file=None)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="an artifact at"):
        load_lineups([tmp_path / "missing"], catalogue=None, salt_file=None)
