"""Where a worker stands in its input: committed, settled, polled; and whose turn it is to be settled.

Committed ≤ settled ≤ polled. Settled is past committed only where a loop holds messages back. A rewind goes back to
what is committed and makes every batch polled before it stale.
"""

from collections import deque
from typing import Final, NamedTuple, final

from serving.contract import Batch, Place, Positions

STALE: Final = "stale: the batch was polled before a rewind"


class Turn(NamedTuple):
    """The token of a batch: the rewinds before it, and the position after it for each place it has messages of."""

    epoch: int
    after: Positions


@final
class Cursor:
    """Keep the positions of one worker; every transport settles by it."""

    def __init__(self, committed: Positions) -> None:
        self._epoch = 0
        self._start(committed)

    @property
    def committed(self) -> Positions:
        """For each place, the first message that a restart would read."""
        return self._committed

    @property
    def polled(self) -> Positions:
        """For each place, the first message not yet polled."""
        return self._polled

    def take(self, after: Positions) -> Turn:
        """Note that messages up to these positions were polled, and return the token of their batch."""
        self._polled.update(after)
        turn = Turn(self._epoch, after)
        self._unsettled.append(turn)
        return turn

    def is_stale(self, batch: Batch) -> bool:
        """Say whether a rewind came after the batch was polled."""
        return isinstance(batch.token, Turn) and batch.token.epoch != self._epoch

    def targets(self, batch: Batch, positions: Positions | None) -> Positions:
        """Return the positions to commit for a batch: those after it, or those that the caller holds.

        Raises:
            ValueError: it is another batch's turn, or a position lies beyond what is settled or before what is
                committed.
        """
        after: Positions = {}
        if isinstance(batch.token, Turn):
            if not self._unsettled or self._unsettled[0] is not batch.token:
                raise ValueError("batches are settled once, in the order they were polled; this one is out of turn")
            after = batch.token.after
        if positions is None:
            return after
        for place, position in positions.items():
            low = self._committed.get(place)
            high = after.get(place, self._settled.get(place))
            if low is None or high is None or not low <= position <= high:
                raise ValueError(f"the position of {place} must lie in [{low}, {high}], found {position}")
        return dict(positions)

    def commit(self, batch: Batch, targets: Positions) -> None:
        """Note that a batch was settled and these positions committed."""
        if isinstance(batch.token, Turn):
            self._settled.update(self._unsettled.popleft().after)
        self._committed.update(targets)

    def rewind(self, committed: Positions | None = None) -> None:
        """Go back to what is committed; batches polled before become stale."""
        self._epoch += 1
        self._start(self._committed if committed is None else committed)

    def _start(self, committed: Positions) -> None:
        self._committed: dict[Place, int] = dict(committed)
        self._settled: dict[Place, int] = dict(committed)
        self._polled: dict[Place, int] = dict(committed)
        self._unsettled: deque[Turn] = deque()
