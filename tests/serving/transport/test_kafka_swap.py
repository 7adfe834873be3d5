"""The catalogue changes while requests stream in: each batch is all old or all new, and says which it was."""

import shutil
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from optimizer.export import export_constant
from policies.artifact import load_artifact
from policies.events import Source
from serving.catalogue import Catalogue, Entry, Lineup, load_lineup, promote, roll_back, salt_id, write_catalogue
from serving.verify import verify
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_feeder import Feeder
from tests.helpers.kafka_guarded import wait_until
from tests.helpers.kafka_judge import ends_of, judge
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workers import Workers, working

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

LONGEST = 100_000
"""Requests at most: half a minute's, on a machine that has much else to do; they end with the last swap."""
RATE = 3_000.0
PROBABILITIES = {"old": (0.5, 0.25, 0.25, 0.0, 0.0, 0.0), "new": (0.0, 0.0, 0.0, 0.25, 0.25, 0.5)}


class Taken(msgspec.Struct):
    """What a decision says of who took it, and of its batch: all of one batch have one time."""

    source: Source
    catalogue: str
    policy: str
    time: int


class Folder(NamedTuple):
    """A catalogue with its artifacts beside it."""

    path: Path
    first: Catalogue
    identities: dict[str, str]

    def put(self, catalogue: Catalogue) -> Lineup:
        """Put a catalogue in force, and return it as whoever verifies loads it."""
        write_catalogue(catalogue, self.path)
        return load_lineup(self.path)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    identities = {}
    for name, probabilities in PROBABILITIES.items():
        made = tmp_path / name
        export_constant(WORKLOADS["ad_load"]().spec, folder=made, probabilities=probabilities)
        identities[name] = load_artifact(made).identity
        shutil.move(made, tmp_path / "artifacts" / identities[name])
    first = Catalogue(salt_id=salt_id(b""), domains={"ad_load": Entry(live=identities["old"])})
    return Folder(tmp_path / "catalogue.json", first, identities)


def await_swaps(workers: Workers, count: int) -> None:
    """Wait until every worker has swapped so often, and has decided some thousand requests since."""
    wait_until(lambda: all(workers.log(name).count("swap catalogue") == count for name in ("a", "b")))
    workers.await_committed(workers.committed() + 4_000, timeout_s=20)


def test_a_catalogue_is_swapped_between_batches_and_each_decision_names_what_took_it(
    bootstrap: str, tmp_path: Path, folder: Folder
) -> None:
    topics = Topics(bootstrap, partition_count=4, domain="ad_load")
    feeder = Feeder(topics, WORKLOADS["ad_load"]().messages(LONGEST), rate=RATE)
    promoted = promote(folder.first, "ad_load", artifact=folder.identities["new"])
    rolled_back = roll_back(promoted, "ad_load")
    lineups = [folder.put(folder.first)]
    with working(topics, logs=tmp_path, flags=["--catalogue", str(folder.path)]) as workers:
        for name in ("a", "b"):
            workers.start(name)
        feeder.start()
        wait_until(lambda: all("start loop" in workers.log(name) for name in ("a", "b")), timeout_s=40)
        workers.await_committed(workers.committed() + 4_000, timeout_s=20)
        for number, catalogue in enumerate((promoted, rolled_back), start=1):
            lineups.append(folder.put(catalogue))
            await_swaps(workers, number)
        assert feeder.is_alive(), "requests must come before, between and after the swaps"
        feeder.end()
        count = sum(ends_of(topics).values())
        workers.await_committed(count, timeout_s=30)
        assert [workers.end(name) for name in ("a", "b")] == [0, 0]

    assert rolled_back.domains["ad_load"] == Entry(live=folder.identities["old"], previous=folder.identities["new"])
    assert judge(topics).is_clean
    decisions = [row.value for row in topics.rows("decisions")]
    taken = [msgspec.json.decode(row, type=Taken) for row in decisions]
    check_eras(taken, [(lineup.identity, lineup.domains["ad_load"].live.policy) for lineup in lineups])
    verified = verify(decisions, lineups=lineups)
    assert (verified.decisions, verified.bitwise, verified.different) == (count, count, 0)


def check_eras(taken: list[Taken], eras: list[tuple[str, str]]) -> None:
    """Check that decisions name a catalogue and its policy, batches do not mix, and no partition ever goes back."""
    batches: dict[int, set[int]] = defaultdict(set)
    partitions: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for decision in taken:
        era = eras.index((decision.catalogue, decision.policy))
        batches[decision.time].add(era)
        partitions[decision.source.partition].append((decision.source.offset, era))
    assert [eras for eras in batches.values() if len(eras) > 1] == []
    for found in partitions.values():
        ordered = [era for _, era in sorted(found)]
        assert all(before <= after for before, after in pairwise(ordered))
    assert set().union(*batches.values()) == {0, 1, 2}
