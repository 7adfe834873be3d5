"""Who is compared: Penstock with each client it offers, and each peer with the strongest guarantee it has."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.children import ROOT, run_child
from bench.peers.environment import SHARED, PeerUnavailable, streaming_python
from bench.peers.serving.words import BATCH
from serving.settings import PREFIX
from tests.helpers.kafka_topics import Topics

PENSTOCK: Final = "penstock"
_LIBRARIES: Final = {"": "kafka-python", "python": "kafka-python"}


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One service: its name, how it is started, and what it promises."""

    name: str
    python: Path
    module: str
    guarantee: str
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, topics: Topics, folder: Path) -> list[str]:
        """Return the words that start it on some topics."""
        where = ["--brokers", topics.bootstrap, "--group", topics.prefix]
        if self.module == PENSTOCK:
            words = ["serve", "--artifact", str(folder / "artifact"), "--transport", "kafka", "--prefix", topics.prefix]
            words += ["--instance", "bench"]
        else:
            words = ["--requests", topics.name("requests"), "--decisions", topics.name("decisions")]
            words += ["--model", str(folder / "artifact" / "policy.onnx")]
        return [str(self.python), "-m", self.module, *words, *where, *self.flags]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer: the environment and the module it runs in, and what it promises."""

    environment: str
    module: str
    guarantee: str
    flags: tuple[str, ...] = ()


PEERS: Final[Mapping[str, Peer]] = {
    "confluent-kafka loop": Peer(
        environment="confluent",
        module="confluent_loop",
        guarantee=f"transactions of up to {BATCH}, fenced by the group",
    ),
    "aiokafka loop": Peer(
        environment="aiokafka",
        module="aiokafka_loop",
        guarantee=f"transactions of up to {BATCH}, not fenced by the group",
    ),
    "kafka-python loop": Peer(
        environment="kafka-python",
        module="kafka_python_loop",
        guarantee=f"transactions of up to {BATCH}, as documented: hazards H1 to H18 apply",
    ),
    "Quix Streams, 50 ms": Peer(
        environment="quix",
        module="quix_stream",
        guarantee="exactly-once, a checkpoint each 50 ms",
        flags=("--commit-interval-s", "0.05"),
    ),
    "Quix Streams, default": Peer(
        environment="quix",
        module="quix_stream",
        guarantee="exactly-once, a checkpoint each 5 s",
        flags=("--commit-interval-s", "5"),
    ),
}


def find_contenders(
    only: Sequence[str], *, also: Mapping[str, Sequence[str]]
) -> tuple[list[Contender], dict[str, str]]:
    """Return who takes part, and for each one who cannot the reason.

    Args:
        only: beginnings of names; none takes all.
        also: further rows of Penstock by name, each with its flags, and settings written PENSTOCK_NAME=VALUE.
    """
    absent: dict[str, str] = {}
    found = [one for one in _own(also, absent) if _is_wanted(one.name, only)]
    for name, peer in PEERS.items():
        if not _is_wanted(name, only):
            continue
        try:
            python = streaming_python(peer.environment)
        except PeerUnavailable as error:
            absent[name] = str(error)
            continue
        module = f"bench.peers.serving.{peer.module}"
        found.append(Contender(name=name, python=python, module=module, guarantee=peer.guarantee, flags=peer.flags))
    return found, absent


def versions_of(contender: Contender) -> dict[str, str]:
    """Return what a contender decides with: Python and the shared libraries, as its own interpreter has them."""
    code = (
        "import json, platform; from importlib.metadata import version; "
        f"print(json.dumps({{'Python': platform.python_version()}} | {{n: version(n) for n in {SHARED}}}))"
    )
    found: dict[str, str] = run_child([contender.python, "-c", code]).document
    return found


def clients_offered(help_text: str) -> list[str]:
    """Return the clients that `penstock serve --help` names; one without a name where there is no choice.

    >>> clients_offered("[--kafka-client {python,librdkafka}] [--json]"), clients_offered("[--json]")
    (['python', 'librdkafka'], [''])
    """
    found = re.search(r"--kafka-client\s+\{([^}]+)\}", help_text)
    return [name.strip() for name in found[1].split(",")] if found else [""]


def _own(also: Mapping[str, Sequence[str]], absent: dict[str, str]) -> list[Contender]:
    """Return a row for each client that `serve` offers here, and those that were asked for."""
    help_text = subprocess.run(
        [sys.executable, "-m", PENSTOCK, "serve", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    rows: dict[str, tuple[str, ...]] = {}
    for client in clients_offered(help_text):
        name = f"Penstock, {_LIBRARIES.get(client, client)}"
        if client == "librdkafka" and importlib.util.find_spec("confluent_kafka") is None:
            absent[name] = "this interpreter has no confluent-kafka"
            continue
        rows[name] = ("--kafka-client", client) if client else ()
    rows |= {f"Penstock, {name}": tuple(flags) for name, flags in also.items()}
    guarantee = f"transactions of up to {BATCH}, guarded; full decision records"
    return [
        Contender(
            name=name,
            python=Path(sys.executable),
            module=PENSTOCK,
            guarantee=guarantee,
            flags=tuple(word for word in words if not word.startswith(PREFIX)),
            environment=settings_among(words),
        )
        for name, words in rows.items()
    ]


def settings_among(words: Sequence[str]) -> dict[str, str]:
    """Return the environment of a row of Penstock: the peers' size of a batch, and what words like NAME=VALUE set.

    >>> settings_among(["PENSTOCK_MAX_BATCH=64", "--metrics-port", "0"])
    {'PENSTOCK_MAX_BATCH': '64', 'PENSTOCK_LOG_LEVEL': 'warning'}
    """
    given = dict(word.split("=", 1) for word in words if word.startswith(PREFIX))
    return {f"{PREFIX}MAX_BATCH": str(BATCH), f"{PREFIX}LOG_LEVEL": "warning", **given}


def _is_wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(name.lower().startswith(start.strip().lower()) for start in only)


def environment_of(contender: Contender) -> dict[str, str]:
    """Return the environment variables of a contender's process: one thread, and our sources."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1", **contender.environment}


def describe(versions: Mapping[str, str]) -> str:
    """Return versions in one line.

    >>> describe({"Python": "3.11.7", "numpy": "2.4.6"})
    'Python 3.11.7, numpy 2.4.6'
    """
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def same_versions(found: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the versions that all have.

    Raises:
        PeerUnavailable: some differ; the message shows whose.
    """
    first = dict(next(iter(found.values())))
    other = {name: dict(versions) for name, versions in found.items() if versions != first}
    if other:
        raise PeerUnavailable(f"expected {json.dumps(first)} in all environments, found {json.dumps(other)}")
    return first
