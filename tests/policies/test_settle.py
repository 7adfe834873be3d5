"""The rules of one key: they hold for any order of the entries."""

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.settle import Entry, settle, unanswered
from policies.spec import Reward

entries = st.lists(
    st.builds(
        Entry,
        st.integers(0, 3),
        st.tuples(st.just("t"), st.integers(0, 1), st.integers(0, 3), st.just(b"")),
        st.sampled_from([0.0, 1.0, None]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda entry: entry.place,
)


@settings(max_examples=40, deadline=None)
@given(entries.flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
def test_the_order_of_entries_does_not_matter(pair: tuple[list[Entry], list[Entry]]) -> None:
    one, other = map(settle, pair)
    assert (repr(one.value), *one[1:]) == (repr(other.value), *other[1:])


@settings(max_examples=40, deadline=None)
@given(entries)
def test_nothing_late_is_below_what_stands(some: list[Entry]) -> None:
    settled = settle(some)
    finals = [entry.revision for entry in some if entry.is_final]
    assert all(late.revision > min(finals) for late in settled.late)


def test_a_final_copy_of_the_standing_value_makes_it_final() -> None:
    first, copy = Entry(0, ("t", 0, 0, b""), 1.0, False), Entry(0, ("t", 0, 1, b""), 1.0, True)
    later = Entry(1, ("t", 0, 2, b""), 0.0, False)
    assert settle([later, copy, first]) == (1.0, None, (later,), 0)


def test_a_default_without_a_horizon_is_never_due() -> None:
    assert unanswered(Reward(name="sale", default=0.0), decided=0, as_of=10**18)[1] == "pending"
