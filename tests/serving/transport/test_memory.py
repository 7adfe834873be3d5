from collections.abc import Sequence

import pytest

from serving.contract import Committed, Kind, Result, Rewound, Transport
from serving.transport.memory import MemoryLog, MemoryTransport, Point
from tests.contracts.transport_suite import Faults, TransportSuite, answer, requests, settle_all


class Breaker:
    """Passes points on to the faults of a test, and rewinds the next commit when told."""

    def __init__(self, faults: Faults | None) -> None:
        self.faults = faults
        self.is_armed = False

    def __call__(self, point: Point) -> str | None:
        if self.faults is not None:
            self.faults(point)
        if self.is_armed and point == "before_commit":
            self.is_armed = False
            return "the broker is away"
        return None


class TestMemoryTransport(TransportSuite):
    partition_count = 1

    @pytest.fixture(autouse=True)
    def _log(self) -> None:
        self.log = MemoryLog(partition_count=self.partition_count)
        self.fed = 0

    def feed(self, values: Sequence[bytes]) -> None:
        for value in values:
            self.log.append(value, partition=self.fed % self.partition_count)
            self.fed += 1

    def start(self, *, faults: Faults | None, max_batch: int) -> Transport:
        self.breaker = Breaker(faults)
        return MemoryTransport(self.log, max_batch=max_batch, faults=self.breaker)

    def results(self, kind: Kind) -> Sequence[Result]:
        return self.log.results(kind)

    def break_next_commit(self, transport: Transport) -> None:
        self.breaker.is_armed = True


class TestMemoryTransportOfThreePartitions(TestMemoryTransport):
    partition_count = 3


def test_a_newer_worker_of_the_group_fences_the_older_one() -> None:
    log = MemoryLog()
    log.append(b"{}")
    older = MemoryTransport(log)
    batch = older.poll()
    newer = MemoryTransport(log)
    settled = older.settle(batch, [answer(message) for message in batch.messages])
    assert isinstance(settled, Rewound)
    assert "fenced" in settled.reason
    assert len(settle_all(newer)) == 1
    assert len(log.results("decision")) == 1


def test_groups_keep_their_own_positions() -> None:
    log = MemoryLog()
    log.append(b"{}")
    assert len(settle_all(MemoryTransport(log, group="one"))) == 1
    assert len(settle_all(MemoryTransport(log, group="two"))) == 1


def test_an_endless_input_is_never_at_its_end() -> None:
    log = MemoryLog()
    transport = MemoryTransport(log, is_finite=False)
    assert not transport.poll().is_end
    log.append(b"{}")
    batch = transport.poll()
    assert isinstance(transport.settle(batch, [answer(message) for message in batch.messages]), Committed)


def test_a_key_always_goes_to_one_partition() -> None:
    log = MemoryLog(partition_count=4)
    places = {log.append(b"{}", key=b"card-1").partition for _ in range(5)}
    others = {log.append(b"{}", key=b"card-%d" % n).partition for n in range(40)}
    assert len(places) == 1
    assert others == {0, 1, 2, 3}


def test_results_can_be_read_as_messages_of_their_topic() -> None:
    log = MemoryLog()
    for value in requests(3):
        log.append(value)
    settle_all(MemoryTransport(log))
    assert [message.value for message in log.messages("decisions")] == [r.value for r in log.results("decision")]


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nothing_is_a_programming_error(size: int) -> None:
    with pytest.raises(ValueError, match="max_batch"):
        MemoryTransport(MemoryLog(), max_batch=size)
