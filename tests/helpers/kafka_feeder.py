"""A producer of requests that keeps a rate, and goes on whatever becomes of the broker."""

import threading
import time
from collections.abc import Sequence
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from tests.helpers.kafka_topics import Topics

SLICES_PER_S: Final = 10
ACKNOWLEDGED_S: Final = 10.0


class Feeder(threading.Thread):
    """Send requests at a steady rate, in turn to the partitions; a slice that fails is sent again, so asked twice.

    One producer does as long as it is well. After a failure it is made anew, for it may never send again (H5).
    """

    def __init__(self, topics: Topics, requests: Sequence[bytes], *, rate: float) -> None:
        super().__init__(daemon=True)
        self._topics, self._requests, self._rate = topics, requests, rate
        self._producer: KafkaProducer | None = None
        self._is_over = False

    def run(self) -> None:
        """Send all that there is, unless it is over before."""
        step = max(1, int(self._rate / SLICES_PER_S))
        begin = time.monotonic()
        for start in range(0, len(self._requests), step):
            if self._is_over:
                break
            while not self._send(self._requests[start : start + step]):
                time.sleep(0.5)
            time.sleep(max(0.0, begin + (start + step) / self._rate - time.monotonic()))
        self._let_go()

    def end(self) -> None:
        """Send no more, and wait until what was sent is acknowledged."""
        self._is_over = True
        self.join()

    def _send(self, values: Sequence[bytes]) -> bool:
        """Send some requests and wait until they are acknowledged; say whether all of them were."""
        name, count = self._topics.name("requests"), self._topics.partition_count
        give_up = time.monotonic() + ACKNOWLEDGED_S
        try:
            if self._producer is None:
                self._producer = KafkaProducer(
                    bootstrap_servers=self._topics.bootstrap,
                    bootstrap_timeout_ms=5_000,
                    linger_ms=5,
                    batch_size=200_000,
                )
            futures = [self._producer.send(name, value, partition=row % count) for row, value in enumerate(values)]
            for future in futures:
                future.get(max(0.1, give_up - time.monotonic()))
        except (KafkaError, OSError):
            self._let_go()
            return False
        return True

    def _let_go(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer._sender.force_close()
            producer._sender.wakeup()
            producer._sender.join(2.0)
