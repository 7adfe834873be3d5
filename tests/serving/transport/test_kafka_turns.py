from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.events import Source
from serving.contract import Message, Place
from serving.transport.kafka_turns import Turns


def message(place: Place, offset: int) -> Message:
    return Message(value=b"", source=Source(topic=place[0], partition=place[1], offset=offset))


@given(polls=st.lists(st.dictionaries(st.integers(0, 3), st.integers(1, 4)), max_size=8))
def test_everything_is_handed_out_once_in_order_and_one_partition_at_a_time(polls: list[dict[int, int]]) -> None:
    turns, ends, taken = Turns(), defaultdict[Place, int](int), defaultdict[Place, list[int]](list)
    for poll in polls:
        found = {}
        for partition, count in poll.items():
            place = ("requests", partition)
            found[place] = [message(place, ends[place] + n) for n in range(count)]
            ends[place] += count
        turns.add(found)
        for _ in range(len(poll)):
            ((place, rows),) = turns.take().items()
            taken[place] += [row.source.offset for row in rows]
        assert turns.take() == {}
    assert {place: list(range(end)) for place, end in ends.items()} == taken


def test_messages_are_not_mixed_with_those_kept() -> None:
    turns, place = Turns(), ("requests", 0)
    turns.add({place: [message(place, 0)]})
    with pytest.raises(ValueError, match="are kept"):
        turns.add({place: [message(place, 1)]})
    assert list(turns) == [place]


def test_what_is_forgotten_is_not_handed_out() -> None:
    turns, place = Turns(), ("requests", 0)
    turns.add({place: [message(place, 0)]})
    turns.clear()
    assert not turns
    assert turns.take() == {}
