import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.catalogue import Lineup, UnableToLoadCatalogue
from serving.watcher import CatalogueWatcher, FixedLineup
from tests.helpers.lineups import lineup
from tests.helpers.streams import Clock, new_metrics, sample


class Loader:
    """Load lineups whose identity is the file's content, or refuse."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = new_metrics()
        self.clock = Clock()
        self.error: Exception | None = None
        self.loads = 0
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, path: Path, **settings: Any) -> Lineup:
        self.loads += 1
        content = path.read_text()
        if self.error is not None:
            raise self.error
        if content == "broken":
            raise UnableToLoadCatalogue("this is no catalogue")
        whole = lineup("ad_load")
        return Lineup(identity=content, domains=whole.domains, salt=whole.salt)

    def watch(self) -> CatalogueWatcher:
        return CatalogueWatcher(
            self.path, salt=b"", metrics=self.metrics, seconds=self.clock, load=self, run=self.waiting.append
        )

    def write(self, content: str, *, moment_ns: int) -> None:
        self.path.write_text(content)
        os.utime(self.path, ns=(moment_ns, moment_ns))

    def refused(self) -> float | None:
        return sample(self.metrics, "penstock_catalogue_swaps_total", outcome="refused")

    def finish(self) -> None:
        while self.waiting:
            self.waiting.pop()()


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    made = Loader(tmp_path / "catalogue.json")
    made.write("one", moment_ns=1)
    return made


def test_a_changed_catalogue_is_loaded_beside_the_loop_and_swapped_in_between_batches(loader: Loader) -> None:
    watcher = loader.watch()
    loader.write("two", moment_ns=2)
    assert watcher.current().identity == "one"
    assert loader.loads == 1
    loader.finish()
    assert watcher.current().identity == "two"
    assert sample(loader.metrics, "penstock_catalogue_swaps_total", outcome="swapped") == 1
    assert sample(loader.metrics, "penstock_catalogue_info", catalogue="one") is None
    assert sample(loader.metrics, "penstock_catalogue_info", catalogue="two") == 1


def test_a_catalogue_that_does_not_load_is_refused_once_and_the_old_one_stays(loader: Loader) -> None:
    watcher = loader.watch()
    loader.write("broken", moment_ns=2)
    for _ in range(3):
        assert watcher.current().identity == "one"
        loader.finish()
    assert sample(loader.metrics, "penstock_catalogue_swaps_total", outcome="refused") == 1
    loader.write("three", moment_ns=3)
    watcher.current()
    loader.finish()
    assert watcher.current().identity == "three"


def test_a_refused_catalogue_is_tried_again_and_swapped_in_once_its_artifacts_are_there(loader: Loader) -> None:
    watcher = loader.watch()
    loader.write("two", moment_ns=2)
    loader.error = UnableToLoadCatalogue("its artifact is not there")
    for _ in range(2):
        watcher.current()
        loader.finish()
    assert (loader.loads, loader.refused()) == (2, 1)
    loader.error = None
    loader.clock.advance(2.0)
    assert watcher.current().identity == "one"
    loader.finish()
    assert watcher.current().identity == "two"
    loader.clock.advance(1000.0)
    watcher.current()
    assert loader.waiting == []


def test_the_wait_between_two_tries_doubles_up_to_a_minute_and_one_reason_is_counted_once(loader: Loader) -> None:
    watcher = loader.watch()
    loader.write("broken", moment_ns=2)
    watcher.current()
    loader.finish()
    tried = []
    for second in range(1, 200):
        loader.clock.advance(1.0)
        watcher.current()
        if loader.waiting:
            tried.append(second)
        loader.finish()
    assert tried == [2, 6, 14, 30, 62, 122, 182]
    assert loader.refused() == 1


def test_going_back_to_the_bytes_in_force_ends_the_tries(loader: Loader) -> None:
    watcher = loader.watch()
    for moment_ns, content in enumerate(("broken", "one"), start=2):
        loader.write(content, moment_ns=moment_ns)
        watcher.current()
        loader.finish()
    loader.clock.advance(1000.0)
    watcher.current()
    assert loader.waiting == []
    assert loader.loads == 2


def test_an_error_that_nobody_foresaw_is_a_refusal_too(loader: Loader, caplog: pytest.LogCaptureFixture) -> None:
    watcher = loader.watch()
    loader.write("two", moment_ns=2)
    loader.error = RuntimeError("the loader has a defect")
    with caplog.at_level("ERROR", logger="penstock.serving"):
        watcher.current()
        loader.finish()
    assert watcher.current().identity == "one"
    assert loader.refused() == 1
    assert [record.getMessage() for record in caplog.records] == ["refuse catalogue"]


def test_the_same_bytes_with_another_date_are_not_loaded_again(loader: Loader) -> None:
    watcher = loader.watch()
    loader.write("one", moment_ns=2)
    watcher.current()
    loader.finish()
    assert watcher.current().identity == "one"
    assert loader.loads == 1


def test_what_is_in_force_or_was_before_is_not_loaded_again(loader: Loader) -> None:
    known: list[set[str]] = []

    def load(path: Path, *, salt: bytes, **given: Any) -> Lineup:
        known.append(set(given.get("known", {})))
        return lineup("ad_load" if path.read_text() == "one" else "payments")

    watcher = CatalogueWatcher(
        loader.path, salt=b"", metrics=loader.metrics, seconds=loader.clock, load=load, run=lambda work: work()
    )
    one, two = (next(iter(lineup(domain).artifacts())) for domain in ("ad_load", "payments"))
    for number, content in enumerate(("two", "three"), start=2):
        loader.write(content, moment_ns=number)
        watcher.current()
        watcher.current()
    assert known == [set(), {one}, {one, two}]


def test_a_catalogue_that_is_gone_leaves_the_old_one_in_force(loader: Loader) -> None:
    watcher = loader.watch()
    loader.path.unlink()
    watcher.current()
    loader.finish()
    assert watcher.current().identity == "one"


def test_what_is_in_force_is_shown(loader: Loader) -> None:
    shown = lineup("ad_load")
    assert FixedLineup(shown, metrics=loader.metrics).current() is shown
    artifact = shown.domains["ad_load"].live.policy
    labels = {"domain": "ad_load", "role": "live", "artifact": artifact}
    assert sample(loader.metrics, "penstock_artifact_info", **labels) == 1
