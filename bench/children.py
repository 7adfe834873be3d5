"""Run one measurement in a process of its own, so that its memory and its imports are its own too.

The process that calls stays small: Linux hands the caller's memory on to a child's peak.
A bench that starts processes calls `end_on_terminate`, so that none of them outlives it.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from policies.errors import Unable

ROOT: Final = Path(__file__).parent.parent

_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_MIB: Final = 2**20
_MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


class ChildFailed(Unable):
    """A process ended with an error; the message holds the end of what it said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Child:
    """Hold the JSON document that a process printed, its CPU and wall time from start to end, and its peak memory."""

    document: Any
    cpu_s: float
    wall_s: float
    peak_mb: float


def end_on_terminate() -> None:
    """Let SIGTERM end this process as `sys.exit` does, what it has started first; call it from the main thread.

    A second SIGTERM does not disturb the ending. A process that was being started when the signal came is known to
    nobody yet; it is killed at the very end.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    atexit.register(_kill_the_rest)
    sys.exit(128 + number)


def _kill_the_rest() -> None:
    for listed in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, listed.read_text().split()):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def run_child(command: Sequence[str | Path]) -> Child:
    """Run a command on one thread in the repository's root; it prints one JSON document.

    Raises:
        ChildFailed: it ended with an error.
    """
    environment = os.environ | dict.fromkeys(_ONE_THREAD, "1") | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, stdout=output, stderr=errors)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            raise ChildFailed(f"{' '.join(map(str, command))} ended with {process.returncode}: {errors.read()[-2000:]}")
        return Child(
            document=json.load(output),
            cpu_s=usage.ru_utime + usage.ru_stime,
            wall_s=wall_s,
            peak_mb=usage.ru_maxrss * _MAXRSS_UNIT / _MIB,
        )
