"""A proxy before the broker, for tests that spoil what goes between client and broker."""

from collections.abc import Iterator

import pytest

from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_guarded import CLIENTS
from tests.helpers.kafka_proxy import FaultProxy, proxied


@pytest.fixture
def proxy(broker: KafkaBroker) -> Iterator[FaultProxy]:
    """Stand a proxy before the broker; it forwards everything unharmed until a test adds faults."""
    with proxied(broker.front, broker.behind) as standing:
        yield standing


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """Name a client library; a test that asks for it runs once by each."""
    return str(request.param)
