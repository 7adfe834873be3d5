from collections.abc import Iterable

import pytest

from serving.contract import Place
from serving.transport.kafka_clients import Connection
from serving.transport.kafka_life import WorkerSettings
from serving.transport.kafka_producers import Producers

FIRST, SECOND = ("requests", 0), ("requests", 1)


class Opening:
    """Opens names as if they were producers, and notes what was opened and closed."""

    def __init__(self, *, is_per_partition: bool) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        settings = WorkerSettings(
            connection=Connection(brokers=("b:1",), client_id="c"),
            prefix="p",
            domains=("demo",),
            group="g",
            transactional_id="g-a",
            is_per_partition=is_per_partition,
        )
        self.producers = Producers(settings, open_one=self._open, close_one=self.closed.append)

    def _open(self, transactional_id: str) -> str:
        self.opened.append(transactional_id)
        return transactional_id

    def take_over(self, *places: Place, away: Iterable[Place] = ()) -> None:
        self.producers.take_over(places, away=away)


def test_a_worker_has_one_producer_of_its_name() -> None:
    opening = Opening(is_per_partition=False)
    opening.take_over(FIRST, SECOND, away=[FIRST])
    assert opening.opened == ["g-a"]
    assert opening.producers.of({FIRST: 1, SECOND: 2}) == "g-a"
    assert opening.closed == []


def test_each_partition_has_a_producer_as_long_as_it_stays() -> None:
    opening = Opening(is_per_partition=True)
    opening.take_over(FIRST)
    opening.take_over(FIRST, SECOND)
    opening.take_over(SECOND)
    assert opening.opened == ["g-requests-0", "g-requests-1"]
    assert opening.closed == ["g-requests-0"]
    assert opening.producers.of({SECOND: 7}) == "g-requests-1"


def test_a_partition_that_was_away_gets_a_new_producer() -> None:
    opening = Opening(is_per_partition=True)
    opening.take_over(FIRST, SECOND)
    opening.take_over(FIRST, SECOND, away=[SECOND])
    assert opening.opened == ["g-requests-0", "g-requests-1", "g-requests-1"]
    assert opening.closed == ["g-requests-1"]


def test_positions_of_two_partitions_go_into_no_transaction_of_one() -> None:
    opening = Opening(is_per_partition=True)
    opening.take_over(FIRST, SECOND)
    with pytest.raises(ValueError, match="commits one position"):
        opening.producers.of({FIRST: 1, SECOND: 1})


def test_closing_lets_go_of_all_and_closing_again_of_nothing() -> None:
    opening = Opening(is_per_partition=True)
    opening.take_over(FIRST, SECOND)
    opening.producers.close()
    opening.producers.close()
    assert sorted(opening.closed) == ["g-requests-0", "g-requests-1"]
