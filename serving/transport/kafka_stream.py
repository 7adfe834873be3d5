"""Topics on Kafka as the collector reads them: committed records from a group's positions on."""

from collections.abc import Mapping, Sequence
from typing import Any, final

from policies.record_files import Record
from serving.contract import Place, Positions
from serving.transport.kafka_reader import TopicReader


@final
class KafkaStream:
    """Read partitions from the positions of a group that has no members, and commit for it.

    Partitions and topics that come later are found by `begins`; what was there at the start says where the end is.
    """

    def __init__(self, reader: TopicReader, *, topics: Sequence[str], group: str) -> None:
        self._reader, self._group, self._topics = reader, group, list(topics)
        self._places = self._find()
        self._ends = reader.ends(self._places)

    def begins(self) -> Positions:
        self._reader.refresh()
        self._places = self._find()
        return self._reader.begins(self._places)

    def committed(self) -> Positions:
        return self._reader.committed(self._group, self._places)

    def seek(self, positions: Positions) -> None:
        self._reader.seek(positions)

    def poll(self) -> Mapping[Place, Sequence[Record]]:
        polled = self._reader.poll()
        return {(topic, partition): [_record(row) for row in rows] for (topic, partition), rows in polled.items()}

    def commit(self, positions: Positions) -> None:
        self._reader.commit(self._group, positions)

    def is_at_end(self) -> bool:
        return self._reader.is_at(self._ends)

    def _find(self) -> list[Place]:
        return [place for topic in self._topics for place in self._reader.places(topic)]


def _record(row: Any) -> Record:
    return Record(row.offset, row.timestamp * 1000, row.key, row.value, tuple(row.headers))
