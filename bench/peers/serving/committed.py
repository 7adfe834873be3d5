"""Read committed answers as they become readable, and keep when each was read.

It says `ready` when the first requests, one per partition, are answered, `complete` when all are, `silent` when nothing
has come for long. After a line on standard input it reads on until nothing comes, so that what was answered twice is
seen, then writes pairs of int64, the request's number and the monotonic time in ns, into a file.

    python -m bench.peers.serving.committed HOST:PORT TOPIC COUNT FILE
"""

import json
import resource
import sys
import threading
import time
from array import array

from confluent_kafka import Consumer, TopicPartition

from bench.peers.serving.schedule import PARTITIONS

SILENCE_S = 60.0
DRAINED_S = 1.0


class Reader:
    """Read one topic from its beginning, committed records alone."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "bench-reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        self.pairs = array("q")
        self.seen: set[int] = set()
        self.bytes = 0
        self.came_s = time.monotonic()

    def read(self, *, wait_s: float) -> bool:
        """Read what is there, or wait; say whether something came."""
        first = self._consumer.poll(wait_s)
        if first is None:
            return False
        messages = [first, *self._consumer.consume(5_000, timeout=0)]
        now_ns = time.monotonic_ns()
        for message in messages:
            if message.error() is not None:
                raise RuntimeError(str(message.error()))
            number = int(message.key()[-8:])
            self.pairs.extend((number, now_ns))
            self.seen.add(number)
            self.bytes += len(message)
        self.came_s = now_ns / 1e9
        return True


def _await_line(drain: threading.Event) -> None:
    sys.stdin.readline()
    drain.set()


def main() -> None:
    brokers, topic, count, path = sys.argv[1:]
    reader, drain = Reader(brokers, topic), threading.Event()
    threading.Thread(target=_await_line, args=(drain,), daemon=True).start()
    marks = [("ready", PARTITIONS), ("complete", int(count))]
    while not drain.is_set():
        reader.read(wait_s=0.1)
        while marks and len(reader.seen) >= marks[0][1]:
            print(marks.pop(0)[0], flush=True)
        if marks and time.monotonic() - reader.came_s > SILENCE_S:
            print("silent", flush=True)
            marks = []
    while reader.read(wait_s=DRAINED_S):
        pass
    with open(path, "wb") as file:  # noqa: PTH123  # array writes to open files alone
        reader.pairs.tofile(file)
    used = resource.getrusage(resource.RUSAGE_SELF)
    mean = round(reader.bytes / max(len(reader.pairs) // 2, 1))
    print(json.dumps({"cpu_s": round(used.ru_utime + used.ru_stime, 3), "answer_bytes": mean}))


if __name__ == "__main__":
    main()
