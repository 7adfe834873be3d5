"""Put a log together: check every row once, and bring the rows into their canonical order.

The fold, the Parquet reader and the importers all end here, so that a `Feedback` is sound whatever it came from.
"""

# N row, R request, M component of a quantity

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from policies.choose import unit_hashes
from policies.columns import Columns, are_ids
from policies.log import (
    PENDING,
    Feedback,
    Numbers,
    Places,
    Ragged,
    UnableToUseFeedback,
    is_each_unit_one_row,
    pick_rows,
    take_columns,
)
from policies.spec import PolicySpec, is_id

_HASHES_CHECKED: Final = 4_096


def assemble(
    spec: PolicySpec,
    *,
    columns: Columns,
    actions: list[str | None],
    propensity: Numbers,
    rewards: Mapping[str, Numbers],
    statuses: Mapping[str, list[str | None]] | None = None,
    request_ids: list[str] | None = None,
    request_rows: Places | None = None,
    slots: list[str] | None = None,
    units: list[str] | None = None,
    hashes: NDArray[np.uint64] | None = None,
    steps: Places | None = None,
    times: Places | None = None,
    action_values: Numbers | None = None,
    applied_actions: list[str | None] | None = None,
    applied_values: Numbers | None = None,
    probabilities: Ragged | None = None,
    propensity_floor: Numbers | None = None,
    policies: list[str | None] | None = None,
    roles: list[str] | None = None,
    fallbacks: list[str | None] | None = None,
) -> Feedback:
    """Make feedback of columns in any order; what a foreign log lacks takes the defaults of one.

    Defaults: request_id = row number, one row per request, slot "", step and time 0, unit = request_id, status null
    (pending where the reward is NaN), role live, propensity_floor NaN.

    Raises:
        UnableToUseFeedback: ids, propensities, actions or rewards are not what they must be; the message names the row
            in the order given.
    """
    count = len(actions)
    ids = [str(row) for row in range(count)] if request_ids is None else request_ids
    rows = np.arange(count, dtype=np.int64) if request_rows is None else request_rows
    names = [""] * count if slots is None else slots
    owners = ids if units is None else units
    nobody: list[str | None] = [None] * count
    fallback = nobody if fallbacks is None else fallbacks
    policy = nobody if policies is None else policies
    _check_ids([] if request_ids is None else ids, names, owners)
    _check_propensity(spec, propensity, actions, ids, fallback, policy)
    _check_actions(spec, columns, actions, rows, names, ids)
    draft = Feedback(
        spec=spec,
        request_ids=ids,
        slots=names,
        units=owners,
        unit_hashes=unit_hashes(owners) if hashes is None else _checked_hashes(hashes, owners),
        steps=np.zeros(count, dtype=np.int64) if steps is None else steps,
        times=np.zeros(count, dtype=np.int64) if times is None else times,
        columns=columns,
        request_rows=rows,
        actions=actions,
        action_values=action_values,
        applied_actions=applied_actions,
        applied_values=applied_values,
        propensity=propensity,
        probabilities=probabilities,
        propensity_floor=np.full(count, np.nan) if propensity_floor is None else propensity_floor,
        rewards=rewards,
        statuses=_statuses(rewards, statuses or {}, ids),
        policies=policy,
        roles=["live"] * count if roles is None else roles,
        fallbacks=fallback,
        is_row_unit=False,
    )
    return _in_order(draft)


def _in_order(draft: Feedback) -> Feedback:
    """Return the rows in their canonical order, and the requests in the order of their rows."""
    order = canonical_order(draft.unit_hashes, draft.request_ids, draft.slots)
    requests, request_rows = _request_order(draft.request_rows[order], draft.unit_hashes[order], draft.columns.count)
    is_row_unit = is_each_unit_one_row(draft.unit_hashes[order])
    if _is_identity(order) and _is_identity(requests):
        return replace(draft, is_row_unit=is_row_unit)
    columns = take_columns(draft.columns, requests)
    return replace(
        draft, **pick_rows(draft, order), columns=columns, request_rows=request_rows, is_row_unit=is_row_unit
    )


def canonical_order(hashes: NDArray[np.uint64], request_ids: Sequence[str], slots: Sequence[str]) -> Places:
    """Return the rows in the order of (unit_hash, request_id, slot): int64 [N].

    Raises:
        UnableToUseFeedback: a choice is there twice.
    """
    order = np.argsort(hashes, kind="stable")
    tied = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    if not len(tied):
        return order
    bounds = np.flatnonzero(np.diff(tied, prepend=-2, append=len(order) + 2) > 1)
    for start, stop in zip(tied[bounds[:-1]].tolist(), (tied[bounds[1:] - 1] + 2).tolist(), strict=True):
        run = sorted(order[start:stop].tolist(), key=lambda row: (request_ids[row], slots[row]))
        for one, other in pairwise(run):
            if request_ids[one] == request_ids[other] and slots[one] == slots[other]:
                raise UnableToUseFeedback(
                    f"expected one row per request and slot, found request {request_ids[one]!r}, slot {slots[one]!r} "
                    f"in rows {min(one, other)} and {max(one, other)}; drop one of them"
                )
        order[start:stop] = run
    return order


def _is_identity(order: Places) -> bool:
    return bool((order == np.arange(len(order))).all())


def _request_order(sorted_rows: Places, hashes: NDArray[np.uint64], request_count: int) -> tuple[Places, Places]:
    """Return the requests in the order of their rows, int64 [R], and each row's place among them, int64 [N]."""
    is_first = np.diff(sorted_rows, prepend=-1) != 0
    requests = sorted_rows[is_first]
    has_two_units = bool(((hashes[1:] != hashes[:-1]) & ~is_first[1:]).any())
    if has_two_units or len(requests) != request_count or (np.bincount(requests, minlength=request_count) != 1).any():
        raise UnableToUseFeedback("expected all rows of a request to name one unit, found a request with two units")
    return requests, np.cumsum(is_first) - 1


def _check_ids(ids: list[str], slots: list[str], units: list[str]) -> None:
    for name, texts in (("request_id", ids), ("unit", [] if units is ids else units)):
        if not are_ids(texts):
            row = next(row for row, text in enumerate(texts) if not is_id(text))
            raise UnableToUseFeedback(f"{name} must be a text of 1 to 256 bytes, found {texts[row]!r} in row {row}")
    wrong = {slot for slot in set(slots) if slot and not is_id(slot)}
    if wrong:
        raise UnableToUseFeedback(f"slot must be a text of at most 256 bytes, found {min(wrong)!r}")


def _checked_hashes(hashes: NDArray[np.uint64], units: list[str]) -> NDArray[np.uint64]:
    """Return the hashes that a log carries, of which every so many are made again to see that they are the units'."""
    rows = np.arange(0, len(units), max(1, len(units) // _HASHES_CHECKED))
    differs = hashes[rows] != unit_hashes([units[row] for row in rows.tolist()])
    if differs.any():
        row = int(rows[differs.argmax()])
        raise UnableToUseFeedback(
            f"unit_hash must be the hash of the unit, found another in row {row} (unit {units[row]!r}); drop it"
        )
    return hashes


def _check_propensity(
    spec: PolicySpec,
    propensity: Numbers,
    actions: list[str | None],
    ids: list[str],
    fallbacks: list[str | None],
    policies: list[str | None],
) -> None:
    """Refuse what lies outside (0, 1], and a null where neither a fallback nor a policy of ours explains it."""
    sound = (propensity > 0) & (propensity <= 1)
    if sound.all():
        return
    for row in np.flatnonzero(~sound).tolist():
        if np.isnan(propensity[row]) and (
            spec.is_quantity or actions[row] is None or fallbacks[row] is not None or policies[row] is not None
        ):
            continue
        found = "null" if np.isnan(propensity[row]) else f"{propensity[row]}"
        raise UnableToUseFeedback(
            f"propensity must lie in (0, 1], found {found} in row {row} (decision {ids[row]}). Log the probability of "
            "each action that is taken; deterministic logs are evaluated with simulate."
        )


def _check_actions(
    spec: PolicySpec, columns: Columns, actions: list[str | None], rows: Places, slots: list[str], ids: list[str]
) -> None:
    if spec.is_quantity:
        return
    if not spec.has_slots and any(slots):
        row = next(row for row, slot in enumerate(slots) if slot)
        raise UnableToUseFeedback(f"slot must be empty for one choice per request, found {slots[row]!r} in row {row}")
    if columns.actions is None:
        unknown: set[str | None] = set(actions) - set(spec.actions.ids or ())
        for row, action in enumerate(actions if unknown else ()):
            if action in unknown and not (action is None and spec.has_slots and not slots[row]):
                raise _not_eligible(action, row, ids)
        return
    listed = [set(some) for some in columns.actions.ids] if columns.count else []
    for row, (action, request) in enumerate(zip(actions, rows.tolist(), strict=True)):
        is_whole = action is None and spec.has_slots and not slots[row]
        if action not in listed[request] and not is_whole:
            raise _not_eligible(action, row, ids)


def _not_eligible(action: str | None, row: int, ids: list[str]) -> UnableToUseFeedback:
    return UnableToUseFeedback(
        f"the action must be among the eligible ones, found {action!r} in row {row} (decision {ids[row]}); "
        "list it in 'eligible', or in the spec's ids"
    )


def _statuses(
    rewards: Mapping[str, Numbers], given: Mapping[str, list[str | None]], ids: list[str]
) -> dict[str, list[str | None]]:
    """Return each reward's statuses [N]; where none are given, a reward that is not there is pending."""
    _check_rewards(rewards, ids)
    return {name: given.get(name) or _told_or_pending(values) for name, values in rewards.items()}


def _told_or_pending(values: Numbers) -> list[str | None]:
    is_absent = np.isnan(values)
    return [PENDING if absent else None for absent in is_absent.tolist()]


def _check_rewards(rewards: Mapping[str, Numbers], ids: list[str]) -> None:
    for name, values in rewards.items():
        if np.isinf(values).any():
            row = int(np.isinf(values).argmax())
            raise UnableToUseFeedback(
                f"reward_{name} must be finite or null, found {values[row]} in row {row} (decision {ids[row]})"
            )
