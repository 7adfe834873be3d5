"""A process that serves looks for cycles rarely, and not among what it loaded."""

import gc
from collections.abc import Iterator

import pytest

from serving.heap import calm_collector


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_what_was_loaded_is_set_aside_and_collections_become_rarer() -> None:
    before, frozen = gc.get_threshold()[0], gc.get_freeze_count()
    calm_collector()
    assert gc.get_threshold()[0] > before
    assert gc.get_freeze_count() > frozen
    assert gc.isenabled()
