"""Ask for decisions on a schedule that waits for nobody, or as fast as the broker takes them.

Each request is one line of a file, under a number of its own; its record carries the time at which it was due. The
first ones, one per partition, go at once; the others when a line comes on standard input. The last line printed says
when the schedule began and how far it was kept.

    python -m bench.peers.serving.load HOST:PORT TOPIC LINES COUNT RATE SEED      (RATE 0: all at once)
"""

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from confluent_kafka import Producer

from bench.peers.serving.schedule import PARTITIONS, arrivals, numbered, templates

TICK_S = 0.0005
"""Sleep at least so long, so that waiting costs little; it is part of the latency."""


class Load:
    """Produce requests; how late each was is kept."""

    def __init__(self, brokers: str, topic: str, lines: Sequence[bytes], *, linger_ms: int) -> None:
        self._topic, self._parts, self._next = topic, templates(lines), 0
        self.lags_s: list[float] = []
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "linger.ms": linger_ms,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 1_000_000,
            }
        )

    def ask(self, *, due_s: float) -> None:
        """Produce the next request."""
        number, self._next = self._next, self._next + 1
        head, tail = self._parts[number % len(self._parts)]
        value = head + numbered(number) + tail
        partition, stamp = number % PARTITIONS, int(due_s * 1000)
        self._producer.produce(self._topic, value, b"unit-%d" % (number % 997), partition, timestamp=stamp)

    def ask_at_once(self, count: int) -> None:
        """Produce requests as fast as they are taken."""
        for _ in range(count):
            self.ask(due_s=time.time())
            if self._next % 1000 == 0:
                self._producer.poll(0)
        self._producer.flush(60)

    def ask_on_time(self, times: Sequence[float]) -> int:
        """Produce requests when they are due, and return when the schedule began, on the monotonic clock in ns."""
        begin_ns = time.monotonic_ns() + 100_000_000
        shift_s = time.time() - time.monotonic()
        for late_s, due_s in self._when_due(times, begin_ns / 1e9):
            self.lags_s.append(late_s)
            self.ask(due_s=due_s + shift_s)
        self._producer.flush(60)
        return begin_ns

    def _when_due(self, times: Sequence[float], begin_s: float) -> Iterator[tuple[float, float]]:
        now = time.monotonic()
        for at in times:
            due_s = begin_s + at
            while now < due_s:
                self._producer.poll(0)
                time.sleep(max(TICK_S, min(due_s - now, 0.1)))
                now = time.monotonic()
            yield now - due_s, due_s
            now = time.monotonic()


def main() -> None:
    brokers, topic, lines, count, rate, seed = sys.argv[1:]
    times = arrivals(int(count), rate=float(rate), seed=int(seed)) if float(rate) else []
    load = Load(brokers, topic, Path(lines).read_bytes().splitlines(), linger_ms=0 if times else 20)
    load.ask_at_once(PARTITIONS)
    begin_ns, before, began = 0, resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    if times:
        print("waiting", flush=True)
        sys.stdin.readline()
        before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        begin_ns = load.ask_on_time(times)
    else:
        load.ask_at_once(int(count))
    used, lags_s = resource.getrusage(resource.RUSAGE_SELF), sorted(load.lags_s) or [0.0]
    said = {
        "begin_ns": begin_ns,
        "lag_p99_ms": round(lags_s[int(0.99 * (len(lags_s) - 1))] * 1000, 2),
        "lag_max_ms": round(lags_s[-1] * 1000, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 3),
        "wall_s": round(time.monotonic() - began, 3),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
