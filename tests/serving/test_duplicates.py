import tracemalloc
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from policies.events import Source
from serving.contract import Result
from serving.duplicates import Admitted, DuplicateWindow, remember

PLACE = ("requests", 0)


def window(size: int, *, decisions: list[Result] | None = None) -> DuplicateWindow:
    made = DuplicateWindow(size=size)
    made.rebuild(PLACE, map(remember, decisions or []))
    return made


def request(request_id: str, value: int = 0) -> bytes:
    return b'{"request_id":"%s","value":%d}' % (request_id.encode(), value)


def decision(original: bytes) -> Result:
    source = Source(topic="requests", partition=0, offset=0)
    return Result(kind="decision", value=b'{"request":%s}' % original, key=b"", source=source)


def test_the_same_bytes_repeat_and_other_bytes_conflict() -> None:
    known = window(10)
    assert known.admit(PLACE, ["a", "b"], [request("a"), request("b")]) == Admitted([], 0)
    assert known.admit(PLACE, ["a", "b"], [request("a"), request("b", 1)]) == Admitted([1], 1)


def test_one_batch_may_repeat_and_conflict_within_itself() -> None:
    known = window(10)
    found = known.admit(PLACE, ["a", "a", "a"], [request("a"), request("a"), request("a", 1)])
    assert found == Admitted([2], 1)


def test_a_conflict_does_not_change_what_is_remembered() -> None:
    known = window(10)
    known.admit(PLACE, ["a"], [request("a")])
    known.admit(PLACE, ["a"], [request("a", 1)])
    assert known.admit(PLACE, ["a"], [request("a")]) == Admitted([], 1)


def test_partitions_have_windows_of_their_own() -> None:
    known = window(10)
    known.rebuild(("requests", 1), [])
    known.admit(PLACE, ["a"], [request("a")])
    assert known.admit(("requests", 1), ["a"], [request("a", 1)]) == Admitted([], 0)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    known = window(2)
    known.admit(PLACE, ["a", "b"], [request("a"), request("b")])
    assert known.admit(PLACE, ["c"], [request("c")]) == Admitted([], 0)
    assert known.admit(PLACE, ["a"], [request("a", 1)]) == Admitted([], 0)
    assert known.admit(PLACE, ["c"], [request("c", 1)]) == Admitted([0], 0)


def test_a_repeat_counts_as_the_latest_decision() -> None:
    known = window(2)
    for name in ("a", "b", "a", "c"):
        known.admit(PLACE, [name], [request(name)])
    assert known.admit(PLACE, ["a"], [request("a", 1)]).conflicts == [0]
    assert known.admit(PLACE, ["b"], [request("b", 1)]).conflicts == []


def test_a_rebuilt_window_knows_bytes_by_their_echo() -> None:
    known = window(10, decisions=[decision(b'{"request_id":"a","value":0}')])
    assert known.admit(PLACE, ["a"], [b'{"request_id":"a",\n"value":0}\n']) == Admitted([], 1)


@given(
    names=st.lists(st.sampled_from("abcdef"), max_size=40),
    size=st.integers(1, 8),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    restart=st.integers(0, 40),
)
def test_batches_and_restarts_do_not_change_what_is_known(
    names: list[str], size: int, cuts: list[int], restart: int
) -> None:
    values = [request(name, place // 3 % 2) for place, name in enumerate(names)]

    def run(bounds: list[int], restart: int | None) -> list[int]:
        known, conflicts, decided = window(size), list[int](), list[Result]()
        for start, stop in pairwise(bounds):
            if restart is not None and start >= restart:
                known.rebuild(PLACE, map(remember, decided[-size:]))
                restart = None
            found = known.admit(PLACE, names[start:stop], values[start:stop]).conflicts
            conflicts += [start + place for place in found]
            decided += [decision(values[at]) for at in range(start, stop) if at - start not in found]
        return conflicts

    whole = [0, len(names)]
    cut = [0, *sorted(min(c, len(names)) for c in cuts), len(names)]
    singles = list(range(len(names) + 1))
    assert run(whole, None) == run(cut, None) == run(cut, restart) == run(singles, restart)


def test_a_full_window_takes_less_than_two_hundred_bytes_per_decision() -> None:
    size = 20_000
    tracemalloc.start()
    known = window(size)
    before = tracemalloc.get_traced_memory()[0]
    for start in range(0, 2 * size, 250):
        ids = [f"request-{number:040d}" for number in range(start, start + 250)]
        known.admit(PLACE, ids, [request(name) for name in ids])
        known.keep()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert used / size < 200


@given(
    kept=st.lists(st.sampled_from("abcdef"), max_size=20),
    dropped=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), max_size=3),
    after=st.lists(st.sampled_from("abcdefgh"), max_size=20),
    size=st.integers(1, 8),
)
def test_what_is_dropped_leaves_no_trace(
    kept: list[str], dropped: list[list[str]], after: list[str], size: int
) -> None:
    known, untouched = window(size), window(size)
    for each in (known, untouched):
        each.admit(PLACE, kept, [request(name, place % 2) for place, name in enumerate(kept)])
        each.keep()
    for names in dropped:
        known.admit(PLACE, names, [request(name, place % 3) for place, name in enumerate(names)])
    known.drop()
    values = [request(name, place % 2) for place, name in enumerate(after)]
    assert known.admit(PLACE, after, values) == untouched.admit(PLACE, after, values)
    assert vars(known._partitions[PLACE]) == vars(untouched._partitions[PLACE])


def test_one_partition_is_forgotten_and_others_stay() -> None:
    known = window(10)
    known.rebuild(("requests", 1), [])
    known.forget(PLACE)
    assert known.places() == [("requests", 1)]
