"""What the doctor finds on this machine: each finding says what was looked at, what is so, and what to do about it.

Nothing here is mended or written. What cannot be told is said to be unknown, and does not count as wrong.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from kafka.record import util

from policies.artifact import load_artifact
from policies.errors import PenstockError
from policies.spec import PolicySpec
from serving.catalogue import Lineup, lineup_of, load_lineup

State = Literal["ok", "wrong", "unknown"]
ROOTS: Final = ("penstock", "policies", "optimizer", "serving")
"""The packages of this distribution."""

DISTRIBUTION: Final = "penstock"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Say what one check found, and the remedy where something is wrong."""

    check: str
    state: State
    detail: str
    remedy: str | None = None


def fine(check: str, detail: str) -> Finding:
    """Return that a check found nothing wrong."""
    return Finding(check=check, state="ok", detail=detail)


def wrong(check: str, detail: str, *, remedy: str) -> Finding:
    """Return what is wrong and what to do."""
    return Finding(check=check, state="wrong", detail=detail, remedy=remedy)


def unknown(check: str, detail: str) -> Finding:
    """Return that a check could not tell."""
    return Finding(check=check, state="unknown", detail=detail)


def check_checksums(extension: object = util.crc32c_c) -> Finding:
    """Look whether checksums are made in C."""
    if extension is not None:
        return fine("checksums", "crc32c is computed in C")
    return wrong(
        "checksums",
        "crc32c is computed in Python, which costs more than deciding does",
        remedy="pip install 'kafka-python[crc32c]'",
    )


def check_telemetry(environment: Mapping[str, str]) -> Finding:
    """Look whether onnxruntime is kept from sending telemetry."""
    if environment.get("ORT_DISABLE_TELEMETRY") == "1":
        return fine("telemetry", "onnxruntime sends none")
    return wrong(
        "telemetry",
        f"ORT_DISABLE_TELEMETRY is {environment.get('ORT_DISABLE_TELEMETRY')!r}: onnxruntime may send telemetry",
        remedy="set ORT_DISABLE_TELEMETRY=1 in the environment of the process, or leave it unset",
    )


def roots_here() -> dict[str, Path | None]:
    """Return where Python finds each package of this distribution."""
    found: dict[str, Path | None] = {}
    for root in ROOTS:
        spec = importlib.util.find_spec(root)
        found[root] = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent
    return found


def check_packages(found: Mapping[str, Path | None], *, claims: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Look whether every package root is ours: beside the others, and claimed by no other distribution.

    Args:
        found: where Python finds each root.
        claims: the distributions that bring each top-level name, as importlib.metadata lists them.
    """
    home = found[DISTRIBUTION]
    findings = []
    for root, folder in found.items():
        others = sorted({name for name in claims.get(root, ()) if name.lower() != DISTRIBUTION})
        if folder is None:
            detail, remedy = f"the package {root} is not found", f"install {DISTRIBUTION} again"
        elif others:
            detail = f"the name {root} is also brought by {', '.join(others)}"
            remedy = f"uninstall {', '.join(others)} and install {DISTRIBUTION} again, or use an environment of its own"
        elif home is not None and folder.parent != home.parent:
            detail = f"{root} is imported from {folder}, {DISTRIBUTION} from {home}"
            remedy = f"remove {folder} from the path, or rename it"
        else:
            continue
        findings.append(wrong("packages", detail, remedy=remedy))
    return findings or [fine("packages", f"{', '.join(found)} are ours, at {home.parent if home else None}")]


def check_policies(
    artifact: Path | None, catalogue: Path | None, *, salt: bytes
) -> tuple[list[Finding], list[PolicySpec]]:
    """Load what decides through every gate; return the findings and the specs of the domains.

    Args:
        artifact: the folder of an artifact, or None.
        catalogue: a catalogue, or None.
        salt: of the draws.
    """
    findings: list[Finding] = []
    lineups: list[Lineup] = []
    if artifact is not None:
        try:
            lineups.append(lineup_of(load_artifact(artifact), salt=salt))
        except PenstockError as error:
            findings.append(_refused("artifact", error))
    if catalogue is not None:
        try:
            lineups.append(load_lineup(catalogue, salt=salt))
        except PenstockError as error:
            findings.append(_refused("catalogue", error))
    specs: dict[str, PolicySpec] = {}
    for lineup in lineups:
        for domain, assignment in lineup.domains.items():
            seat = assignment.live
            findings.append(fine("artifact", f"{domain}: {seat.policy} passes every gate"))
            specs[domain] = seat.encoder.spec
            findings.append(check_exploration(specs[domain]))
            if assignment.kill:
                findings.append(_killed(domain))
    return findings, list(specs.values())


def check_exploration(spec: PolicySpec) -> Finding:
    """Look whether every action keeps a chance, without which nothing can be learned about it from the log."""
    if spec.is_quantity:
        return fine("exploration", f"{spec.domain}: quantities have no propensity and need no floor")
    if spec.floor > 0:
        return fine("exploration", f"{spec.domain}: the floor is {spec.floor:g}")
    return wrong(
        "exploration",
        f"{spec.domain}: the exploration floor is 0: what the policy never does cannot be evaluated from its log",
        remedy="train with a floor above 0, such as --floor 0.05",
    )


def _refused(check: str, error: PenstockError) -> Finding:
    return wrong(check, str(error), remedy="export or copy it again; nothing is served that does not pass every gate")


def _killed(domain: str) -> Finding:
    detail = f"{domain}: the kill switch is on, every request ends in the fallback"
    return wrong("catalogue", detail, remedy="turn `kill` off in the catalogue when its reason is gone")
