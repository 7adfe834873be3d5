"""Messages through the service's own pipeline, without a broker: what decisions cost before any transport."""

import time
from collections.abc import Iterator
from typing import final

from prometheus_client import CollectorRegistry

from serving.catalogue import Lineup
from serving.metrics import Metrics
from serving.pipeline import Pipeline
from serving.transport.memory import MemoryLog, MemoryTransport
from serving.watcher import FixedLineup


@final
class InMemoryService:
    """The pipeline that `penstock decide` and `serve` run, over a topic in memory."""

    def __init__(self, lineup: Lineup, messages: list[bytes]) -> None:
        metrics = Metrics(CollectorRegistry())
        self._log, self._groups = MemoryLog(), 0
        for value in messages:
            self._log.append(value)
        lineups = FixedLineup(lineup, metrics=metrics)
        self._pipeline = Pipeline(
            MemoryTransport(MemoryLog()), lineups=lineups, now=lambda: 0, seconds=time.monotonic, metrics=metrics
        )

    def turn(self, count: int) -> None:
        """Send the first messages once through the transport, receive, decide, record and the transport."""
        next(self.turns(count))

    def turns(self, size: int) -> Iterator[int]:
        """Read all messages as a new group in batches of `size`, and yield how many each held once it is answered."""
        self._groups += 1
        transport = MemoryTransport(self._log, group=str(self._groups), max_batch=size)
        while not (batch := transport.poll()).is_end:
            results, _ = self._pipeline.answer(batch)
            transport.settle(batch, results)
            self._pipeline.keep()
            self._pipeline.drop()
            yield len(batch.messages)

    def decisions(self) -> list[bytes]:
        """Return the bytes of all decisions so far."""
        return [result.value for result in self._log.results("decision")]

    @property
    def dead_letters(self) -> int:
        """Return how many requests have ended in dead letters so far."""
        return len(self._log.results("dead_letter"))
