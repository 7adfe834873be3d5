"""One Apache Kafka broker on loopback for the tests: KRaft, transactions, a folder and ports of its own.

Where the jars come from, in this order: a running broker named by PENSTOCK_TEST_KAFKA; a distribution at KAFKA_HOME;
Maven coordinates (`tests/kafka/pom.xml`), kept in the user's cache under the hash of that file. Ready means that our
own process is alive, that the cluster which answers is the one we formatted, and that a transaction commits on it.
"""

import base64
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError

from tests.helpers.kafka_versions import features

POM: Final = Path(__file__).parent.parent / "kafka" / "pom.xml"
READY_S: Final = 60.0
_UNWANTED: Final = ("jetty", "jersey", "jakarta", "connect-")
"""Parts of names of jars that a broker does not load."""


class BrokerMissingError(Exception):
    """No broker can be had here; the message says why."""


def cache_folder() -> Path:
    """Return the folder that jars and pid files are kept in over test runs."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "penstock-tests"


def find_jars() -> Path:
    """Return a folder of Kafka's jars, fetched when need be.

    Raises:
        BrokerMissingError: there is no Java, no distribution and no way to fetch one.
    """
    if shutil.which("java") is None:
        raise BrokerMissingError("java is not on the path: a broker needs Java 17 or later")
    home = os.environ.get("KAFKA_HOME")
    if home:
        if not list((Path(home) / "libs").glob("kafka_*.jar")):
            raise BrokerMissingError(f"KAFKA_HOME names {home}, which has no libs/kafka_*.jar")
        return Path(home) / "libs"
    folder = cache_folder() / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"
    return folder if folder.is_dir() else _fetch_jars(folder)


def _fetch_jars(folder: Path) -> Path:
    if shutil.which("mvn") is None:
        raise BrokerMissingError("neither PENSTOCK_TEST_KAFKA nor KAFKA_HOME is set, and mvn is not on the path")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        shutil.copy(POM, scratch)
        command = [
            "mvn",
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            "-DoutputDirectory=libs",
        ]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            raise BrokerMissingError(f"mvn could not fetch Kafka's jars: {(done.stdout + done.stderr)[-800:]}")
        with contextlib.suppress(OSError):  # another run was faster
            (Path(scratch) / "libs").rename(folder)
    return folder


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A listener beside the plain ones: its name, the protocol it speaks, and where clients are told it is."""

    name: str
    protocol: str
    port: int
    host: str = "localhost"


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What a broker has beside what each has: listeners, lines of its properties, words for its format."""

    listeners: Sequence[Listener] = ()
    properties: Sequence[str] = ()
    format_words: Sequence[str] = ()


class KafkaBroker:
    """A broker of our own: start, stop, kill, pause, go on, restart.

    It listens twice. Who comes by the second listener, `behind`, is told that the broker lives at `front`, a socket
    held open here: a proxy that answers there stands between those clients and the broker, and nothing is rewritten.
    """

    def __init__(self, jars: Path, folder: Path, *, extras: Extras | None = None) -> None:
        self._extras = extras or Extras()
        wanted = [path for path in jars.glob("*.jar") if not any(part in path.name for part in _UNWANTED)]
        self._class_path = ":".join(map(str, sorted(wanted)))
        self._folder = folder
        self._port, self._controller, behind = free_ports(3)
        self.front = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.behind = ("127.0.0.1", behind)
        self._cluster = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode().replace("-", "A")
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._format()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is ready; its logs and topics are those of its last life."""
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["java", "-Xms256m", "-Xmx512m", *self._java("kafka.Kafka"), "server.properties"],
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        _note_pid(self.pid)
        self._await_ready()

    def stop(self) -> None:
        """End it in order, by force when it does not."""
        self.front.close()
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
            os.kill(self.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def kill(self) -> None:
        """End it as a power cut ends a process."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._forget()

    def pause(self) -> None:
        """Stop it where it stands, sockets open, and return when all its threads do: it may answer until then."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _java(self, main: str) -> list[str]:
        return ["-cp", self._class_path, main]

    def _format(self) -> None:
        (self._folder / "server.properties").write_text(self._properties())
        command = ["java", *self._java("kafka.tools.StorageTool"), "format", "-t", self._cluster, *features()]
        done = subprocess.run(
            [*command, "-c", "server.properties", *self._extras.format_words],
            cwd=self._folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise BrokerMissingError(f"its folder could not be formatted: {(done.stdout + done.stderr)[-800:]}")

    def _properties(self) -> str:
        controller = f"CONTROLLER://127.0.0.1:{self._controller}"
        more = self._extras.listeners
        bound = "".join(f",{one.name}://127.0.0.1:{one.port}" for one in more)
        told = "".join(f",{one.name}://{one.host}:{one.port}" for one in more)
        spoken = "".join(f",{one.name}:{one.protocol}" for one in more)
        front = self.front.getsockname()[1]
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{self._controller}",
            f"listeners=PLAINTEXT://{self.bootstrap},BEHIND://127.0.0.1:{self.behind[1]},{controller}{bound}",
            f"advertised.listeners=PLAINTEXT://{self.bootstrap},BEHIND://127.0.0.1:{front}{told}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=PLAINTEXT",
            f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,BEHIND:PLAINTEXT,PLAINTEXT:PLAINTEXT{spoken}",
            f"log.dirs={self._folder / 'data'}",
            "group.initial.rebalance.delay.ms=0",
            "auto.create.topics.enable=false",
            # Tests of members that time out need not wait for six seconds each.
            "group.min.session.timeout.ms=1000",
            # A restart after SIGKILL takes 6 s instead of 14 to 18.
            "broker.session.timeout.ms=3000",
            "broker.heartbeat.interval.ms=500",
        ]
        for name in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            lines += [f"{name}.num.partitions=1", f"{name}.replication.factor=1"]
        lines += ["transaction.state.log.min.isr=1", "share.coordinator.state.topic.min.isr=1"]
        lines += self._extras.properties
        return "\n".join(lines) + "\n"

    def _await_ready(self) -> None:
        give_up = time.monotonic() + READY_S
        while time.monotonic() < give_up:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(KafkaError, OSError, ValueError):
                socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
                if _answers_as(self.bootstrap) == self._cluster:
                    probe(self.bootstrap)
                    return
            time.sleep(0.2)
        tail = (self._folder / "broker.log").read_text(errors="replace")[-2000:]
        raise BrokerMissingError(f"the broker is not ready after {READY_S:.0f} s; its log ends:\n{tail}")

    def _forget(self) -> None:
        (_pid_folder() / str(self.pid)).unlink(missing_ok=True)
        self._process = None


def _answers_as(bootstrap: str) -> str:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=4000, bootstrap_timeout_ms=1000)
    try:
        return str(admin.describe_cluster()["cluster_id"])
    finally:
        admin.close()


def probe(bootstrap: str) -> None:
    """Commit a transaction on a topic made for it."""
    name = f"probe-{os.getpid()}-{time.monotonic_ns()}"
    make_topics(bootstrap, {name: 1})
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=name, max_block_ms=10_000, retry_backoff_ms=20
    )
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(name, b"probe", partition=0)
        producer.commit_transaction()
    finally:
        producer.close(timeout=5)


def make_topics(bootstrap: str, partitions: dict[str, int], *, configs: dict[str, str] | None = None) -> None:
    """Create topics and wait until they have leaders."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        wanted: dict[str, dict[str, Any]] = {
            name: {"num_partitions": count, "replication_factor": 1, "configs": configs or {}}
            for name, count in partitions.items()
        }
        admin.create_topics(wanted, timeout_ms=10_000, wait_for_metadata=True)
    finally:
        admin.close()


def add_partitions(bootstrap: str, counts: dict[str, int]) -> None:
    """Let topics have so many partitions from now on."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_partitions(counts)
        admin.wait_for_topics(list(counts))
    finally:
        admin.close()


def drop_topics(bootstrap: str, names: Sequence[str]) -> None:
    """Delete topics, and with them what they hold on the disk."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.delete_topics(list(names))
    finally:
        admin.close()


def _pid_folder() -> Path:
    folder = cache_folder() / "brokers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _note_pid(pid: int) -> None:
    (_pid_folder() / str(pid)).write_text(str(os.getpid()))


def end_orphans() -> None:
    """End brokers whose test run was killed before it could end them."""
    for note in _pid_folder().iterdir():
        with contextlib.suppress(OSError, ValueError):
            owner, pid = int(note.read_text()), int(note.name)
            if Path(f"/proc/{owner}").exists():
                continue
            if b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        note.unlink(missing_ok=True)


@contextlib.contextmanager
def running_broker(make_folder: Callable[[], Path], *, extras: Extras | None = None) -> Iterator[KafkaBroker]:
    """Start a broker of our own, and stop it at the end."""
    end_orphans()
    broker = KafkaBroker(find_jars(), make_folder(), extras=extras)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
