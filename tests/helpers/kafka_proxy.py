"""A TCP proxy between Kafka clients and a broker that reads the protocol, and misbehaves where it is told to.

It sees every request with its api, version and client, forwards frames unchanged and in order, and injects faults:
by name (the n-th Produce from now on is answered with an error, and so on) or scattered by a seed. A request that is
answered here never reaches the broker; one whose answer is delayed, dropped or cut has been carried out there.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tests.helpers.kafka_answers import API_NAMES, error_answer

Action = Literal["answer", "hold", "late", "delay", "drop", "cut"]
"""`answer`: with an error, after so many seconds, in the broker's stead. `hold`: deliver the request late, and all that
follows on its connection. `late`: close the connection, and deliver the request by another one later, as a network does
that has several ways. `delay`: deliver the response late. `drop`: say nothing more on this connection. `cut`: close it
once the broker has answered."""


@dataclass(kw_only=True)
class Fault:
    """What happens to the next `count` requests of one api, of clients whose id holds a text."""

    api: str
    action: Action
    error: int = 0
    seconds: float = 0.0
    count: int = 1
    client: str = ""
    hits: int = 0

    def hit(self, request: "Request") -> bool:
        """Say whether this request is hit, and count it."""
        if request.api != self.api or self.client not in request.client or self.hits >= self.count:
            return False
        self.hits += 1
        return True


class Request(NamedTuple):
    """A request's header, and the frame that it came in."""

    api: str
    version: int
    correlation_id: int
    client: str
    frame: bytes


@dataclass(kw_only=True)
class Scatter:
    """Hit a share of all requests with faults drawn by a seed; `answer` only where an error may be met in the wild."""

    seed: int
    share: float
    longest_s: float = 5.0
    source: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.source = random.Random(self.seed)

    def draw(self, request: Request) -> Fault | None:
        """Return the fault that meets a request, mostly none."""
        if self.source.random() >= self.share:
            return None
        action: Action = self.source.choice(("answer", "hold", "late", "delay", "drop", "cut"))
        errors = ERRORS.get(request.api)
        if action == "answer" and errors is None:
            action = "delay"
        return Fault(
            api=request.api,
            action=action,
            error=self.source.choice(errors) if errors else 0,
            seconds=self.source.uniform(0.02, self.longest_s),
        )


ERRORS: dict[str, tuple[int, ...]] = {
    "Produce": (2, 3, 6, 7, 19, 45, 47),
    "TxnOffsetCommit": (3, 14, 15, 16, 22, 25),
    "EndTxn": (14, 15, 16, 51),
    "AddPartitionsToTxn": (14, 15, 16, 51),
    "AddOffsetsToTxn": (14, 15, 16, 51),
    "Heartbeat": (15, 16, 22, 25, 27),
    "InitProducerId": (14, 15, 16, 51),
}
"""Codes a broker may answer: corrupt 2, unknown topic 3, not leader 6, timed out 7, loading 14, no coordinator 15 and
16, too few replicas 19, generation 22, member 25, rebalancing 27, out of order 45, epoch 47, concurrent 51."""


class FaultProxy:
    """Stand at a broker's front; `faults` are tried in order, then `scatter`. `seen` counts requests by api."""

    def __init__(self, front: socket.socket, behind: tuple[str, int]) -> None:
        self._front, self._behind = front, behind
        self.address = "{}:{}".format(*front.getsockname())
        self.faults: list[Fault] = []
        self.scatter: Scatter | None = None
        self.seen: Counter[str] = Counter()
        self.hits: Counter[str] = Counter()
        self.late = 0
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(
        self, api: str, action: Action, *, error: int = 0, seconds: float = 0.0, count: int = 1, client: str = ""
    ) -> Fault:
        """Add a fault, and return it with its count of hits."""
        fault = Fault(api=api, action=action, error=error, seconds=seconds, count=count, client=client)
        self.faults.append(fault)
        return fault

    def calm(self) -> None:
        """Inject nothing more."""
        self.scatter = None
        self.faults.clear()

    def cut_all(self) -> None:
        """Close every connection as it stands."""
        self._loop.call_soon_threadsafe(self._cancel)

    def close(self) -> None:
        """Close every connection and take no more; the front stays for the next proxy."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _cancel(self) -> None:
        for task in self._connections:
            task.cancel()

    def _run(self) -> None:
        self._front.setblocking(False)
        accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()
        accepting.cancel()
        self._cancel()
        self._loop.run_until_complete(asyncio.gather(accepting, *self._connections, return_exceptions=True))
        self._loop.close()

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._front)
            task = self._loop.create_task(self._serve(client))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, client: socket.socket) -> None:
        """Carry one connection until either side ends it."""
        upstream = None
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            near = await asyncio.open_connection(sock=client)
            try:
                far = await asyncio.open_connection(*self._behind)
                upstream = far[1]
                await _Connection(self, near, far).carry()
            finally:
                for writer in (near[1], upstream):
                    if writer is not None:
                        writer.transport.abort()
        client.close()

    def deliver_late(self, request: Request, seconds: float) -> None:
        """Let a request reach the broker when its connection is long gone."""
        task = self._loop.create_task(self._deliver(request, seconds))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _deliver(self, request: Request, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(*self._behind)
            writer.write(_framed(request.frame))
            await writer.drain()
            await _read_frame(reader)
            writer.close()
            self.late += 1

    def choose(self, request: Request) -> Fault | None:
        """Return the fault that meets a request, and count."""
        self.seen[request.api] += 1
        found = next((fault for fault in self.faults if fault.hit(request)), None)
        if found is None and self.scatter is not None:
            found = self.scatter.draw(request)
        if found is not None:
            self.hits[f"{request.api} {found.action}"] += 1
        return found


class _Connection:
    """One client's connection: requests go up, and each response comes down with what was decided of its request."""

    def __init__(
        self,
        proxy: FaultProxy,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        (self._from_client, self._to_client), (self._from_broker, self._to_broker) = near, far
        # The responses owed, in order: a fault to carry out on the broker's, or one that was made here.
        self._owed: asyncio.Queue[Fault | bytes | None] = asyncio.Queue()

    async def carry(self) -> None:
        up, down = asyncio.create_task(self._up()), asyncio.create_task(self._down())
        try:
            done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _up(self) -> None:
        while True:
            request = parse(await _read_frame(self._from_client))
            fault = self._proxy.choose(request)
            if fault is not None and fault.action == "answer":
                await asyncio.sleep(fault.seconds)
                self._owed.put_nowait(error_answer(request.frame, fault.error))
                continue
            if fault is not None and fault.action == "late":
                self._proxy.deliver_late(request, fault.seconds)
                raise ConnectionResetError("cut by the proxy")
            if fault is not None and fault.action == "hold":
                await asyncio.sleep(fault.seconds)
                fault = None
            self._owed.put_nowait(fault)
            self._to_broker.write(_framed(request.frame))
            await self._to_broker.drain()

    async def _down(self) -> None:
        while True:
            owed = await self._owed.get()
            if isinstance(owed, bytes):
                response = owed
            else:
                response = await _read_frame(self._from_broker)
                if owed is not None:
                    await self._harm(owed)
            self._to_client.write(_framed(response))
            await self._to_client.drain()

    async def _harm(self, fault: Fault) -> None:
        if fault.action == "cut":
            raise ConnectionResetError("cut by the proxy")
        if fault.action == "drop":
            await asyncio.Event().wait()
        await asyncio.sleep(fault.seconds)


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _framed(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


def parse(frame: bytes) -> Request:
    """Read a request's header: api key, version, correlation id and client id, the same in all header versions."""
    key, version, correlation_id, size = struct.unpack_from(">hhih", frame)
    client = frame[10 : 10 + max(size, 0)].decode()
    return Request(API_NAMES.get(key, str(key)), version, correlation_id, client, frame)


@contextlib.contextmanager
def proxied(front: socket.socket, behind: tuple[str, int]) -> Iterator[FaultProxy]:
    """Run a proxy at a broker's front."""
    proxy = FaultProxy(front, behind)
    try:
        yield proxy
    finally:
        proxy.close()
