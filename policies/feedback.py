"""The feedback of policies: what comes back across the yard. Read this page first; the parts lie beside it.

`log` holds the value `Feedback`, `fold` joins decisions to outcomes, `parquet` keeps it on disk. Here the logged
choices are found among the encoded requests: scoring and training both walk over them.
"""

# B request of a bucket, S slot, A action, N row

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from policies.arrow import UnableToUseParquet
from policies.encode import Bucket, Encoder
from policies.fold import Folded, Folding, UnableToFold, fold
from policies.log import (
    Feedback,
    LogNotFound,
    Ragged,
    UnableToUseFeedback,
    first_rows,
    naming_the_request,
    slice_columns,
    split_by_time,
)
from policies.parquet import UnableToReadFeedback, read_columns, read_feedback, write_feedback
from policies.spec import PolicySpec

__all__ = [
    "Feedback",
    "Folded",
    "Folding",
    "LogNotFound",
    "LoggedChoices",
    "Ragged",
    "UnableToFold",
    "UnableToReadFeedback",
    "UnableToUseFeedback",
    "UnableToUseParquet",
    "fold",
    "logged_choices",
    "read_columns",
    "read_feedback",
    "split_by_time",
    "write_feedback",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoggedChoices:
    """Say where the logged choices of one bucket stand among its encoded requests.

    Attributes:
        bucket: the encoded requests; its rows are places in the feedback's columns.
        rows: int64 [n], rows of the feedback; rows of whole requests (no action) are left out.
        request, slot, action: int64 [n], places on the axes B, S and A of the bucket.
    """

    bucket: Bucket
    rows: NDArray[np.int64]
    request: NDArray[np.int64]
    slot: NDArray[np.int64]
    action: NDArray[np.int64]


def logged_choices(feedback: Feedback, encoder: Encoder, *, batch_size: int = 16_384) -> Iterator[LoggedChoices]:
    """Encode a log in batches of requests and find each logged choice among them.

    The encoder may be by another spec than the log's (a target's), as long as it knows the log's actions. Fallbacks and
    shadows are there too: who weighs them says so.

    Raises:
        UnableToUseFeedback: the encoder's spec does not fit the log's, a request does not encode, or a logged action
            is not eligible; the message names the request.
    """
    _check_actions(feedback.spec, encoder.spec)
    places = _fixed_places(feedback, encoder.spec)
    starts = np.append(first_rows(feedback.request_rows), len(feedback))
    for start in range(0, feedback.columns.count, batch_size):
        stop = min(start + batch_size, feedback.columns.count)
        rows = np.arange(starts[start], starts[stop])
        for bucket in _encode(feedback, encoder, start, stop, starts):
            yield _locate(feedback, bucket, start, rows, places)


def _encode(
    feedback: Feedback, encoder: Encoder, start: int, stop: int, starts: NDArray[np.int64]
) -> tuple[Bucket, ...]:
    with naming_the_request(lambda row: feedback.request_ids[int(starts[start + row])]):
        return encoder.encode(slice_columns(feedback.columns, start, stop)).buckets


def _check_actions(logged: PolicySpec, target: PolicySpec) -> None:
    if logged.is_quantity or target.is_quantity:
        raise UnableToUseFeedback("expected choices, found quantities: they have no propensity; use simulate")
    ours, theirs = logged.actions.ids, target.actions.ids
    if (ours is None) != (theirs is None) or set(ours or ()) != set(theirs or ()):
        raise UnableToUseFeedback(
            f"expected a policy over the log's own actions ({_listed(ours)}), found one over {_listed(theirs)}"
        )
    if logged.has_slots != target.has_slots:
        raise UnableToUseFeedback(f"the log's actions are of kind {logged.actions.kind}, found {target.actions.kind}")


def _listed(ids: tuple[str, ...] | None) -> str:
    if ids is None:
        return "each request's own rows"
    return ", ".join(ids[:4]) + (f" … {len(ids)} in all" if len(ids) > 4 else "")


def _fixed_places(feedback: Feedback, spec: PolicySpec) -> NDArray[np.int64] | None:
    """Return each logged action's place among the spec's ids, int64 [N]; -1 for none; None for own actions."""
    if spec.actions.ids is None:
        return None
    known: dict[str | None, int] = {action: place for place, action in enumerate(spec.actions.ids)}
    known[None] = -1
    return np.fromiter(map(known.__getitem__, feedback.actions), dtype=np.int64, count=len(feedback))


def _locate(
    feedback: Feedback, bucket: Bucket, start: int, rows: NDArray[np.int64], places: NDArray[np.int64] | None
) -> LoggedChoices:
    within = np.full(int(feedback.request_rows[rows[-1]]) + 1 - start, -1, dtype=np.int64)
    within[bucket.rows] = np.arange(len(bucket.rows))
    bucket = replace(bucket, rows=bucket.rows + start)
    request = within[feedback.request_rows[rows] - start]
    if feedback.spec.has_slots:
        is_whole = np.fromiter((feedback.actions[row] is None for row in rows.tolist()), dtype=bool, count=len(rows))
        request = np.where(is_whole, -1, request)
    rows, request = rows[request >= 0], request[request >= 0]
    slot = _slots(feedback, bucket, rows, request)
    action = _own_places(feedback, bucket, rows, request) if places is None else places[rows]
    _check_eligible(feedback, bucket.mask[request, slot, action], rows)
    return LoggedChoices(bucket=bucket, rows=rows, request=request, slot=slot, action=action)


def _slots(
    feedback: Feedback, bucket: Bucket, rows: NDArray[np.int64], request: NDArray[np.int64]
) -> NDArray[np.int64]:
    if bucket.slot_ids is None:
        return np.zeros(len(rows), dtype=np.int64)
    ids, slots = bucket.slot_ids, feedback.slots
    found = (ids[place].index(slots[row]) for row, place in zip(rows.tolist(), request.tolist(), strict=True))
    return np.fromiter(found, dtype=np.int64, count=len(rows))


def _own_places(
    feedback: Feedback, bucket: Bucket, rows: NDArray[np.int64], request: NDArray[np.int64]
) -> NDArray[np.int64]:
    assert bucket.action_ids is not None
    ids, actions = bucket.action_ids, feedback.actions
    found = (ids[place].index(actions[row] or "") for row, place in zip(rows.tolist(), request.tolist(), strict=True))
    return np.fromiter(found, dtype=np.int64, count=len(rows))


def _check_eligible(feedback: Feedback, is_eligible: NDArray[np.bool_], rows: NDArray[np.int64]) -> None:
    if is_eligible.all():
        return
    row = int(rows[is_eligible.argmin()])
    raise UnableToUseFeedback(
        f"expected a logged action among the eligible ones, found {feedback.actions[row]!r} in row {row} "
        f"(request {feedback.request_ids[row]!r})"
    )
