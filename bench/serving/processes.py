"""Processes of a run: the service that is measured, and those that feed and read it, which talk by lines."""

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from bench.children import ROOT
from policies.errors import Unable

_TICK_HZ: Final = os.sysconf("SC_CLK_TCK")
_PAGE_MIB: Final = os.sysconf("SC_PAGE_SIZE") / 2**20
_STOP_S: Final = 30.0


class RunFailed(Unable):
    """A process of a run ended or fell silent before its time."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The resident memory and the CPU time of a process at one moment of the monotonic clock."""

    at_s: float
    rss_mib: float
    cpu_s: float


def cpu_s_of(pid: int) -> float:
    """Return the CPU time that the operating system has counted for a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK_HZ


def busy_s() -> float:
    """Return the CPU time that all of the machine has spent on anything but waiting, stolen time included."""
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / _TICK_HZ


@final
class Service:
    """A process that is measured: its memory is sampled each second, its CPU is known when it has ended."""

    def __init__(self, command: Sequence[str], *, environment: dict[str, str], log: Path) -> None:
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
        self._log, self._over = log, threading.Event()
        self.samples: list[Sample] = []
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None and self._process.poll() is None

    def end(self) -> float:
        """Ask it to end, by force when it does not, and return all of its CPU time.

        Raises:
            RunFailed: it had ended by itself.
        """
        self._over.set()
        if not self.is_running:
            raise RunFailed(f"the service ended with {self._process.returncode}: {self.tail()}")
        self._process.send_signal(signal.SIGTERM)
        give_up = time.monotonic() + _STOP_S
        while True:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                return usage.ru_utime + usage.ru_stime
            if time.monotonic() > give_up:
                self._process.kill()
            time.sleep(0.01)

    def close(self) -> None:
        """Kill it where it still runs."""
        self._over.set()
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """Return the end of what it said."""
        return self._log.read_text(errors="replace")[-1500:].strip()

    def _sample(self) -> None:
        while not self._over.wait(1.0):
            try:
                pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
                cpu_s = cpu_s_of(self._process.pid)
            except (OSError, ValueError, IndexError):
                return
            self.samples.append(Sample(at_s=time.monotonic(), rss_mib=pages * _PAGE_MIB, cpu_s=cpu_s))


@final
class Helper:
    """A process that feeds or reads: it prints words, waits for a line, and prints one JSON document at its end."""

    def __init__(self, command: Sequence[str | Path], *, log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                list(map(str, command)),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
            )
        self._log = log
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def await_word(self, *words: str, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until it prints one of these words.

        Raises:
            RunFailed: it prints another or ends, or what it waits for is no longer alive.
        """
        while True:
            try:
                said = self._lines.get(timeout=0.5)
            except queue.Empty:
                if not is_alive():
                    raise RunFailed(f"the service ended while {words} was awaited") from None
                continue
            if said in words:
                return
            raise RunFailed(f"expected one of {words}, found {said!r}: {self._log.read_text(errors='replace')[-1500:]}")

    def go_on(self) -> None:
        """Send the line that it waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")

    def result(self) -> Any:
        """Wait for its end, and return the document that it prints last."""
        last = ""
        while said := self._lines.get(timeout=600):
            last = said
        if not last.startswith("{"):
            raise RunFailed(f"expected a document, found {last!r}: {self._log.read_text(errors='replace')[-1500:]}")
        return json.loads(last)

    def close(self) -> None:
        """Kill it where it still runs."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")
