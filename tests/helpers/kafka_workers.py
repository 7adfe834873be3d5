"""Workers as processes of their own, `penstock serve` on Kafka, that a test may kill, pause and start again."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from tests.helpers.kafka_topics import Topics

ROOT = Path(__file__).parent.parent.parent
_MAIN = "import sys; from penstock.main import main; sys.exit(main(sys.argv[1:]))"


class Workers:
    """Some named workers of one group."""

    def __init__(self, topics: Topics, *, logs: Path, artifact: Path | None = None, flags: Sequence[str] = ()) -> None:
        """Name what decides: an artifact, or flags that do."""
        self.topics, self.group = topics, f"{topics.prefix}-group"
        self._logs, self._flags = logs, list(flags)
        self._decides = [] if artifact is None else ["--artifact", str(artifact)]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._log_starts: dict[str, int] = {}
        self._asking: KafkaConsumer | None = None

    def start(self, name: str) -> None:
        """Start a worker; a name whose process has ended is a restart."""
        topics = self.topics
        where = ["--brokers", topics.bootstrap, "--prefix", topics.prefix, "--group", self.group, "--instance", name]
        words = ["serve", *self._decides, "--transport", "kafka", *where, *self._flags]
        path = {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"}
        with (self._logs / f"{name}.log").open("ab") as log:
            self._log_starts[name] = log.tell()
            self._running[name] = subprocess.Popen(
                [sys.executable, "-c", _MAIN, *words], cwd=ROOT, env=os.environ | path, stdout=log, stderr=log
            )

    def send(self, name: str, number: signal.Signals) -> None:
        self._running[name].send_signal(number)

    def kill(self, name: str) -> None:
        """End a worker as a crash does."""
        self._running[name].kill()
        self._running[name].wait()

    def is_running(self, name: str) -> bool:
        return self._running[name].poll() is None

    def end(self, name: str, *, timeout_s: float = 20.0) -> int:
        """Ask a worker to end, once its loop runs, and return its exit code."""
        give_up = time.monotonic() + timeout_s
        while "start loop" not in self.log(name)[self._log_starts[name] :] and time.monotonic() < give_up:
            time.sleep(0.05)
        self.send(name, signal.SIGTERM)
        return self._running[name].wait(timeout_s)

    def await_end(self, name: str, *, timeout_s: float) -> int:
        """Wait until a worker ends by itself, and return its exit code."""
        return self._running[name].wait(timeout_s)

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
        self._ask_no_more()

    def log(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text()

    def committed(self, *, timeout_ms: int = 20_000) -> int:
        """Return how many requests the group has committed, over all partitions.

        Raises:
            KafkaError: no broker answers.
        """
        if self._asking is None:
            self._asking = KafkaConsumer(
                bootstrap_servers=self.topics.bootstrap, group_id=self.group, enable_auto_commit=False
            )
        places = [TopicPartition(self.topics.name("requests"), n) for n in range(self.topics.partition_count)]
        try:
            return sum(self._asking.committed(place, timeout_ms=timeout_ms) or 0 for place in places)
        except KafkaError:
            self._ask_no_more()
            raise

    def _ask_no_more(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.close(autocommit=False, timeout_ms=1_000)

    def await_committed(self, count: int, *, timeout_s: float) -> int:
        """Wait until the group has committed so many requests, and return how many; who has ended is started again."""
        give_up = time.monotonic() + timeout_s
        while (found := self.committed()) < count:
            if time.monotonic() > give_up:
                tails = {name: self.log(name)[-1500:] for name in self._running}
                raise AssertionError(f"{found} of {count} requests committed after {timeout_s} s: {tails}")
            for name, process in list(self._running.items()):
                if process.poll() is not None:
                    self.start(name)
            time.sleep(0.1)
        return found


@contextlib.contextmanager
def working(topics: Topics, **settings: Any) -> Iterator[Workers]:
    """Make workers, and end those that are left."""
    workers = Workers(topics, **settings)
    try:
        yield workers
    finally:
        workers.close()
