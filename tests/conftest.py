"""What all tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.kafka_broker import BrokerMissingError, KafkaBroker, running_broker
from tests.helpers.kafka_secured import Secured, running_secured

# The same examples in every run, and no clock: how long one takes on a busy machine says nothing.
settings.register_profile("penstock", derandomize=True, deadline=None)
settings.load_profile("penstock")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of shared data, or skip: where PENSTOCK_DATA is unset, generated data stand in elsewhere."""
    named = os.environ.get("PENSTOCK_DATA")
    if not named:
        pytest.skip("PENSTOCK_DATA is unset: this test needs the shared data")
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"PENSTOCK_DATA names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Start the one plain broker of a test run, or skip; PENSTOCK_REQUIRE=kafka turns the skip into a failure."""
    try:
        with running_broker(lambda: tmp_path_factory.mktemp("kafka")) as started:
            yield started
    except BrokerMissingError as missing:
        _skip(missing)


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Start the one secured broker of a test run, or skip as `broker` does; only tests that ask for it pay for it."""
    try:
        with running_secured(lambda: tmp_path_factory.mktemp("secured")) as started:
            yield started
    except BrokerMissingError as missing:
        _skip(missing)


def _skip(missing: BrokerMissingError) -> None:
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
