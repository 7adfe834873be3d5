"""Requests of a transaction that reach the broker in the midst of the next one; the client has long sent them again."""

import pytest

from serving.contract import Committed
from serving.transport.kafka_clients import Timing
from tests.contracts.transport_suite import CrashError, requests
from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_guarded import answers, finish, guarded, wait_until
from tests.helpers.kafka_judge import judge
from tests.helpers.kafka_proxy import FaultProxy
from tests.helpers.kafka_topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]


@pytest.fixture
def topics(broker: KafkaBroker) -> Topics:
    return Topics(broker.bootstrap, partition_count=1)


def test_positions_that_come_late_do_not_overwrite_those_of_the_next_transaction(
    topics: Topics, proxy: FaultProxy, client: str
) -> None:
    topics.feed(requests(6))
    transport = guarded(topics, proxy.address, timing=Timing(), max_batch=2, client=client)
    proxy.add("TxnOffsetCommit", "late", seconds=1.0)
    first = transport.poll()
    transport.settle(first, answers(first))
    proxy.add("EndTxn", "hold", seconds=2.0)
    second = transport.poll()
    transport.settle(second, answers(second))
    wait_until(lambda: proxy.late == 1)
    transport.close()
    finish(guarded(topics, topics.bootstrap, name="successor", client=client))
    assert judge(topics).is_clean


def test_a_commit_that_comes_late_does_not_end_the_next_transaction(
    topics: Topics, proxy: FaultProxy, client: str
) -> None:
    topics.feed(requests(6))
    crashing: list[bool] = []

    def crash(step: str) -> None:
        if crashing and step == "sent":
            wait_until(lambda: proxy.late == 1)
            raise CrashError(step)

    transport = guarded(topics, proxy.address, timing=Timing(), max_batch=2, faults=crash, client=client)
    proxy.add("EndTxn", "late", seconds=1.0)
    first = transport.poll()
    assert isinstance(transport.settle(first, answers(first)), Committed)
    crashing.append(True)
    second = transport.poll()
    with pytest.raises(CrashError):
        transport.settle(second, answers(second))
    transport.close()
    finish(guarded(topics, topics.bootstrap, client=client))
    assert judge(topics).is_clean
