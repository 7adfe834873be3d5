"""The catalogue: for each domain what is live, what was before, what runs in shadow or as canary, and the kill switch.

`catalogue.json` is written down whole and read whole; its identity goes into every decision. Changing it is how
policies are promoted, rolled back and stopped. A process that follows it swaps what decides; which topics it reads, and
which domains it joins, it learns at its start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Literal

import msgspec

from policies.artifact import Artifact, load_artifact
from policies.choose import MAX_SALT_BYTES, is_in_share
from policies.encode import Encoder
from policies.errors import Unable, UsageProblem
from policies.events import DecisionRequest, Role
from serving.durable import replace_durably

SCHEMA = "penstock-catalogue/1"


class UnableToLoadCatalogue(Unable):
    """A catalogue is not one, names an artifact that is not there, or belongs to another salt."""


class UnableToChangeCatalogue(Unable):
    """A catalogue cannot be changed as asked, or not be written: no such domain, nothing to roll back to, no room."""


class SaltRefused(UsageProblem):
    """A salt file is missing or too long."""


class Canary(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Name the artifact that decides for a share of the units, chosen by a keyed hash of the unit."""

    artifact: str
    share: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"a canary's share lies in [0, 1], found {self.share}")


class Entry(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Say what one domain runs; artifacts are named by identity."""

    live: str
    previous: str | None = None
    shadow: str | None = None
    canary: Canary | None = None
    kill: bool = False


class Catalogue(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag=SCHEMA):
    """Say what every domain runs, and which salt its draws are keyed with."""

    salt_id: str
    domains: dict[str, Entry]

    @property
    def identity(self) -> str:
        """The SHA-256 of the canonical catalogue; decisions carry its first 32 hex digits."""
        return sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """An artifact in its role, with the encoder of its spec and the names that records carry."""

    artifact: Artifact
    role: Role
    encoder: Encoder
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What one domain runs, loaded."""

    live: Seat
    canary: Seat | None
    share: float
    shadow: Seat | None
    kill: bool

    def seat_of(self, request: DecisionRequest, *, salt: bytes) -> Seat:
        """Return who decides this request: the canary for its share of the units, else the live policy."""
        if self.canary is not None and is_in_share(request.unit, share=self.share, salt=salt):
            return self.canary
        return self.live


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """A loaded catalogue: its identity as records carry it, its domains, and the salt of its draws."""

    identity: str
    domains: Mapping[str, Assignment]
    salt: bytes

    def artifacts(self) -> dict[str, Artifact]:
        """Return all that is loaded, by identity."""
        seats = (s for a in self.domains.values() for s in (a.live, a.canary, a.shadow) if s is not None)
        return {seat.artifact.identity: seat.artifact for seat in seats}


def salt_id(salt: bytes) -> str:
    """Return the public name of a salt, from which the salt cannot be told: 16 hex digits."""
    return blake2b(salt, digest_size=8, person=b"salt-id").hexdigest()


def read_salt(path: Path | None) -> bytes:
    """Read a salt file: its bytes without trailing white space, at most 64; no file is the empty salt.

    Raises:
        SaltRefused: the file is missing, empty or too long.
    """
    if path is None:
        return b""
    try:
        salt = path.read_bytes().rstrip()
    except OSError as error:
        raise SaltRefused(f"expected a salt at {path}: {error.strerror}") from error
    if not 1 <= len(salt) <= MAX_SALT_BYTES:
        raise SaltRefused(f"a salt has 1 to {MAX_SALT_BYTES} bytes, {path} has {len(salt)}")
    return salt


def lineup_of(artifact: Artifact, *, salt: bytes = b"") -> Lineup:
    """Make the default lineup: one artifact, live."""
    catalogue = Catalogue(salt_id=salt_id(salt), domains={artifact.spec.domain: Entry(live=artifact.identity)})
    return _line_up(catalogue, {artifact.identity: artifact}, salt=salt)


def load_lineup(path: Path, *, salt: bytes = b"", known: Mapping[str, Artifact] | None = None) -> Lineup:
    """Read a catalogue and load its artifacts, from `artifacts/<identity>/` beside it, through every gate.

    Artifacts that are `known` by identity have passed them: so the kill switch and a rollback need no load.

    Raises:
        UnableToLoadCatalogue: the file is no catalogue, its salt is another, or an artifact is missing or of another
            domain.
        ArtifactRefused: an artifact does not pass a gate.
    """
    catalogue = read_catalogue(path)
    names = {name for entry in catalogue.domains.values() for name in _artifacts_of(entry)}
    loaded = known or {}
    artifacts = {name: loaded.get(name) or _load(path.parent / "artifacts" / name) for name in sorted(names)}
    return _line_up(catalogue, artifacts, salt=salt)


def read_catalogue(path: Path) -> Catalogue:
    """Read `catalogue.json` without loading what it names.

    Raises:
        UnableToLoadCatalogue: the file is missing or is no catalogue.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Catalogue)
    except OSError as error:
        raise UnableToLoadCatalogue(f"expected a catalogue at {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UnableToLoadCatalogue(f"{path} is no catalogue: {error}") from error


def write_catalogue(catalogue: Catalogue, path: Path) -> None:
    """Write a catalogue in one step, so that a reader sees the old one or the new one, even after a crash.

    Raises:
        UnableToChangeCatalogue: it could not be written.
    """
    try:
        replace_durably(path, msgspec.json.format(msgspec.json.encode(catalogue), indent=2) + b"\n")
    except OSError as error:
        raise UnableToChangeCatalogue(f"could not write the catalogue at {path}: {error.strerror}") from error


def promote(catalogue: Catalogue, domain: str, *, artifact: str) -> Catalogue:
    """Make an artifact live and keep the one before it as `previous`.

    Raises:
        UnableToChangeCatalogue: the catalogue has no such domain.
    """
    entry = _entry_of(catalogue, domain)
    return _with(catalogue, domain, msgspec.structs.replace(entry, live=artifact, previous=entry.live))


def roll_back(catalogue: Catalogue, domain: str) -> Catalogue:
    """Make the previous artifact live again; the one that was live becomes `previous`.

    Raises:
        UnableToChangeCatalogue: there is no such domain, or no previous artifact.
    """
    entry = _entry_of(catalogue, domain)
    if entry.previous is None:
        raise UnableToChangeCatalogue(
            f"domain {domain!r} has no previous artifact to roll back to; promote the one that is to be live"
        )
    return _with(catalogue, domain, msgspec.structs.replace(entry, live=entry.previous, previous=entry.live))


def kill(catalogue: Catalogue, domain: str, *, on: bool = True) -> Catalogue:
    """Turn the kill switch: while it is on, requests end in the spec's fallback.

    Raises:
        UnableToChangeCatalogue: the catalogue has no such domain.
    """
    return _with(catalogue, domain, msgspec.structs.replace(_entry_of(catalogue, domain), kill=on))


def _entry_of(catalogue: Catalogue, domain: str) -> Entry:
    if domain not in catalogue.domains:
        known = ", ".join(catalogue.domains) or "none"
        raise UnableToChangeCatalogue(f"domain {domain!r} is not in the catalogue; it has {known}")
    return catalogue.domains[domain]


def _with(catalogue: Catalogue, domain: str, entry: Entry) -> Catalogue:
    return msgspec.structs.replace(catalogue, domains={**catalogue.domains, domain: entry})


def _load(folder: Path) -> Artifact:
    """Load an artifact whose folder is named by its identity: another name would not say what runs."""
    artifact = load_artifact(folder)
    if artifact.identity != folder.name:
        raise UnableToLoadCatalogue(f"a catalogue names artifacts by identity, {folder} has {artifact.identity}")
    return artifact


def _artifacts_of(entry: Entry) -> list[str]:
    canary = None if entry.canary is None else entry.canary.artifact
    return [name for name in (entry.live, entry.shadow, canary) if name is not None]


def _line_up(catalogue: Catalogue, artifacts: Mapping[str, Artifact], *, salt: bytes) -> Lineup:
    if catalogue.salt_id != salt_id(salt):
        raise UnableToLoadCatalogue(
            f"the catalogue's draws are keyed with salt {catalogue.salt_id}, the salt given is {salt_id(salt)}; "
            "name the right one with --salt-file"
        )
    domains = {name: _assign(name, entry, artifacts) for name, entry in catalogue.domains.items()}
    return Lineup(identity=catalogue.identity[:32], domains=domains, salt=salt)


def _assign(domain: str, entry: Entry, artifacts: Mapping[str, Artifact]) -> Assignment:
    def seat(name: str | None, role: Literal["live", "canary", "shadow"]) -> Seat | None:
        if name is None:
            return None
        artifact = artifacts[name]
        if artifact.spec.domain != domain:
            raise UnableToLoadCatalogue(
                f"domain {domain!r}: artifact {name} ({role}) decides for domain {artifact.spec.domain!r}"
            )
        return Seat(artifact=artifact, role=role, encoder=Encoder(artifact.spec), policy=artifact.identity[:32])

    live = seat(entry.live, "live")
    assert live is not None
    canary = None if entry.canary is None else seat(entry.canary.artifact, "canary")
    share = 0.0 if entry.canary is None else entry.canary.share
    return Assignment(live=live, canary=canary, share=share, shadow=seat(entry.shadow, "shadow"), kill=entry.kill)
