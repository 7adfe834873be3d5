"""What every transport must do; a test class inherits `TransportSuite` and says how to feed, open and read one."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import pytest

from policies.events import Source
from serving.contract import Batch, Committed, Kind, Measures, Message, Remembers, Result, Rewound, Transport

Faults = Callable[[str], None]


class CrashError(Exception):
    """Stands for the death of the process."""


class CrashAt:
    """Crash at the n-th point that a transport passes (0 is the first); `passed` counts them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.passed = 0

    def __call__(self, point: str) -> None:
        self.passed += 1
        if self.passed == self.number + 1:
            raise CrashError(point)


def answer(message: Message) -> Result:
    """Decide by the message alone, as every pure decision does; what says so is refused."""
    kind: Kind = "dead_letter" if b"bad" in message.value else "decision"
    source = message.source
    value = b'{"source":{"topic":"%s","partition":%d,"offset":%d},"request":%s}' % (
        source.topic.encode(),
        source.partition,
        source.offset,
        message.value,
    )
    return Result(kind=kind, value=value, key=b"", source=source)


def settle_all(transport: Transport) -> list[Batch]:
    """Poll and settle until the end of the input."""
    batches = []
    while not (batch := transport.poll()).is_end:
        transport.settle(batch, [answer(message) for message in batch.messages])
        batches.append(batch)
    return batches


def requests(count: int) -> list[bytes]:
    return [b'{"request_id":"%d"%s}' % (n, b',"bad":1' if n % 5 == 3 else b"") for n in range(count)]


class TransportSuite(ABC):
    """Each test is a fact about the contract of `serving.contract.Transport`."""

    worker: Transport | None = None

    @abstractmethod
    def feed(self, values: Sequence[bytes]) -> None:
        """Append requests to the input, spread over its partitions in turn."""

    @abstractmethod
    def start(self, *, faults: Faults | None, max_batch: int) -> Transport:
        """Start a worker of the one group on a finite input."""

    @abstractmethod
    def results(self, kind: Kind) -> Sequence[Result]:
        """Return what a reader sees of the committed results of one kind."""

    @abstractmethod
    def break_next_commit(self, transport: Transport) -> None:
        """Make the next settle fail in a way that the transport answers with a rewind."""

    @pytest.fixture(autouse=True)
    def _close_at_the_end(self) -> Iterator[None]:
        yield
        if self.worker is not None:
            self.worker.close()

    def open(self, *, faults: Faults | None = None, max_batch: int = 4) -> Transport:
        """Start a worker; a second call is a restart, and ends the first one without any commit."""
        if self.worker is not None:
            self.worker.close()
        self.worker = self.start(faults=faults, max_batch=max_batch)
        return self.worker

    def sources(self) -> list[Source]:
        return [r.source for r in (*self.results("decision"), *self.results("dead_letter"))]

    def test_every_message_has_exactly_one_answer_that_carries_its_source(self) -> None:
        self.feed(requests(11))
        with_sources = [m for batch in settle_all(self.open()) for m in batch.messages]
        assert len(with_sources) == 11
        assert Counter(map(str, self.sources())) == Counter(str(message.source) for message in with_sources)

    def test_batches_hold_at_most_max_batch_messages(self) -> None:
        self.feed(requests(11))
        sizes = [len(batch.messages) for batch in settle_all(self.open(max_batch=3))]
        assert max(sizes) <= 3
        assert sum(sizes) == 11

    def test_messages_of_a_partition_come_in_order_without_gaps(self) -> None:
        self.feed(requests(11))
        offsets: dict[tuple[str, int], list[int]] = {}
        for batch in settle_all(self.open()):
            for message in batch.messages:
                source = message.source
                offsets.setdefault((source.topic, source.partition), []).append(source.offset)
        assert all(found == list(range(len(found))) for found in offsets.values())

    def test_results_of_a_partition_are_kept_in_the_order_of_its_messages(self) -> None:
        self.feed(requests(11))
        settle_all(self.open(max_batch=3))
        offsets: dict[int, list[int]] = {}
        for result in self.results("decision"):
            offsets.setdefault(result.source.partition, []).append(result.source.offset)
        assert all(found == sorted(found) for found in offsets.values())

    def test_nothing_is_readable_before_it_is_settled(self) -> None:
        self.feed(requests(3))
        self.open().poll()
        assert self.sources() == []

    def test_a_shadow_may_come_beside_an_answer(self) -> None:
        self.feed(requests(2))
        transport = self.open()
        batch = transport.poll()
        shadow = answer(batch.messages[0])
        shadow = Result(kind="shadow", value=shadow.value, key=b"", source=shadow.source)
        settled = transport.settle(batch, [*map(answer, batch.messages), shadow])
        assert isinstance(settled, Committed)
        assert [result.source for result in self.results("shadow")] == [shadow.source]

    def test_a_missing_answer_is_refused_and_nothing_is_kept(self) -> None:
        self.feed(requests(3))
        transport = self.open()
        batch = transport.poll()
        with pytest.raises(ValueError, match="exactly one"):
            transport.settle(batch, [answer(message) for message in batch.messages[1:]])
        assert self.sources() == []
        assert isinstance(transport.settle(batch, [answer(message) for message in batch.messages]), Committed)

    def test_two_answers_to_one_message_are_refused(self) -> None:
        self.feed(requests(2))
        transport = self.open()
        batch = transport.poll()
        first = answer(batch.messages[0])
        with pytest.raises(ValueError, match="exactly one"):
            transport.settle(batch, [first, first])
        assert self.sources() == []

    def test_an_answer_with_a_foreign_source_is_refused(self) -> None:
        self.feed(requests(1))
        transport = self.open()
        batch = transport.poll()
        good = answer(batch.messages[0])
        foreign = Result(
            kind="decision", value=good.value, key=b"", source=Source(topic="elsewhere", partition=0, offset=0)
        )
        with pytest.raises(ValueError, match="exactly one"):
            transport.settle(batch, [foreign])

    def test_a_batch_is_settled_only_once(self) -> None:
        self.feed(requests(2))
        transport = self.open()
        batch = transport.poll()
        results = [answer(message) for message in batch.messages]
        transport.settle(batch, results)
        with pytest.raises(ValueError, match="out of turn"):
            transport.settle(batch, results)
        assert len(self.sources()) == len(results)

    def test_a_rewound_batch_is_polled_again(self) -> None:
        self.feed(requests(3))
        transport = self.open(max_batch=8)
        batch = transport.poll()
        self.break_next_commit(transport)
        settled = transport.settle(batch, [answer(message) for message in batch.messages])
        assert isinstance(settled, Rewound)
        assert settled.reason
        assert self.sources() == []
        assert transport.poll().messages == batch.messages

    def test_a_batch_polled_before_a_rewind_is_stale(self) -> None:
        self.feed(requests(8))
        transport = self.open()
        first, second = transport.poll(), transport.poll()
        self.break_next_commit(transport)
        transport.settle(first, [answer(message) for message in first.messages])
        stale = transport.settle(second, [answer(message) for message in second.messages])
        assert isinstance(stale, Rewound)
        settle_all(transport)
        assert len(self.sources()) == len(set(map(str, self.sources()))) == 8

    def test_settling_an_empty_batch_changes_nothing(self) -> None:
        self.feed(requests(1))
        transport = self.open()
        settle_all(transport)
        assert isinstance(transport.settle(transport.poll(), []), Committed)
        assert len(self.sources()) == 1

    def test_closing_twice_is_fine_and_keeps_what_is_committed(self) -> None:
        self.feed(requests(3))
        transport = self.open()
        settle_all(transport)
        transport.close()
        transport.close()
        assert len(self.sources()) == 3

    def test_a_restart_goes_on_after_what_is_committed(self) -> None:
        self.feed(requests(10))
        first = self.open()
        batch = first.poll()
        first.settle(batch, [answer(message) for message in batch.messages])
        first.poll()
        first.close()
        settle_all(self.open())
        assert len(self.sources()) == len(set(map(str, self.sources()))) == 10

    def test_messages_fed_after_the_end_are_read_by_the_next_start(self) -> None:
        self.feed(requests(2))
        first = self.open()
        settle_all(first)
        first.close()
        self.feed(requests(3))
        settle_all(self.open())
        assert len(self.sources()) == 5

    def test_a_crash_at_any_point_loses_and_doubles_nothing(self) -> None:
        self.feed(requests(7))
        for crash in range(200):
            faults = CrashAt(crash)
            transport = self.open(faults=faults, max_batch=3)
            try:
                # Two polls and settles each life: every life but the last ends in a crash or an orderly stop.
                for batch in islice(iter(transport.poll, None), 2):
                    if batch is not None and not batch.is_end:
                        transport.settle(batch, [answer(message) for message in batch.messages])
            except CrashError:
                pass
            transport.close()
            self.feed(requests(2))
            if faults.passed <= crash:
                break
        else:
            raise AssertionError("the transport passes more points than expected")
        settle_all(self.open())
        assert len(self.sources()) == len(set(map(str, self.sources()))) == 7 + 2 * (crash + 1)

    def test_held_messages_are_read_again_after_a_restart(self) -> None:
        self.feed(requests(4))
        first = self.open(max_batch=8)
        batch = first.poll()
        held = batch.messages[-1].source
        place = (held.topic, held.partition)
        settled = first.settle(batch, [], positions={place: held.offset})
        assert isinstance(settled, Committed)
        while further := first.poll().messages:
            assert all(message.source.partition != held.partition for message in further)
        first.close()
        again = [message.source for message in self.open(max_batch=8).poll().messages]
        assert held in again
        assert all(source.offset >= held.offset for source in again if (source.topic, source.partition) == place)

    def test_a_position_beyond_what_was_polled_is_refused(self) -> None:
        self.feed(requests(2))
        transport = self.open()
        batch = transport.poll()
        last = batch.messages[-1].source
        with pytest.raises(ValueError, match="must lie in"):
            transport.settle(batch, [], positions={(last.topic, last.partition): last.offset + 2})

    def test_recent_results_are_the_last_committed_ones_oldest_first(self) -> None:
        self.feed(requests(9))
        transport = self.open()
        assert isinstance(transport, Remembers)
        settle_all(transport)
        for place in transport.places():
            whole = [r.source for r in self.results("decision") if (r.source.topic, r.source.partition) == place]
            found = transport.recent_results("decision", place=place, count=2)
            assert [result.source for result in found] == whole[-2:]
            assert transport.recent_results("decision", place=place, count=0) == []

    def test_lag_falls_to_zero_as_positions_move(self) -> None:
        self.feed(requests(6))
        transport = self.open()
        assert isinstance(transport, Measures)
        assert sum(transport.lag().values()) == 6
        settle_all(transport)
        assert set(transport.lag().values()) == {0}
        assert sum(transport.committed().values()) == 6
