"""Rights at a broker with an authorizer: what is missing is named, and what was lost for a while costs nothing."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    ClusterAuthorizationFailedError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)

from penstock.main import main
from serving.transport.kafka_rights import Operation, may_join, may_transact, why_refused
from tests.helpers.domains import WORKLOADS
from tests.helpers.kafka_judge import judge
from tests.helpers.kafka_secured import Right, Secured, Way, environment_of
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_workers import working
from tests.helpers.kafka_workloads import run
from tests.helpers.lineups import artifact_of

DOMAIN = "ad_load"
WAY = Way(listener="SASL_PLAINTEXT", mechanism="SCRAM-SHA-256")


@pytest.mark.parametrize(
    ("error", "on_topics", "words"),
    [
        (TopicAuthorizationFailedError({"b", "a"}), "Read", "Read on the topic a, b is not allowed"),
        (TopicAuthorizationFailedError("a"), "Write", "Write on the topic a is not allowed"),
        (GroupAuthorizationFailedError("g"), "Read", "Read on the group g is not allowed"),
        (TransactionalIdAuthorizationFailedError(), "Read", "Write on the transactional-id of this worker"),
        (ClusterAuthorizationFailedError(), "Read", "Describe on the cluster"),
    ],
)
def test_a_refusal_names_the_right_and_how_it_is_granted(error: Exception, on_topics: Operation, words: str) -> None:
    told = why_refused(error, on_topics=on_topics)
    assert told.startswith(words)
    assert "kafka-acls.sh --add" in told


class Coordinated:
    """An admin client whose coordinator is found at the third question, and answers with one code."""

    def __init__(self, code: int) -> None:
        self._manager, self._code, self._asked = self, code, 0

    def run(self, ask: Any, *words: Any) -> Any:
        return ask(*words)

    def _find_coordinator_id(self, key: str, kind: object) -> int:
        self._asked += 1
        if self._asked < 3:
            raise CoordinatorNotAvailableError
        return 1

    def send(self, request: object, coordinator: int) -> Any:
        return SimpleNamespace(error_code=self._code)


@pytest.mark.parametrize(("may", "refused", "unknown"), [(may_join, 30, 25), (may_transact, 53, 49)])
def test_a_coordinator_that_is_being_made_is_waited_for_and_its_refusal_told(
    may: Callable[[Any, str], bool], refused: int, unknown: int
) -> None:
    assert may(Coordinated(unknown), "name")
    assert not may(Coordinated(refused), "name")


class Ground:
    """Topics of a test on the secured broker, and the rights of the user `limited` to each of them."""

    def __init__(self, secured: Secured) -> None:
        self.secured, self.topics = secured, Topics(secured.bootstrap, domain=DOMAIN)
        named, prefix = self.topics.name, self.topics.prefix
        self.rights = {
            "see requests": Right(kind="TOPIC", prefix=named("requests"), operation="DESCRIBE"),
            "read requests": Right(kind="TOPIC", prefix=named("requests"), operation="READ"),
            "write decisions": Right(kind="TOPIC", prefix=named("decisions"), operation="WRITE"),
            "read decisions": Right(kind="TOPIC", prefix=named("decisions"), operation="READ"),
            "write dead letters": Right(kind="TOPIC", prefix=named("dead-letters"), operation="WRITE"),
            "write shadow": Right(kind="TOPIC", prefix=named("shadow"), operation="WRITE"),
            "join the group": Right(kind="GROUP", prefix=prefix, operation="READ"),
            "write in transactions": Right(kind="TRANSACTIONAL_ID", prefix=prefix, operation="WRITE"),
        }

    def grant(self, *but: str) -> None:
        """Grant all rights but some."""
        self.secured.grant("limited", [right for name, right in self.rights.items() if name not in but])

    def feed(self, first: int, last: int) -> None:
        self.topics.feed(WORKLOADS[DOMAIN]().messages(last)[first:])

    def named(self) -> list[str]:
        return ["--prefix", self.topics.prefix, "--group", f"{self.topics.prefix}-group", "--json"]

    def serve(self) -> list[str]:
        words = ["serve", "--artifact", str(artifact_of(DOMAIN).folder), "--transport", "kafka", "--until-end"]
        return [*words, "--instance", "a", *self.named()]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.xdist_group("kafka")
class TestSecured:
    @pytest.fixture
    def ground(self, secured: Secured, monkeypatch: pytest.MonkeyPatch) -> Ground:
        for name, value in environment_of(secured.settings(WAY, user="limited")).items():
            monkeypatch.setenv(name, value)
        return Ground(secured)

    @pytest.mark.parametrize(
        ("lacking", "words", "found"),
        [
            (["read requests"], "Read on the topic {}.ad_load.requests", "{}.ad_load.requests: READ not allowed"),
            (["see requests", "read requests"], "Describe on the topic {}.ad_load.requests", "requests: DESCRIBE not"),
            (["write decisions"], "Write on the topic {}.ad_load.decisions", "{}.ad_load.decisions: WRITE not allowed"),
            (["join the group"], "Read on the group {}-group", "group {}-group: READ not allowed"),
            (["write in transactions"], "transactional id {}-group-a", "transactional id {}-group-a: WRITE not"),
        ],
    )
    def test_a_worker_that_lacks_a_right_ends_and_names_it_and_the_doctor_finds_it(
        self, ground: Ground, lacking: list[str], words: str, found: str, tmp_path: Path,
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        ground.grant(*lacking)
        ground.feed(0, 10)
        assert main(ground.serve()) == 4
        told = capsys.readouterr().err
        assert words.format(ground.topics.prefix) in told
        assert "is not allowed; grant it: kafka-acls.sh" in told
        monkeypatch.setenv("PENSTOCK_INSTANCE", "a")
        code, looked = run(capsys, "doctor", *ground.named(), "--domain", DOMAIN)
        wrong = [one for one in looked["findings"] if one["state"] == "wrong"]
        assert code == 4
        assert [found.format(ground.topics.prefix) in one["detail"] for one in wrong] == [True]
        assert "kafka-acls.sh --add" in wrong[0]["remedy"]

    def test_reading_back_what_was_decided_needs_a_right_at_the_next_start(
        self, ground: Ground, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ground.grant("read decisions")
        ground.feed(0, 10)
        assert main(ground.serve()) == 0
        ground.feed(10, 20)
        capsys.readouterr()
        assert main(ground.serve()) == 4
        assert f"Read on the topic {ground.topics.name('decisions')}" in capsys.readouterr().err
        assert judge(ground.topics).missing == 10

    def test_the_doctor_finds_nothing_wrong_where_nothing_is_missing(
        self, ground: Ground, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ground.grant()
        ground.feed(0, 10)
        assert main(ground.serve()) == 0
        code, looked = run(capsys, "doctor", *ground.named())
        assert [one for one in looked["findings"] if one["state"] == "wrong"] == []
        unknown = {one["check"]: one["detail"] for one in looked["findings"] if one["state"] == "unknown"}
        assert set(unknown) == {"clock", "transactions"}
        assert "DESCRIBE on the cluster" in unknown["clock"]
        assert code == 0

    def test_a_right_that_is_lost_while_running_ends_the_worker_and_given_back_costs_nothing(
        self, ground: Ground, tmp_path: Path
    ) -> None:
        ground.grant()
        settings = ground.secured.settings(WAY, user="limited")
        flags = ["--brokers", settings["brokers"]]
        with working(ground.topics, artifact=artifact_of(DOMAIN).folder, logs=tmp_path, flags=flags) as workers:
            fed = 0
            for lost in ("write decisions", "read requests", "join the group", "write in transactions"):
                workers.start("a")
                ground.feed(fed, fed + 20)
                fed += 20
                workers.await_committed(fed, timeout_s=40.0)
                ground.secured.revoke("limited", [ground.rights[lost]])
                ground.feed(fed, fed + 20)
                fed += 20
                assert workers.await_end("a", timeout_s=60.0) == 4
                assert "is not allowed; grant it" in workers.log("a").splitlines()[-1], lost
                ground.secured.grant("limited", [ground.rights[lost]])
            workers.start("a")
            workers.await_committed(fed, timeout_s=40.0)
            assert workers.end("a") == 0
        found = judge(ground.topics)
        assert (found.requests, found.missing, found.double) == (fed, 0, 0)
