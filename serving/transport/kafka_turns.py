"""Messages of several partitions, handed out one partition at a time: a transaction per partition takes those of one.

What was fetched together is handed out in turn before anything else is fetched, so that no partition waits for more
than one batch of each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import final

from serving.contract import Message, Place


@final
class Turns:
    """Keep what was fetched for partitions whose turn has not come.

    >>> turns = Turns()
    >>> turns.add({("requests", 0): [], ("requests", 1): []})
    >>> turns.take(), len(turns)
    ({('requests', 0): []}, 1)
    """

    def __init__(self) -> None:
        self._kept: dict[Place, Sequence[Message]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._kept)

    def add(self, found: Mapping[Place, Sequence[Message]]) -> None:
        """Keep messages behind those of the partitions that are kept, partitions in the order of their names.

        Raises:
            ValueError: messages of a partition are kept already; they would have to come first.
        """
        twice = self._kept.keys() & found.keys()
        if twice:
            raise ValueError(f"messages of {sorted(twice)} are kept; hand them out before more are fetched")
        self._kept.update(sorted(found.items(), key=lambda entry: entry[0]))

    def take(self) -> Mapping[Place, Sequence[Message]]:
        """Return the messages of the partition whose turn it is, or nothing where none are kept."""
        for place in self._kept:
            return {place: self._kept.pop(place)}
        return {}

    def clear(self) -> None:
        """Forget everything: the group has changed, and positions are read anew."""
        self._kept.clear()
