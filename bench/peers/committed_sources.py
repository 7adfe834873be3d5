"""Read topics to their ends with librdkafka, read_committed, and print the source that each record names.

Run by the interpreter of `confluent_python`; it shares no code with what it judges.

    python committed_sources.py HOST:PORT TOPIC ...
"""

import json
import sys
import time

from confluent_kafka import Consumer, TopicPartition

GIVE_UP_S = 60.0


def sources(brokers: str, topics: list[str]) -> list[list[int]]:
    """Return partition and offset of the request that each committed record answers, in the order of reading."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "judge",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
            "auto.offset.reset": "earliest",
        }
    )
    listed = consumer.list_topics(timeout=30).topics
    places = [TopicPartition(topic, number, 0) for topic in topics for number in listed[topic].partitions]
    # With read_committed the high watermark is the last stable offset: what lies beyond is nobody's to read.
    ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=30)[1] for p in places}
    consumer.assign(places)
    found = []
    give_up = time.monotonic() + GIVE_UP_S
    while any(row.offset < ends[row.topic, row.partition] for row in consumer.position(places) if row.offset >= 0) or (
        any(row.offset < 0 and ends[row.topic, row.partition] > 0 for row in consumer.position(places))
    ):
        for message in consumer.consume(5_000, timeout=0.5):
            if message.error() is not None:
                raise RuntimeError(str(message.error()))
            source = json.loads(message.value())["source"]
            found.append([source["partition"], source["offset"]])
        if time.monotonic() > give_up:
            raise RuntimeError(f"the topics could not be read to {ends}")
    consumer.close()
    return found


if __name__ == "__main__":
    json.dump(sources(sys.argv[1], sys.argv[2:]), sys.stdout)
