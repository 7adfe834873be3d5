"""The checks on what a client is told, where a broker need not be brought into that state."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from kafka import TopicPartition
from kafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError

from serving.transport.kafka_checks import check_clock, check_transactions
from serving.transport.kafka_patient import Patient

NOW_S = 1_000_000.0
POSITIONS = "__consumer_offsets"
PART = {"partition_index": 0}


class Admin:
    """A client that is told what a test says."""

    def __init__(self, *, clock_s: float | None = None, open_since: dict[str, tuple[int, float]] | None = None) -> None:
        self.clock_s, self.open_since = clock_s, open_since or {}
        self.refused: set[str] = set()

    def describe_metadata_quorum(self) -> Any:
        if self.clock_s is None:
            raise ClusterAuthorizationFailedError
        voters = [{"replica_id": n, "last_fetch_timestamp": int((self.clock_s - n) * 1000)} for n in (1, 0)]
        return {"topics": [{"partitions": [{"leader_id": 0, "current_voters": voters}]}]}

    def describe_topics(self, names: list[str]) -> Any:
        code = TopicAuthorizationFailedError.errno if names[0] in self.refused else 3
        return [{"name": names[0], "error_code": code, "partitions": []}]

    def list_transactions(self) -> Any:
        row = SimpleNamespace(producer_id=7, transactional_id="g-a", state=SimpleNamespace(value="Ongoing"))
        over = SimpleNamespace(producer_id=8, transactional_id="g-b", state=SimpleNamespace(value="CompleteCommit"))
        return {1: [row, over]}

    def describe_producers(self, places: list[TopicPartition]) -> Any:
        found = {}
        for place in places:
            if place.topic in self.refused:
                raise TopicAuthorizationFailedError({place.topic})
            producer_id, age_s = self.open_since.get(place.topic, (0, 0.0))
            state = SimpleNamespace(
                producer_id=producer_id, producer_epoch=3, last_timestamp=int((NOW_S - age_s) * 1000),
                current_transaction_start_offset=5,
            )  # fmt: skip
            found[place] = SimpleNamespace(active_producers=[state])
        return found


class Silent:
    """A reader of topics that hold nothing."""

    def begins(self, places: object) -> dict[object, int]:
        return {}

    stable_ends = begins


def patient(admin: Admin, *topics: str, seconds: Any = lambda: NOW_S) -> Patient:
    return Patient(
        admin=admin, reader=cast("Any", Silent()), prefix="p", domains=["d"], group="g", transactional_id="g-a",
        topics={name: {"partitions": [PART]} for name in topics}, seconds=seconds,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("clock_s", "state", "words"),
    [
        (NOW_S + 4.0, "ok", "4.00 s ahead of ours"),
        (NOW_S + 9.0, "wrong", "9.00 s ahead of ours"),
        (NOW_S - 9.0, "wrong", "9.00 s behind ours"),
    ],
)
def test_the_controllers_clock_is_held_against_ours_either_way(clock_s: float, state: str, words: str) -> None:
    found = check_clock(patient(Admin(clock_s=clock_s)))[0]
    assert found.state == state
    assert words in found.detail


def test_a_slow_answer_tells_less_about_a_clock() -> None:
    times = iter([NOW_S - 6.0, NOW_S + 6.0, NOW_S])
    found = check_clock(patient(Admin(clock_s=NOW_S + 9.0), seconds=lambda: next(times)))[0]
    assert (found.state, found.detail) == ("ok", "the controller's clock is 9.00 s ahead of ours, within 6.00 s")


def test_a_clock_that_may_not_be_asked_for_is_unknown() -> None:
    assert [one.state for one in check_clock(patient(Admin()))] == ["unknown", "unknown"]


def test_a_transaction_hangs_where_its_coordinator_does_not_hold_it_to_be_under_way() -> None:
    admin = Admin(open_since={"p.d.decisions": (8, 61.0), "p.d.shadow": (7, 61.0), POSITIONS: (8, 90.0)})
    found = check_transactions(patient(admin, "p.d.decisions", "p.d.shadow", "p.d.dead-letters", POSITIONS))
    assert [(one.state, one.detail) for one in found] == [
        ("wrong", "hangs: p.d.decisions/0 from offset 5, producer 8 epoch 3, 61 s old"),
        ("wrong", "open: p.d.shadow/0 from offset 5, producer 7 epoch 3, 61 s old, transactional id g-a"),
        ("wrong", f"hangs: {POSITIONS}/0 from offset 5, producer 8 epoch 3, 90 s old"),
    ]
    assert f"abort --topic {POSITIONS} --partition 0 --start-offset 5" in str(found[2].remedy)


def test_topics_that_may_not_be_looked_into_are_named() -> None:
    admin = Admin()
    admin.refused = {"p.d.shadow", POSITIONS}
    (found,) = check_transactions(patient(admin, "p.d.decisions", "p.d.shadow"))
    assert found.state == "unknown"
    assert f"p.d.shadow, {POSITIONS}" in found.detail
