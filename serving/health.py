"""What the outside may ask of a worker: is it alive, is it ready, what are its metrics.

Alive means progress: the loop comes round, and the committed position moves while there is lag. A thread that runs or a
poll that returns proves neither. Ready means that every named condition holds.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast, final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from policies.errors import Unable

Clock = Callable[[], float]


class PortTaken(Unable):
    """The port of the health server cannot be listened at."""


@final
class Progress:
    """Keep when a loop last came round, when it last committed and how far it is behind; read from another thread.

    Times are seconds of a monotonic clock.
    """

    def __init__(self, loop: str, *, clock: Clock, stall_s: float) -> None:
        self.loop = loop
        self._clock, self._stall_s = clock, stall_s
        self._came_round = self._moved = clock()
        self._lag = 0
        self._is_running = False

    def begin(self) -> None:
        """Note that the loop starts: from now on it must move."""
        self._came_round = self._moved = self._clock()
        self._is_running = True

    def come_round(self) -> None:
        """Note that the loop polled and got an answer."""
        self._came_round = self._clock()

    def move(self) -> None:
        """Note that the committed position moved."""
        self._moved = self._clock()

    def measure(self, lag: int) -> None:
        """Note how many messages wait; the time without progress counts from when they began to."""
        if self._lag == 0 and lag > 0:
            self._moved = self._clock()
        self._lag = lag

    def end(self) -> None:
        """Note that the loop ended in order: it need not move any more."""
        self._is_running = False

    def trouble(self) -> str | None:
        """Return what is wrong, or None while the loop makes progress, has not begun or has ended in order."""
        if not self._is_running:
            return None
        now = self._clock()
        if (silent_s := now - self._came_round) > self._stall_s:
            return f"the {self.loop} loop has not come round for {silent_s:.1f} s"
        if self._lag > 0 and (still_s := now - self._moved) > self._stall_s:
            return f"the {self.loop} loop has committed nothing for {still_s:.1f} s with {self._lag} messages waiting"
        return None


@final
class Readiness:
    """Keep named conditions, all of which must hold before a worker is sent traffic."""

    def __init__(self, conditions: Sequence[str]) -> None:
        self._holds = dict.fromkeys(conditions, False)

    def set(self, condition: str, *, holds: bool = True) -> None:
        """Note whether a condition holds.

        Raises:
            ValueError: no such condition was named at the start.
        """
        if condition not in self._holds:
            raise ValueError(f"there is no condition {condition!r}; there are {', '.join(self._holds)}")
        self._holds[condition] = holds

    def missing(self) -> list[str]:
        """Return the conditions that do not hold."""
        return [name for name, holds in self._holds.items() if not holds]


@final
class HealthServer:
    """Answer /healthz, /readyz and /metrics on a thread of its own, until closed.

    Raises:
        PortTaken: the port cannot be listened at.
    """

    def __init__(
        self,
        *,
        port: int,
        loops: Sequence[Progress],
        readiness: Readiness,
        registry: CollectorRegistry,
        host: str = "127.0.0.1",
    ) -> None:
        self._loops, self._readiness, self._registry = loops, readiness, registry
        try:
            self._server = _Server((host, port), self)
        except OSError as error:
            raise PortTaken(f"cannot listen at {host}:{port}: {error.strerror}; name another --metrics-port") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened at: the free one that was found, where 0 was asked for."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return the status, the content type and the body of a path."""
        page = _PAGES.get(path.partition("?")[0])
        if page is None:
            return 404, _TEXT, f"there is {', '.join(_PAGES)}\n".encode()
        return page(self)

    def _healthz(self) -> tuple[int, str, bytes]:
        return _verdict([trouble for loop in self._loops if (trouble := loop.trouble()) is not None])

    def _readyz(self) -> tuple[int, str, bytes]:
        return _verdict([f"not yet: {name}" for name in self._readiness.missing()])

    def _metrics(self) -> tuple[int, str, bytes]:
        return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)


_TEXT: Final = "text/plain; charset=utf-8"
_PAGES: Final[Mapping[str, Callable[[HealthServer], tuple[int, str, bytes]]]] = {
    "/healthz": HealthServer._healthz,
    "/readyz": HealthServer._readyz,
    "/metrics": HealthServer._metrics,
}


def _verdict(troubles: Sequence[str]) -> tuple[int, str, bytes]:
    return (503, _TEXT, "\n".join([*troubles, ""]).encode()) if troubles else (200, _TEXT, b"ok\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], health: HealthServer) -> None:
        self.health = health
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, kind, body = cast("_Server", self.server).health.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Log nothing: probes come every few seconds."""
