"""What one reward of one choice is worth, by its revisions: the rules of the fold, on one key.

The highest revision wins; null is retracted; a revision above the lowest final one is late; of two values of one
revision the first by its place stands.
"""

import math
from typing import Final, NamedTuple

from policies.log import DEFAULT, PENDING, RETRACTED
from policies.spec import Reward

_MICROSECONDS: Final = 1_000_000

Place = tuple[str, int, int, bytes]


class Late(NamedTuple):
    """A reward that came after the final one: counted, kept apart, never folded."""

    request_id: str
    slot: str
    reward: str
    revision: int
    value: float | None


class Entry(NamedTuple):
    """One reward as one outcome told it."""

    revision: int
    place: Place
    value: float | None
    is_final: bool


class Settled(NamedTuple):
    """What the entries of one key come to: the value (NaN where there is none), its status, and what lost."""

    value: float
    status: str | None
    late: tuple[Entry, ...]
    conflicts: int


def settle(entries: list[Entry]) -> Settled:
    """Return what stands among one key's entries, at least one; their order does not matter.

    >>> first, second = Entry(0, ("t", 0, 0, b""), 1.0, False), Entry(1, ("t", 0, 1, b""), None, False)
    >>> settle([second, first]).status
    'retracted'
    """
    standing = _by_revision(entries)
    last = min((entry.revision for entry in standing if entry.is_final), default=math.inf)
    in_time = [entry for entry in standing if entry.revision <= last]
    values = {(entry.revision, entry.value) for entry in entries if entry.revision <= last}
    value = in_time[-1].value
    return Settled(
        value=math.nan if value is None else float(value),
        status=RETRACTED if value is None else None,
        late=tuple(entry for entry in standing if entry.revision > last),
        conflicts=len(values) - len(in_time),
    )


def _by_revision(entries: list[Entry]) -> list[Entry]:
    """Return the entry that stands for each revision, ascending: the first by its place, final if a copy of it is."""
    first: dict[int, Entry] = {}
    finals = set()
    for entry in sorted(entries, key=lambda entry: (entry.revision, entry.place)):
        first.setdefault(entry.revision, entry)
        if entry.is_final:
            finals.add((entry.revision, entry.value))
    return [entry._replace(is_final=(entry.revision, entry.value) in finals) for entry in first.values()]


def unanswered(reward: Reward, *, decided: int, as_of: int) -> tuple[float, str]:
    """Return what a reward is without any outcome: the default once the horizon has passed, else pending."""
    if reward.default is None or reward.horizon_s is None or as_of < decided + reward.horizon_s * _MICROSECONDS:
        return math.nan, PENDING
    return float(reward.default), DEFAULT
