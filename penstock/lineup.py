"""From the flags `--artifact`, `--catalogue` and `--salt-file` to what decides; shared by the verbs that serve."""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.arguments import existing
from policies.errors import UsageProblem

if TYPE_CHECKING:
    from serving.catalogue import Lineup


class UnableToLineUp(UsageProblem):
    """The command line names nothing that could decide, or two things at once."""


def load_lineups(artifacts: list[Path], *, catalogue: Path | None, salt_file: Path | None) -> "list[Lineup]":
    """Load each artifact as a lineup of its own, and the catalogue's; all with the salt of the draws.

    Raises:
        UnableToLineUp: neither an artifact nor a catalogue is named.
        FileMissing: what is named is not there.
        ArtifactRefused: an artifact does not pass a gate.
        UnableToLoadCatalogue: the catalogue is none, or belongs to another salt.
    """
    if not artifacts and catalogue is None:
        raise UnableToLineUp("name what decides: --artifact DIR, or --catalogue FILE")
    from policies.artifact import load_artifact
    from serving.catalogue import lineup_of, load_lineup, read_salt

    salt = read_salt(salt_file)
    folders = [existing(folder, what="an artifact") for folder in artifacts]
    lineups = [lineup_of(load_artifact(folder), salt=salt) for folder in folders]
    if catalogue is not None:
        lineups.append(load_lineup(existing(catalogue, what="a catalogue"), salt=salt))
    return lineups


def load_one(artifact: Path | None, *, catalogue: Path | None, salt_file: Path | None) -> "Lineup":
    """Load the one lineup that decides: the catalogue's, or the artifact live.

    A catalogue that is given beside an artifact must run that artifact.

    Raises:
        UnableToLineUp: nothing is named, or the artifact is not in the catalogue.
        UsageProblem: as `load_lineups`, and its other errors.
    """
    lineups = load_lineups([] if artifact is None else [artifact], catalogue=catalogue, salt_file=salt_file)
    if len(lineups) == 1:
        return lineups[0]
    alone, line = lineups
    identities = {seat.live.policy for seat in alone.domains.values()}
    known = {seat.policy for one in line.domains.values() for seat in (one.live, one.canary, one.shadow) if seat}
    if not identities <= known:
        raise UnableToLineUp(
            f"the artifact {min(identities)} is not in the catalogue, which has {', '.join(sorted(known))}"
        )
    return line
