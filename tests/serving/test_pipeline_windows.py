"""What the pipeline remembers of each partition: what is committed and no more, read back as seldom as that allows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from serving.catalogue import Lineup
from serving.contract import Batch, Committed, Kept, Kind, Place, Positions, Recalled, Result, Rewound
from serving.metrics import Metrics
from serving.pipeline import Pipeline
from serving.transport.memory import MemoryLog, MemoryTransport
from tests.helpers.domains import ad_load
from tests.helpers.lineups import lineup
from tests.helpers.streams import Clock, new_loop, new_metrics, new_pipeline, sample

FIRST, SECOND = ("requests", 0), ("requests", 1)


@pytest.fixture(scope="module")
def shop() -> Lineup:
    return lineup("ad_load")


class Recalling:
    """A memory transport that reads back all places at once, counts how often, and changes hands when it is told to."""

    def __init__(self, log: MemoryLog, *, is_complete: bool = True, rewinds: Sequence[int] = ()) -> None:
        self._log, self._is_complete, self._rewinds = log, is_complete, set(rewinds)
        self._settles = self.hands = 0
        self.recalled: list[list[Place]] = []
        self.restart()

    def restart(self) -> None:
        """Begin another life: positions are read anew from the log."""
        self.inner = MemoryTransport(self._log, max_batch=4, faults=self._fault)
        self.hands += 1

    def _fault(self, point: str) -> str | None:
        if point != "before_commit":
            return None
        self._settles += 1
        return "asked to rewind" if self._settles in self._rewinds else None

    def poll(self) -> Batch:
        return self.inner.poll()

    def settle(
        self, batch: Batch, results: Sequence[Result], *, positions: Positions | None = None
    ) -> Committed | Rewound:
        settled = self.inner.settle(batch, results, positions=positions)
        if isinstance(settled, Rewound):
            self.restart()
        return settled

    def close(self) -> None:
        self.inner.close()

    def recent_results(self, kind: Kind, *, place: Place, count: int, since: int = 0) -> Sequence[Result]:
        return self.inner.recent_results(kind, place=place, count=count, since=since)

    def recall(
        self, kind: Kind, *, places: Sequence[Place], count: int, keep: Callable[[Result], Kept]
    ) -> Recalled[Kept]:
        self.recalled.append(sorted(places))
        found = {place: list(map(keep, self.recent_results(kind, place=place, count=count))) for place in places}
        return Recalled(found=found, is_complete=self._is_complete)

    def places(self) -> Sequence[Place]:
        return self.inner.places()

    def assignment(self) -> int:
        return self.hands

    def committed(self) -> Positions:
        return self.inner.committed()

    def lag(self) -> Mapping[Place, int]:
        return self.inner.lag()


def run(transport: Any, shop: Lineup) -> tuple[Pipeline, Metrics]:
    clock, metrics = Clock(), new_metrics()
    pipeline = new_pipeline(transport, shop, clock=clock, metrics=metrics)
    new_loop(transport, pipeline, clock=clock, metrics=metrics).run()
    return pipeline, metrics


def fed(count: int, *, partition_count: int = 2) -> MemoryLog:
    log = MemoryLog(partition_count=partition_count)
    for number, value in enumerate(ad_load().messages(count)):
        log.append(value, partition=number % partition_count)
    return log


def rebuilt(log: MemoryLog, place: Place, pipeline: Pipeline) -> bool:
    """Say whether what is remembered of a place is what its committed results say."""
    fresh = Recalling(log)
    other = new_pipeline(fresh, lineup("ad_load"), clock=Clock(), metrics=new_metrics())
    other._rebuild(place)
    return vars(other._window._partitions[place]) == vars(pipeline._window._partitions[place])


def test_one_reading_serves_all_partitions_of_a_topic(shop: Lineup) -> None:
    transport = Recalling(fed(24))
    run(transport, shop)
    assert transport.recalled == [[FIRST, SECOND]]


def test_after_a_rewind_nothing_is_read_again_and_the_windows_hold_what_is_committed(shop: Lineup) -> None:
    log = fed(40)
    transport = Recalling(log, rewinds=[2, 5, 6])
    pipeline, metrics = run(transport, shop)
    assert transport.recalled == [[FIRST, SECOND]]
    assert sample(metrics, "penstock_rewinds_total", loop="decide") == 3
    assert sample(metrics, "penstock_duplicate_requests_total") == 0
    assert len(log.results("decision")) == 40
    assert rebuilt(log, FIRST, pipeline)
    assert rebuilt(log, SECOND, pipeline)


def test_a_partition_in_which_another_has_decided_is_read_again_and_others_are_not(shop: Lineup) -> None:
    log = fed(8)
    transport = Recalling(log)
    pipeline, _ = run(transport, shop)
    other = ad_load().messages(12)
    for value in other[8:]:
        log.append(value, partition=1)
    elsewhere = MemoryTransport(log)
    run(elsewhere, shop)
    transport.restart()
    for value in other[8:]:  # decided by the other: the same bytes repeat
        log.append(value, partition=1)
    log.append(other[0], partition=0)
    new_loop(transport, pipeline, clock=Clock(), metrics=new_metrics()).run()
    assert transport.recalled == [[FIRST, SECOND], [SECOND]]
    assert rebuilt(log, FIRST, pipeline)
    assert rebuilt(log, SECOND, pipeline)


def test_a_reading_that_misses_results_is_counted(shop: Lineup) -> None:
    _, metrics = run(Recalling(fed(8), is_complete=False), shop)
    assert sample(metrics, "penstock_incomplete_windows_total") == 2
