import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from serving.transport.kafka_clients import Timing
from serving.transport.kafka_topics import TopicsMissing, choose_partitions, prepare_topics
from tests.helpers.kafka_broker import make_topics
from tests.helpers.kafka_topics import Topics, new_prefix


@given(keys=st.lists(st.binary(max_size=40), max_size=30), count=st.integers(1, 64))
@settings(deadline=None)
def test_partitions_are_those_of_the_default_partitioner(keys: list[bytes], count: int) -> None:
    assert choose_partitions(keys, partition_count=count) == [(murmur2(key) & 0x7FFFFFFF) % count for key in keys]


@pytest.mark.kafka
@pytest.mark.xdist_group("kafka")
class TestPrepare:
    def prepare(self, bootstrap: str, prefix: str, *, loop: str = "decide", count: int | None = 3) -> dict[str, int]:
        connection = Topics.connection(bootstrap)
        return prepare_topics(
            connection, prefix=prefix, domains=["demo"], loop=loop, partition_count=count, timing=Timing()
        )

    def test_missing_topics_are_named_when_they_may_not_be_made(self, bootstrap: str) -> None:
        with pytest.raises(TopicsMissing, match="--create-topics"):
            self.prepare(bootstrap, new_prefix(), count=None)

    def test_topics_are_made_once_and_found_again(self, bootstrap: str) -> None:
        prefix = new_prefix()
        made = self.prepare(bootstrap, prefix)
        lasts = ("requests", "decisions", "shadow", "dead-letters")
        assert made == {f"{prefix}.demo.{last}": 3 for last in lasts}
        assert self.prepare(bootstrap, prefix, count=None) == made

    def test_missing_topics_follow_the_requests(self, bootstrap: str) -> None:
        prefix = new_prefix()
        make_topics(bootstrap, {f"{prefix}.demo.requests": 5})
        assert set(self.prepare(bootstrap, prefix).values()) == {5}

    def test_topics_that_are_joined_have_the_same_partitions(self, bootstrap: str) -> None:
        prefix = new_prefix()
        make_topics(bootstrap, {f"{prefix}.demo.decisions": 2, f"{prefix}.demo.outcomes": 3})
        with pytest.raises(TopicsMissing, match="same number"):
            self.prepare(bootstrap, prefix, loop="join")
