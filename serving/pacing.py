"""How long a loop waits before it polls again, so that transactions hold more messages and commits stay in time.

A transaction costs 3 to 4 ms of CPU whatever it holds. Where messages come fast, a short wait before the poll lets more
of them share one; where they come slowly it would only make them older. So the wait is found by additive increase and
multiplicative decrease on what is observed: the age of messages when they are committed, by their own timestamps.
"""

from collections.abc import Sequence
from typing import Final, final

PERIOD_S: Final = 0.25
"""How often the wait is adapted, at most."""

STEPS: Final = 20
"""Periods without haste after which the wait is at its longest."""

LONGEST: Final = 0.25
"""The longest wait, as a share of the target: a message may come as the wait begins, and its commit takes time too."""

HASTE: Final = 0.8
"""The share of the target from which on the wait is halved."""

EASE: Final = 0.6
"""The share of the target below which the wait grows."""

WORTHWHILE: Final = 4.0
"""Messages that a wait must be expected to bring; fewer would not pay for making the others older."""


@final
class Pacer:
    """Choose the wait before each poll from what became of the batches before it.

    The law, once in a period: where the 99th percentile of ages is above 80 % of the target the wait is halved, below
    60 % it grows by a twentieth of its longest, which is a quarter of the target; between them it stays. There is no
    wait at all where more messages are at hand already (catching up, batches are as large as they may be, at once), or
    where those expected in it are fewer than four (at low rates a message goes at once).

    The age of a batch is that of its oldest message, so that the percentile is never too low: at most 1 % of messages
    were in batches whose oldest was older.

    >>> pacer = Pacer(target_s=0.02)
    >>> for number in range(300):
    ...     pacer.note(messages=20, oldest_s=0.009, has_more=False, now_s=number / 100)
    >>> 0 < pacer.wait_s() <= 0.005
    True
    """

    def __init__(self, *, target_s: float) -> None:
        if not target_s > 0:
            raise ValueError(f"a target of latency is above 0, found {target_s} s")
        self._target_s = target_s
        self._longest_s = target_s * LONGEST
        self._linger_s = self._rate = 0.0
        self._has_more = False
        self._began_s: float | None = None
        self._ages: list[tuple[float, int]] = []

    @property
    def linger_s(self) -> float:
        """The wait that is allowed now, whether or not it is worthwhile."""
        return self._linger_s

    def wait_s(self) -> float:
        """Return how long to wait before the next poll."""
        if self._has_more or self._rate * self._linger_s < WORTHWHILE:
            return 0.0
        return self._linger_s

    def note(self, *, messages: int, oldest_s: float, has_more: bool, now_s: float) -> None:
        """Learn of a batch that was committed.

        Args:
            messages: how many it held.
            oldest_s: how old its oldest message was at the commit.
            has_more: whether more messages were at hand when it was polled.
            now_s: a monotonic clock.
        """
        self._has_more = has_more
        if self._began_s is None:
            self._began_s = now_s
            return  # what came before it is not known, and so neither is its rate
        self._ages.append((oldest_s, messages))
        if now_s - self._began_s >= PERIOD_S:
            self._adapt(now_s - self._began_s)
            self._began_s = now_s

    def _adapt(self, period_s: float) -> None:
        age_s = late_age(self._ages)
        self._rate = sum(messages for _, messages in self._ages) / period_s
        self._ages.clear()
        step_s = self._longest_s / STEPS
        if age_s > HASTE * self._target_s:
            self._linger_s = self._linger_s / 2 if self._linger_s > step_s else 0.0
        elif age_s < EASE * self._target_s:
            self._linger_s = min(self._longest_s, self._linger_s + step_s)


def late_age(ages: Sequence[tuple[float, int]]) -> float:
    """Return the age that at most 1 % of messages are in batches beyond.

    Args:
        ages: of some batches: of the oldest message, and how many messages.

    >>> late_age([(0.01, 99), (0.5, 1)])
    0.01
    >>> late_age([(0.01, 98), (0.5, 2)])
    0.5
    """
    allowed = sum(messages for _, messages in ages) / 100
    for age_s, messages in sorted(ages, reverse=True):
        allowed -= messages
        if allowed < 0:
            return age_s
    return 0.0
