"""The audit's laws on books held in memory: what is lost is missing, what is there twice is double, nothing else is."""

from collections.abc import Iterable, Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from policies.events import Source
from serving.audit import Audited, Auditor, audit
from serving.contract import Place, Positions
from serving.metrics import Metrics
from serving.offsets import Span, offsets_within

PLACE: Place = ("p.shop.requests", 0)


def sources(offsets: Iterable[int], *, place: Place = PLACE) -> list[Source]:
    return [Source(topic=place[0], partition=place[1], offset=offset) for offset in offsets]


class MemoryBooks:
    """Books of one partition, in rounds: what is committed, and which results have come, at each."""

    def __init__(self, rounds: Sequence[tuple[int, Sequence[Source]]], *, requests: set[int], start: int = 0) -> None:
        self._rounds, self._requests, self._start = rounds, sorted(requests), start
        self._round = -1

    def starts(self) -> Positions:
        return {PLACE: self._start}

    def committed(self) -> Positions:
        self._round += 1
        return {PLACE: self._rounds[self._round][0]}

    def results(self) -> Iterable[Sequence[Source]]:
        yield self._rounds[self._round][1]

    def holding(self, place: Place, spans: Sequence[Span]) -> Sequence[int]:
        return offsets_within(self._requests, spans)

    def lag(self, committed: Positions) -> Mapping[Place, int]:
        return {PLACE: 100 - committed[PLACE]}


def once(results: Sequence[Source], *, committed: int, requests: set[int], start: int = 0) -> Audited:
    return audit(MemoryBooks([(committed, results)], requests=requests, start=start))


@given(st.sets(st.integers(0, 60)), st.lists(st.integers(0, 60)), st.integers(0, 60))
def test_what_is_found_is_what_counting_finds(requests: set[int], answered: list[int], committed: int) -> None:
    results = [offset for offset in answered if offset in requests]
    found = once(sources(results), committed=committed, requests=requests)
    due = {offset for offset in requests if offset < committed}
    assert found.missing == len(due - set(results))
    assert found.double == len(results) - len(set(results))
    assert found.requests == len(due)
    assert found.empty_offsets == committed - len(due)
    assert [source.offset for source in found.first_missing] == sorted(due - set(results))[:10]
    assert found.is_clean == (due <= set(results) and len(set(results)) == len(results))


def test_a_result_of_another_topic_and_one_before_the_start_are_left_alone() -> None:
    others = sources([3, 3], place=("p.shop.decisions", 0)) + sources([1, 1])
    found = once([*others, *sources(range(4, 9))], committed=9, requests=set(range(9)), start=4)
    assert (found.results, found.missing, found.double) == (5, 0, 0)


def test_a_result_that_comes_after_its_round_is_late_and_not_missing_any_more() -> None:
    rounds = [(5, sources([0, 1, 3, 4])), (6, sources([5, 2]))]
    found = audit(MemoryBooks(rounds, requests=set(range(6))), wait=iter([False, True]).__next__)
    assert (found.missing, found.late, found.double, found.requests, found.lag) == (0, 1, 0, 6, 94)


def test_a_double_of_an_earlier_round_is_found_and_named() -> None:
    rounds = [(5, sources(range(5))), (5, sources([2]))]
    found = audit(MemoryBooks(rounds, requests=set(range(5))), wait=iter([False, True]).__next__)
    assert found.double == 1
    assert found.first_double == tuple(sources([2]))


def test_a_rewound_position_settles_nothing_twice() -> None:
    rounds: list[tuple[int, Sequence[Source]]] = [(5, sources(range(5))), (2, []), (6, sources([5]))]
    found = audit(MemoryBooks(rounds, requests=set(range(6))), wait=iter([False, False, True]).__next__)
    assert (found.requests, found.missing) == (6, 0)


NEW: Place = (PLACE[0], 1)


def test_a_partition_that_comes_later_is_audited_from_its_beginning() -> None:
    auditor = Auditor({PLACE: 5})
    auditor.take(sources([0, 2], place=NEW))
    auditor.settle({PLACE: 5, NEW: 3}, {NEW: [1]})
    found = auditor.found(lag=0)
    assert (found.requests, found.results, found.missing, found.double) == (3, 2, 1, 0)
    assert found.first_missing == tuple(sources([1], place=NEW))


def test_results_of_a_partition_whose_position_was_learned_first_are_late() -> None:
    auditor = Auditor({PLACE: 5})
    auditor.settle({NEW: 3}, {NEW: [0, 1, 2]})
    auditor.take(sources([0, 2], place=NEW))
    found = auditor.found(lag=0)
    assert (found.requests, found.late, found.missing, found.double) == (3, 2, 1, 0)


def test_the_counts_are_shown_as_metrics() -> None:
    metrics = Metrics(CollectorRegistry())
    rounds = [(4, sources([0, 1, 1])), (6, sources([4]))]
    audit(MemoryBooks(rounds, requests=set(range(6))), wait=iter([False, True]).__next__, metrics=metrics)
    shown = {
        name: metrics.registry.get_sample_value(f"penstock_audit_{name}_total", {"topic": PLACE[0]})
        for name in ("results", "missing", "double")
    }
    assert shown == {"results": 4.0, "missing": 3.0, "double": 1.0}
    labels = {"topic": PLACE[0], "partition": "0"}
    assert metrics.registry.get_sample_value("penstock_audit_lag_messages", labels) == 94.0


def test_at_most_ten_are_named() -> None:
    auditor = Auditor({PLACE: 0})
    auditor.take(sources([*range(30), *range(30)]))
    auditor.settle({PLACE: 90}, {PLACE: range(30, 90)})
    found = auditor.found(lag=0)
    assert (found.double, len(found.first_double), found.missing, len(found.first_missing)) == (30, 10, 60, 10)
