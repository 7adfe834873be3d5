"""Make the environment of obp 0.5.7, which asks for Python below 3.11 and for libraries of 2022 but runs without.

    .bench/obp = venv + (obp==0.5.7 --no-deps --ignore-requires-python) + what it imports, pinned in requirements.txt

obp imports torch for its neural policies and estimates without it. Where this interpreter has torch, a .pth file lends
it: the entry comes after the environment's own libraries, so that nothing else is taken from there. Plain pip would
install obp 0.4.1.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from policies.errors import Unable

ROOT: Final = Path(__file__).parent.parent.parent
HOME: Final = ROOT / ".bench" / "obp"
CONFLUENT: Final = "confluent-kafka==2.16.1"
OBP: Final = ("--no-deps", "--ignore-requires-python", "obp==0.5.7")
REQUIREMENTS: Final = Path(__file__).parent / "requirements.txt"


class PeerUnavailable(Unable):
    """The peer's environment cannot be made; the message says which step failed and how."""


def obp_python(home: Path = HOME) -> Path:
    """Return the interpreter of obp's environment, which is made first when it is absent or unfinished.

    Raises:
        PeerUnavailable: a step failed, most likely because no package index is reached.
    """
    python, ready = home / "bin" / "python", home / ".ready"
    if not ready.exists():
        print(f"making obp's environment in {home}; this happens once", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        _make(home, python)
        ready.touch()
    return python


def confluent_python(home: Path = HOME.parent / "confluent") -> Path:
    """Return the interpreter of an environment that has librdkafka and nothing of ours.

    Raises:
        PeerUnavailable: a step failed, most likely because no package index is reached.
    """
    python, ready = home / "bin" / "python", home / ".ready"
    if not ready.exists():
        print(f"making confluent-kafka's environment in {home.relative_to(ROOT)}; this happens once", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        _do([sys.executable, "-m", "venv", str(home)])
        _do([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CONFLUENT])
        ready.touch()
    return python


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
