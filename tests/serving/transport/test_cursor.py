import pytest

from serving.contract import Batch
from serving.transport.cursor import Cursor

PLACE = ("requests", 0)


def batch_of(cursor: Cursor, after: int) -> Batch:
    return Batch(messages=(), token=cursor.take({PLACE: after}))


def test_positions_move_from_polled_to_committed() -> None:
    cursor = Cursor({PLACE: 0})
    batch = batch_of(cursor, 3)
    assert (cursor.polled[PLACE], cursor.committed[PLACE]) == (3, 0)
    cursor.commit(batch, cursor.targets(batch, None))
    assert cursor.committed[PLACE] == 3


def test_a_rewind_makes_batches_stale_and_goes_back_to_what_is_committed() -> None:
    cursor = Cursor({PLACE: 1})
    batch = batch_of(cursor, 3)
    cursor.rewind()
    assert cursor.is_stale(batch)
    assert not cursor.is_stale(batch_of(cursor, 3))
    assert cursor.committed[PLACE] == 1


def test_batches_are_settled_in_turn() -> None:
    cursor = Cursor({PLACE: 0})
    batch_of(cursor, 1)
    second = batch_of(cursor, 2)
    with pytest.raises(ValueError, match="out of turn"):
        cursor.targets(second, None)


def test_a_held_position_lies_between_committed_and_settled() -> None:
    cursor = Cursor({PLACE: 0})
    batch = batch_of(cursor, 4)
    cursor.commit(batch, cursor.targets(batch, {PLACE: 2}))
    later = batch_of(cursor, 6)
    for position in (1, 7):
        with pytest.raises(ValueError, match="must lie in"):
            cursor.targets(later, {PLACE: position})
    assert cursor.targets(later, {PLACE: 3}) == {PLACE: 3}
    assert cursor.targets(Batch(messages=()), {PLACE: 4}) == {PLACE: 4}
