"""What is in force now: one artifact for good, or a catalogue that is watched and swapped between batches."""

import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, final

from serving.catalogue import Lineup, load_lineup
from serving.log import log
from serving.metrics import Metrics

_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 60.0


class Lineups(Protocol):
    """Give the lineup that decides the next batch."""

    def current(self) -> Lineup:
        """Return it; called once per poll, whether or not messages came."""


@final
class FixedLineup:
    """Give always the same lineup."""

    def __init__(self, lineup: Lineup, *, metrics: Metrics) -> None:
        self._lineup = lineup
        show_lineup(lineup, metrics=metrics)

    def current(self) -> Lineup:
        """Return the lineup."""
        return self._lineup


def start_thread(work: Callable[[], None]) -> None:
    """Run work on a thread of its own, which the process waits for: onnxruntime aborts one that leaves amid a load."""
    threading.Thread(target=work, name="load catalogue", daemon=False).start()


@final
class CatalogueWatcher:
    """Load `catalogue.json` again when its bytes have changed, beside the loop, and swap between two batches.

    What is in force, and what was before it, is not loaded again. A catalogue that does not load is refused, whatever
    the reason: the one in force stays, and the load is tried again after a growing wait, for the artifacts may follow
    their catalogue. A refusal is logged and counted once, until its bytes or its reason change.

    `seconds` is a monotonic clock.
    """

    def __init__(
        self,
        path: Path,
        *,
        salt: bytes,
        metrics: Metrics,
        seconds: Callable[[], float],
        load: Callable[..., Lineup] = load_lineup,
        run: Callable[[Callable[[], None]], None] = start_thread,
    ) -> None:
        self._path, self._salt, self._metrics, self._load, self._run = path, salt, metrics, load, run
        self._seconds = seconds
        self._refusal: tuple[bytes, str] | None = None
        self._wait_s, self._retry_s = _FIRST_WAIT_S, 0.0
        self._stamp = self._read_stamp()
        self._digest = sha256(path.read_bytes()).digest() if self._stamp else b""
        self._lineup = load(path, salt=salt)
        self._known = self._lineup.artifacts()
        self._fresh: Lineup | None = None
        self._is_loading = False
        show_lineup(self._lineup, metrics=metrics)

    def current(self) -> Lineup:
        """Return the lineup in force; one `stat` where nothing has changed."""
        if self._fresh is not None:
            self._known = self._lineup.artifacts() | self._fresh.artifacts()
            self._lineup, self._fresh = self._fresh, None
            show_lineup(self._lineup, metrics=self._metrics)
            self._metrics.counter("penstock_catalogue_swaps_total", "swapped").inc()
            log("swap catalogue", catalogue=self._lineup.identity)
        if not self._is_loading and self._is_due():
            self._is_loading = True
            self._run(self._reload)
        return self._lineup

    def _is_due(self) -> bool:
        """Say whether the file has changed, or was refused long enough ago to be tried again."""
        stamp = self._read_stamp()
        is_changed, self._stamp = stamp != self._stamp, stamp
        return is_changed or (self._refusal is not None and self._seconds() >= self._retry_s)

    def _reload(self) -> None:
        digest = b""
        try:
            digest = sha256(self._path.read_bytes()).digest()
            if digest != self._digest:
                self._fresh = self._load(self._path, salt=self._salt, known=self._known)
                self._digest = digest
            self._refusal = None
        except Exception as error:  # this is the outermost call of its thread, where it would be lost
            self._refuse(digest, error)
        finally:
            self._is_loading = False

    def _refuse(self, digest: bytes, error: Exception) -> None:
        refusal = (digest, f"{type(error).__name__}: {error}")
        if refusal == self._refusal:
            self._wait_s = min(_LONGEST_WAIT_S, 2 * self._wait_s)
        else:
            self._refusal, self._wait_s = refusal, _FIRST_WAIT_S
            self._metrics.counter("penstock_catalogue_swaps_total", "refused").inc()
            log("refuse catalogue", level="error", error=error, path=str(self._path))
        self._retry_s = self._seconds() + self._wait_s

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def show_lineup(lineup: Lineup, *, metrics: Metrics) -> None:
    """Set the metrics that say what is in force."""
    for name in ("penstock_artifact_info", "penstock_catalogue_info"):
        metrics.forget_gauge(name)
    metrics.gauge("penstock_catalogue_info", lineup.identity).set(1)
    for domain, assignment in lineup.domains.items():
        for seat in (assignment.live, assignment.canary, assignment.shadow):
            if seat is not None:
                metrics.gauge("penstock_artifact_info", domain, seat.role, seat.policy).set(1)
