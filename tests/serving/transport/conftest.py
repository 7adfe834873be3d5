"""A broker for the tests of the Kafka transport: one for all of them, in the one worker that runs them."""

import os
from collections.abc import Iterator

import pytest

from tests.helpers.kafka_broker import BrokerMissingError, KafkaBroker, running_broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Start a broker of our own, or skip; PENSTOCK_REQUIRE=kafka turns the skip into a failure."""
    try:
        with running_broker(lambda: tmp_path_factory.mktemp("kafka")) as started:
            yield started
    except BrokerMissingError as missing:
        if "kafka" in os.environ.get("PENSTOCK_REQUIRE", "").split(","):
            pytest.fail(f"PENSTOCK_REQUIRE=kafka, but {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Return where a broker listens: the one named by PENSTOCK_TEST_KAFKA, else our own."""
    named = os.environ.get("PENSTOCK_TEST_KAFKA")
    if named:
        return named
    own: KafkaBroker = request.getfixturevalue("broker")
    return own.bootstrap
