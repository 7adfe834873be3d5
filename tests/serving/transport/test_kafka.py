from collections.abc import Sequence

import pytest
from kafka.errors import KafkaTimeoutError

from serving.contract import Kind, Result, Transport
from tests.contracts.transport_suite import Faults, TransportSuite
from tests.helpers.kafka_guarded import producers_of
from tests.helpers.kafka_topics import Topics

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]


class TestKafkaTransport(TransportSuite):
    is_per_partition = False

    @pytest.fixture(autouse=True)
    def _topics(self, bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics = Topics(bootstrap)
        self.monkeypatch = monkeypatch

    def feed(self, values: Sequence[bytes]) -> None:
        self.topics.feed(values)

    def start(self, *, faults: Faults | None, max_batch: int) -> Transport:
        return self.topics.open(faults=faults, max_batch=max_batch, is_per_partition=self.is_per_partition)

    def results(self, kind: Kind) -> Sequence[Result]:
        return self.topics.results(kind)

    def break_next_commit(self, transport: Transport) -> None:
        def hang(timeout: float) -> None:
            raise KafkaTimeoutError("the flush timed out")

        for producer in producers_of(transport):
            self.monkeypatch.setattr(producer, "flush", hang)


class TestKafkaTransportWithATransactionPerPartition(TestKafkaTransport):
    is_per_partition = True
