"""A set of offsets of one partition that stays small however many there are: a bit each, and none where all are in."""

# O offset of a page

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, final

import numpy as np

PAGE: Final = 65_536
"""Offsets per page; a page that is neither empty nor full takes 8 KiB."""

Span: TypeAlias = tuple[int, int]
"""The offsets from the first up to the second, which is not in."""


@final
class OffsetSet:
    """Hold offsets; what they take grows with the pages that have holes, not with their number."""

    def __init__(self) -> None:
        self._full: set[int] = set()
        self._pages: dict[int, bytearray] = {}
        self._counts: dict[int, int] = {}

    def add(self, offsets: Iterable[int]) -> list[int]:
        """Put offsets in and return those that were in before, in order.

        >>> offsets = OffsetSet()
        >>> offsets.add([3, 4, 3])
        [3]
        """
        found = []
        for offset in offsets:
            number, place = divmod(offset, PAGE)
            if number in self._full:
                found.append(offset)
                continue
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = bytearray(PAGE // 8)
                self._counts[number] = 0
            bit = 1 << (place & 7)
            if page[place >> 3] & bit:
                found.append(offset)
                continue
            page[place >> 3] |= bit
            self._note(number)
        return found

    def holes(self, begin: int, end: int) -> list[Span]:
        """Return the spans between two offsets that are not in, in order.

        >>> offsets = OffsetSet()
        >>> offsets.add([3, 4])
        []
        >>> offsets.holes(0, 6)
        [(0, 3), (5, 6)]
        """
        spans: list[Span] = []
        for number in range(begin // PAGE, -(-end // PAGE)):
            if number not in self._full:
                first = number * PAGE
                for low, high in self._holes_of(number, max(begin - first, 0), min(end - first, PAGE)):
                    _append(spans, (first + low, first + high))
        return spans

    @property
    def page_count(self) -> int:
        """The pages that take room."""
        return len(self._pages)

    def _note(self, number: int) -> None:
        self._counts[number] += 1
        if self._counts[number] == PAGE:
            del self._pages[number], self._counts[number]
            self._full.add(number)

    def _holes_of(self, number: int, begin: int, end: int) -> list[Span]:
        page = self._pages.get(number)
        if page is None:
            return [(begin, end)] if begin < end else []
        is_in_O = np.unpackbits(np.frombuffer(page, dtype=np.uint8), bitorder="little")[begin:end]
        steps_O = np.diff(np.concatenate([[1], is_in_O, [1]]).astype(np.int8))
        starts, stops = np.flatnonzero(steps_O == -1), np.flatnonzero(steps_O == 1)
        return [(begin + low, begin + high) for low, high in zip(starts.tolist(), stops.tolist(), strict=True)]


def offsets_within(offsets: Sequence[int], spans: Sequence[Span]) -> list[int]:
    """Return the offsets that lie in one of some spans in order.

    >>> offsets_within([1, 4, 5, 9], [(0, 2), (5, 9)])
    [1, 5]
    """
    begins = [begin for begin, _ in spans]
    places = ((offset, bisect_right(begins, offset) - 1) for offset in offsets)
    return [offset for offset, place in places if place >= 0 and offset < spans[place][1]]


def _append(spans: list[Span], span: Span) -> None:
    """Put a span behind the others, or lengthen the last one that it follows upon."""
    if spans and spans[-1][1] == span[0]:
        spans[-1] = (spans[-1][0], span[1])
    else:
        spans.append(span)
