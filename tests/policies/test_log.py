"""Parts of a log: requests are taken whole, with their tables, and split by time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.encode import Encoder
from policies.feedback import Feedback, UnableToUseFeedback, fold, split_by_time
from policies.log import segments, slice_columns, take_columns
from tests.helpers import domains
from tests.helpers.decided import decide_uniformly


def folded(workload: domains.Workload, *, count: int = 12) -> Feedback:
    requests = [workload.request(number) for number in range(count)]
    return fold(decide_uniformly(requests, spec=workload.spec), [], as_of=0, spec=workload.spec).feedback


@pytest.mark.parametrize("make", [domains.payments, domains.iot_scheduling, domains.hydrothermal])
def test_requests_that_are_taken_encode_as_they_did_in_the_whole(make: object) -> None:
    feedback = folded(make())  # type: ignore[operator]
    whole = Encoder(feedback.spec).encode(feedback.columns)
    places = np.array([1, 4, 5, 9])
    taken = Encoder(feedback.spec).encode(take_columns(feedback.columns, places))
    expected = {int(row): (b, at) for b in whole.buckets for at, row in enumerate(b.rows)}
    for bucket in taken.buckets:
        for at, row in enumerate(bucket.rows.tolist()):
            other, place = expected[int(places[row])]
            np.testing.assert_array_equal(bucket.mask[at], other.mask[place])
            for name, array in bucket.arrays.items():
                np.testing.assert_array_equal(array[at], other.arrays[name][place])


@given(st.integers(0, 11), st.integers(1, 12))
def test_a_slice_is_what_taking_its_requests_gives(start: int, size: int) -> None:
    columns = _COLUMNS
    stop = min(start + size, columns.count)
    sliced, taken = slice_columns(columns, start, start + size), take_columns(columns, np.arange(start, stop))
    assert sliced.count == taken.count == stop - start
    assert sliced.actions is not None
    assert taken.actions is not None
    assert sliced.actions.ids == taken.actions.ids
    assert {name: list(v) for name, v in sliced.actions.fields.items()} == {
        name: list(v) for name, v in taken.actions.fields.items()
    }
    assert (sliced.actions.order is None) == (taken.actions.order is None)
    if sliced.actions.order is not None and taken.actions.order is not None:
        assert sliced.actions.order.tolist() == taken.actions.order.tolist()


_COLUMNS = folded(domains.payments()).columns


def test_a_part_keeps_rows_and_requests_together() -> None:
    feedback = folded(domains.iot_scheduling())
    part = feedback.take(np.array([2, 7]))
    names = sorted(
        {feedback.request_ids[row] for row in np.flatnonzero(np.isin(feedback.request_rows, [2, 7])).tolist()}
    )
    assert sorted(set(part.request_ids)) == names
    assert sorted(set(part.request_rows.tolist())) == [0, 1]
    assert part.columns.count == 2


def test_the_training_part_is_before_the_test_part_and_both_are_all() -> None:
    feedback = folded(domains.payments())
    train, test = split_by_time(feedback, train_share=0.75)
    assert (len(train), len(test)) == (9, 3)
    assert train.times.max() < test.times.min()
    assert sorted(train.request_ids + test.request_ids) == sorted(feedback.request_ids)


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_a_split_that_leaves_one_side_empty_is_refused(share: float) -> None:
    with pytest.raises(UnableToUseFeedback, match="both sides"):
        split_by_time(folded(domains.payments()), train_share=share)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.data())
def test_segments_are_where_each_rows_values_stand(lengths: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6))
    starts = np.cumsum([0, *lengths])
    expected = [place for row in rows for place in range(starts[row], starts[row + 1])]
    assert segments(np.array(lengths), np.array(rows, dtype=np.int64)).tolist() == expected
