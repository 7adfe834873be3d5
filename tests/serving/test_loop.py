from collections.abc import Sequence
from typing import final

import msgspec
import pytest

from serving.contract import Batch, Positions, Result
from serving.health import Progress
from serving.pacing import Pacer
from serving.transport.memory import MemoryLog, MemoryTransport, Point
from tests.contracts.transport_suite import answer, requests
from tests.helpers.streams import Clock, Stop, new_loop, new_metrics, sample


class Echo:
    """Work that answers by the message alone, and notes what it learns."""

    def __init__(self) -> None:
        self.kept = self.dropped = 0

    def answer(self, batch: Batch) -> tuple[Sequence[Result], Positions | None]:
        return [answer(message) for message in batch.messages], None

    def keep(self) -> None:
        self.kept += 1

    def drop(self) -> None:
        self.dropped += 1


def fed(count: int) -> MemoryLog:
    log = MemoryLog()
    for value in requests(count):
        log.append(value)
    return log


def test_a_finite_input_is_settled_whole_and_the_loop_ends() -> None:
    log, work, clock, metrics = fed(10), Echo(), Clock(), new_metrics()
    new_loop(MemoryTransport(log, max_batch=4), work, clock=clock, metrics=metrics).run()
    assert (work.kept, work.dropped) == (3, 0)
    assert sample(metrics, "penstock_requests_total", loop="decide") == 10
    labels = {"loop": "decide", "topic": "requests", "partition": "0"}
    assert sample(metrics, "penstock_committed_offset", **labels) == 10
    assert sample(metrics, "penstock_batch_messages_sum") == 10


def test_a_stop_ends_the_loop_after_the_batch_in_hand() -> None:
    log, work, clock = fed(10), Echo(), Clock()
    transport = MemoryTransport(log, max_batch=4)
    new_loop(transport, work, clock=clock, metrics=new_metrics(), stop=Stop(after=2)).run()
    assert transport.committed() == {("requests", 0): 8}
    assert len(log.results("decision")) + len(log.results("dead_letter")) == 8


def test_rewinds_are_waited_for_ever_longer_and_lose_nothing() -> None:
    troubles = iter(["away"] * 9)

    def faults(point: Point) -> str | None:
        return next(troubles, None) if point == "before_commit" else None

    log, work, clock, metrics, stop = fed(4), Echo(), Clock(), new_metrics(), Stop()
    new_loop(MemoryTransport(log, faults=faults), work, clock=clock, metrics=metrics, stop=stop).run()
    assert stop.waited == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert (work.kept, work.dropped) == (1, 9)
    assert sample(metrics, "penstock_rewinds_total", loop="decide") == 9
    assert len(log.results("decision")) + len(log.results("dead_letter")) == 4


def test_the_lag_is_measured_at_intervals_and_shown() -> None:
    log, clock, metrics = fed(6), Clock(), new_metrics()
    progress = Progress("decide", clock=clock, stall_s=10.0)
    transport = MemoryTransport(log, max_batch=2)
    loop = new_loop(transport, Echo(), clock=clock, metrics=metrics, progress=progress)
    labels = {"loop": "decide", "topic": "requests", "partition": "0"}
    loop.go_round()
    assert sample(metrics, "penstock_lag_messages", **labels) == 6
    loop.go_round()
    assert sample(metrics, "penstock_lag_messages", **labels) == 6
    clock.advance(5.0)
    loop.go_round()
    assert sample(metrics, "penstock_lag_messages", **labels) == 2


def test_a_loop_whose_commits_all_fail_stops_being_alive() -> None:
    log, clock = fed(1), Clock()
    progress = Progress("decide", clock=clock, stall_s=10.0)
    progress.begin()
    transport = MemoryTransport(log, faults=lambda point: "away" if point == "before_commit" else None)
    loop = new_loop(transport, Echo(), clock=clock, metrics=new_metrics(), progress=progress)
    for _ in range(4):
        loop.go_round()
        clock.advance(4.0)
    assert "with 1 messages waiting" in str(progress.trouble())


def test_a_defect_leaves_the_batch_unsettled() -> None:
    class Broken(Echo):
        def answer(self, batch: Batch) -> tuple[Sequence[Result], Positions | None]:
            raise RuntimeError("a defect")

    log, clock = fed(3), Clock()
    with pytest.raises(RuntimeError, match="a defect"):
        new_loop(MemoryTransport(log), Broken(), clock=clock, metrics=new_metrics()).run()
    assert log.positions("decide") == {}
    new_loop(MemoryTransport(log), Echo(), clock=clock, metrics=new_metrics()).run()
    assert log.positions("decide") == {("requests", 0): 3}


@final
class Timed:
    """A memory transport whose messages came when the clock says, so long before they are polled."""

    def __init__(self, log: MemoryLog, *, clock: Clock, age_s: float) -> None:
        self._inner, self._clock, self._age_s = MemoryTransport(log, max_batch=20), clock, age_s
        self.settle, self.close = self._inner.settle, self._inner.close

    def poll(self) -> Batch:
        self._clock.advance(0.01)
        batch = self._inner.poll()
        time_ms = round((self._clock() - self._age_s) * 1000)
        messages = tuple(msgspec.structs.replace(message, time_ms=time_ms) for message in batch.messages)
        return msgspec.structs.replace(batch, messages=messages)


def test_a_wait_before_the_poll_grows_while_commits_are_early_and_is_shown() -> None:
    clock, metrics, stop = Clock(), new_metrics(), Stop()
    transport = Timed(fed(6_000), clock=clock, age_s=0.008)
    new_loop(transport, Echo(), clock=clock, metrics=metrics, stop=stop, pacer=Pacer(target_s=0.02)).run()
    assert stop.waited == sorted(stop.waited)
    assert 0.002 <= stop.waited[-1] <= 0.005
    assert sample(metrics, "penstock_linger_seconds") == stop.waited[-1]
    assert sample(metrics, "penstock_commit_age_seconds_count") == 300
    assert sample(metrics, "penstock_commit_age_seconds_sum") == pytest.approx(300 * 0.008, rel=0.07)  # whole ms


@pytest.mark.parametrize("age_s", [0.018, None])
def test_nothing_is_waited_for_when_commits_are_late_or_no_times_are_known(age_s: float | None) -> None:
    clock, stop = Clock(), Stop()
    log = fed(6_000)
    transport = MemoryTransport(log) if age_s is None else Timed(log, clock=clock, age_s=age_s)
    new_loop(transport, Echo(), clock=clock, metrics=new_metrics(), stop=stop, pacer=Pacer(target_s=0.02)).run()
    assert stop.waited == []
