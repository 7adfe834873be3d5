from hypothesis import given
from hypothesis import strategies as st

from serving.offsets import PAGE, OffsetSet, offsets_within

OFFSETS = st.lists(
    st.one_of(st.integers(0, 40), st.integers(PAGE - 20, PAGE + 20), st.integers(0, 3 * PAGE)), max_size=60
)


def filled(offsets: list[int]) -> OffsetSet:
    made = OffsetSet()
    made.add(offsets)
    return made


@given(OFFSETS, OFFSETS)
def test_those_that_come_again_are_returned(first: list[int], second: list[int]) -> None:
    seen = set(first)
    expected = []
    for offset in second:
        if offset in seen:
            expected.append(offset)
        seen.add(offset)
    assert filled(first).add(second) == expected


@given(OFFSETS, st.integers(0, 2 * PAGE), st.integers(0, PAGE))
def test_holes_and_members_make_up_the_whole(offsets: list[int], begin: int, length: int) -> None:
    end = begin + length
    holes = filled(offsets).holes(begin, end)
    inside = {offset for offset in offsets if begin <= offset < end}
    assert sum(high - low for low, high in holes) == length - len(inside)
    assert offsets_within(sorted(inside), holes) == []
    assert all(low < high for low, high in holes)
    assert all(holes[n][1] < holes[n + 1][0] for n in range(len(holes) - 1))


def test_a_full_page_takes_no_room() -> None:
    offsets = filled(list(range(PAGE)))
    assert offsets.page_count == 0
    assert offsets.add([5, PAGE - 1, PAGE]) == [5, PAGE - 1]
    assert offsets.holes(0, PAGE + 2) == [(PAGE + 1, PAGE + 2)]


def test_a_hole_may_span_pages() -> None:
    assert OffsetSet().holes(7, 3 * PAGE + 1) == [(7, 3 * PAGE + 1)]
