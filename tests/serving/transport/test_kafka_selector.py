"""The selector behaves as Python's own, but describes no socket."""

import selectors
import socket
from collections.abc import Iterator

import pytest

from serving.transport.kafka_selector import PlainSelector


class Shy(socket.socket):
    """A socket that must not be described."""

    def __repr__(self) -> str:
        raise AssertionError("described")


@pytest.fixture
def selector() -> Iterator[PlainSelector]:
    with PlainSelector() as one:
        yield one


def test_a_socket_that_is_not_registered_is_a_key_error_and_is_not_described(selector: PlainSelector) -> None:
    with Shy() as shy:
        with pytest.raises(KeyError):
            selector.get_key(shy)
        selector.register(shy, selectors.EVENT_READ)
        selector.unregister(shy)
        with pytest.raises(KeyError):
            selector.get_key(shy)


def test_a_registered_socket_has_its_key_before_and_after_a_change(selector: PlainSelector) -> None:
    with Shy() as shy:
        selector.register(shy, selectors.EVENT_READ, "data")
        assert selector.get_key(shy).data == "data"
        selector.modify(shy, selectors.EVENT_WRITE, "other")
        assert (selector.get_key(shy).events, selector.get_key(shy.fileno()).data) == (selectors.EVENT_WRITE, "other")


def test_a_socket_that_was_closed_while_registered_is_found_and_can_be_unregistered(selector: PlainSelector) -> None:
    with Shy() as shy:
        selector.register(shy, selectors.EVENT_READ, "data")
        shy.close()
        assert selector.get_key(shy).data == "data"
        selector.unregister(shy)
        assert len(selector.get_map()) == 0
