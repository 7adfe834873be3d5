"""Artifacts and lineups for the tests of serving, made once per process."""

import tempfile
from functools import cache
from pathlib import Path

from policies.artifact import Artifact, load_artifact
from policies.events import DeadLetter, Decision, Source, from_bytes
from policies.spec import PolicySpec
from serving.catalogue import Lineup, lineup_of
from serving.contract import Message, Result
from serving.decide import decide
from serving.receive import receive
from serving.record import record
from tests.helpers.domains import WORKLOADS


@cache
def artifact_of(domain: str) -> Artifact:
    """Export and load the artifact of one workload."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-")) / "artifact"
    WORKLOADS[domain]().export(folder)
    return load_artifact(folder)


def uniform_artifact(spec: PolicySpec) -> Artifact:
    """Export and load the uniform policy of a spec."""
    from optimizer.export import export_uniform

    folder = Path(tempfile.mkdtemp(prefix="penstock-")) / "artifact"
    export_uniform(spec, folder=folder)
    return load_artifact(folder)


@cache
def lineup(domain: str, salt: bytes = b"") -> Lineup:
    """Make the lineup in which one workload's artifact is live."""
    return lineup_of(artifact_of(domain), salt=salt)


def message(value: bytes, offset: int = 0) -> Message:
    """Wrap bytes as the message at an offset of partition 0 of `requests`."""
    return Message(value=value, source=Source(topic="requests", partition=0, offset=offset))


def answer(values: list[bytes], lineup: Lineup, *, now: int = 0) -> list[Result]:
    """Send bytes through receive, decide and record."""
    received = receive([message(v, n) for n, v in enumerate(values)], known_domains=lineup.domains)
    return record(received, decide(received, lineup, now=now), catalogue=lineup.identity, now=now)


def decision(result: Result) -> Decision:
    """Read a result as a decision."""
    return from_bytes(result.value, Decision)


def letter(result: Result) -> DeadLetter:
    """Read a result as a dead letter."""
    return from_bytes(result.value, DeadLetter)
