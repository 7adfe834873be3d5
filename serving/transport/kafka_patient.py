"""What the doctor's checks at brokers look at: clients, names, and what the brokers said about the topics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serving.contract import Place
from serving.transport.kafka_reader import TopicReader
from serving.transport.kafka_topics import INPUTS_OF, OUTPUTS_OF, topic_name

NEEDED: Final = tuple(dict.fromkeys([*INPUTS_OF["decide"], *OUTPUTS_OF["decide"].values()]))
"""Last parts of the names of the topics that each domain must have."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Hold what the checks look at.

    `topics` is what the brokers said about each topic, by name; `hidden` names those of our domains that this user may
    not see. `transactional_id` is that of a worker with these settings, `seconds` the time of day here.
    """

    admin: Any
    reader: TopicReader
    prefix: str
    domains: Sequence[str]
    group: str
    transactional_id: str
    topics: Mapping[str, Any]
    hidden: Sequence[str] = ()
    seconds: Callable[[], float]

    def own(self) -> list[str]:
        """Return the names of our topics that there are."""
        names = [topic_name(self.prefix, domain, last) for domain in self.domains for last in NEEDED]
        return [name for name in names if name in self.topics]

    def parts(self, name: str) -> Sequence[Any]:
        """Return what the brokers said about each partition of a topic."""
        found: Sequence[Any] = self.topics[name]["partitions"]
        return found

    def places(self, last: str) -> list[Place]:
        """Return the partitions of one topic of each domain."""
        names = [topic_name(self.prefix, domain, last) for domain in self.domains]
        return [(name, part["partition_index"]) for name in names if name in self.topics for part in self.parts(name)]
