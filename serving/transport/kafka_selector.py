"""The selector of kafka-python's clients: it says that a socket is not registered without describing the socket.

The client asks for a socket's registration before each wait, mostly in vain. Python's own selectors then put the socket
into the text of the error, twice, and each time the system is asked for both of its addresses: a tenth of what the
producer's thread does for a transaction.
"""

import selectors
from typing import Any, final


@final
class PlainSelector(selectors.DefaultSelector):
    """Python's default selector with a plain error for what is not registered."""

    def __init__(self) -> None:
        super().__init__()
        self._registered: set[int] = set()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        self._registered.add(key.fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self._registered.discard(key.fd)
        return key

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if number >= 0 and number not in self._registered:  # one that is closed has no number and is looked for
            raise KeyError(number)
        return super().get_key(fileobj)
