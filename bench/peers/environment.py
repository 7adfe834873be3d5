"""Make the environments of the peers, each its own under `.bench`, once.

    .bench/obp = venv + (obp==0.5.7 --no-deps --ignore-requires-python) + what it imports, pinned in requirements.txt
    .bench/confluent = venv + librdkafka and nothing of ours: what feeds and judges
    .bench/serving-NAME = venv + a streaming peer, pinned here, + onnxruntime, numpy, msgspec as this interpreter has

obp 0.5.7 asks for Python below 3.11 and for libraries of 2022 but runs without; plain pip would install obp 0.4.1. It
imports torch for its neural policies and estimates without it. Where this interpreter has torch, a .pth file lends it:
the entry comes after the environment's own libraries, so that nothing else is taken from there.
"""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from policies.errors import Unable

ROOT: Final = Path(__file__).parent.parent.parent
HOME: Final = ROOT / ".bench" / "obp"
CONFLUENT: Final = "confluent-kafka==2.16.1"
OBP: Final = ("--no-deps", "--ignore-requires-python", "obp==0.5.7")
REQUIREMENTS: Final = Path(__file__).parent / "requirements.txt"

STREAMING: Final[Mapping[str, tuple[str, ...]]] = {
    "confluent": (CONFLUENT,),
    "aiokafka": ("aiokafka==0.14.0",),
    "kafka-python": ("kafka-python[crc32c]==3.0.12", "crc32c==2.9.post0"),
    # Quix Streams asks for confluent-kafka below 2.13.
    "quix": ("quixstreams==3.28.1", "confluent-kafka==2.12.2"),
}
"""What each streaming peer is, pinned."""

SHARED: Final = ("onnxruntime", "numpy", "msgspec")
"""What all streaming peers decide with: the versions of this interpreter, so that only the streams differ."""


class PeerUnavailable(Unable):
    """The peer's environment cannot be made; the message says which step failed and how."""


def obp_python(home: Path = HOME) -> Path:
    """Return the interpreter of obp's environment, which is made first when it is absent or unfinished.

    Raises:
        PeerUnavailable: a step failed, most likely because no package index is reached.
    """
    return _made(home, content="", make=lambda python: _make(home, python))


def confluent_python(home: Path = HOME.parent / "confluent") -> Path:
    """Return the interpreter of an environment that has librdkafka and nothing of ours.

    Raises:
        PeerUnavailable: a step failed, most likely because no package index is reached.
    """
    return _made(home, content="", make=lambda python: _install(home, python, CONFLUENT))


def streaming_python(name: str, home: Path | None = None) -> Path:
    """Return the interpreter of a streaming peer's environment, made anew where what it should hold has changed.

    Raises:
        PeerUnavailable: a step failed, most likely because no package index is reached.
    """
    wanted = (*STREAMING[name], *(f"{shared}=={version(shared)}" for shared in SHARED))
    home = home or HOME.parent / f"serving-{name}"
    return _made(home, content="\n".join(wanted), make=lambda python: _install(home, python, *wanted))


def _made(home: Path, *, content: str, make: Callable[[Path], None]) -> Path:
    """Return the interpreter of an environment; it is made first where it does not say that it holds this content."""
    python, ready = home / "bin" / "python", home / ".ready"
    if not ready.exists() or ready.read_text() != content:
        print(f"making the environment {home.name}; this happens once", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        make(python)
        ready.write_text(content)
    return python


def _install(home: Path, python: Path, *requirements: str) -> None:
    _do([sys.executable, "-m", "venv", str(home)])
    _do([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])


def _make(home: Path, python: Path) -> None:
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _do([sys.executable, "-m", "venv", str(home)])
    _do([*pip, "-r", str(REQUIREMENTS)])
    _do([*pip, *OBP])
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        _do([*pip, "torch"])
    else:
        folder = _do([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
        (Path(folder) / "lent_torch.pth").write_text(f"{Path(torch.origin).parent.parent}\n")
    _do([str(python), "-W", "ignore", "-c", "import obp.ope"])


def _do(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerUnavailable(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout
