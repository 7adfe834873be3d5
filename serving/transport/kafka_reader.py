"""Read topics outside any group, from positions the caller chooses to where they end: for audit, collect and redrive.

Only what is committed is read, and reading to an end means to the end of the log: transactions under way when the end
was asked for are waited for, so that nothing which was about to become readable is taken for absent.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

from kafka import TopicPartition
from kafka.errors import AuthorizationError, KafkaError, LeaderNotAvailableError, NoError, RetriableError

from policies.errors import Unable
from serving.contract import Place, Positions
from serving.transport.kafka import UnableToReachBrokers
from serving.transport.kafka_clients import Connection, Timing, ask_offsets, close_consumer, open_admin, open_reader
from serving.transport.kafka_guard import as_offsets
from serving.transport.kafka_rights import why_refused
from serving.transport.kafka_topics import TopicsMissing, topic_name

_SCAN_S = 15.0
"""A broker looks for transactions that have timed out every 10 s, and then ends them."""


class HiddenByTransaction(Unable):
    """A transaction stays open for longer than a worker's may, and hides what comes after it."""


@contextmanager
def reaching(connection: Connection) -> Iterator[None]:
    """Turn what the client raises into an error that says what was tried.

    Raises:
        UnableToReachBrokers: the brokers do not answer, or refuse.
    """
    try:
        yield
    except AuthorizationError as error:
        raise UnableToReachBrokers(f"the brokers refuse this user: {why_refused(error)}") from error
    except (KafkaError, OSError) as error:
        raise UnableToReachBrokers(
            f"the brokers {', '.join(connection.brokers)} do not answer as expected: {type(error).__name__}: {error}"
        ) from error


@final
class TopicReader:
    """Read committed records of topics, and ask the brokers where topics begin and end."""

    def __init__(self, connection: Connection, *, timing: Timing) -> None:
        """Connect.

        Raises:
            KafkaError: the brokers cannot be reached, or refuse.
        """
        self._connection, self._timing = connection, timing
        self._reader = open_reader(connection, isolation_level="read_committed", timing=timing)
        self._log = open_reader(connection, isolation_level="read_uncommitted", timing=timing)

    def topics(self) -> set[str]:
        """Return the names of all topics that may be seen."""
        return set(self._reader.topics())

    def refresh(self) -> None:
        """Learn which partitions there are now; the clients would look again only after minutes."""
        self._reader.topics()
        self._log.topics()

    def places(self, topic: str) -> list[Place]:
        """Return the partitions of a topic; none where it does not exist."""
        return [(topic, number) for number in sorted(self._reader.partitions_for_topic(topic) or ())]

    def begins(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return the first offset that each partition still has."""
        return self._ask(self._log.beginning_offsets, places)

    def ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return where each partition ends, transactions under way included."""
        return self._ask(self._log.end_offsets, places)

    def stable_ends(self, places: Sequence[Place]) -> dict[Place, int]:
        """Return up to where each partition can be read now; the first transaction under way comes after it."""
        return self._ask(self._reader.end_offsets, places)

    def first_at(self, places: Sequence[Place], time_ms: int) -> dict[Place, int]:
        """Return the first offset at or after a time; the end where there is none."""
        ends = self.ends(places)
        found = self._log.offsets_for_times({TopicPartition(*place): time_ms for place in places})
        return {tuple(place): ends[tuple(place)] if at is None else int(at.offset) for place, at in found.items()}

    def committed(self, group: str, places: Sequence[Place]) -> dict[Place, int]:
        """Return what a group has committed; a partition without is left out."""
        wanted = {group: [TopicPartition(*place) for place in places]}
        found = self._administer(lambda admin: admin.list_group_offsets(wanted)[group])
        return {tuple(place): int(at.offset) for place, at in found.items() if at.offset >= 0}

    def commit(self, group: str, positions: Positions) -> None:
        """Commit positions for a group that has no members.

        Raises:
            KafkaError: the brokers refuse, for instance because the group has members.
        """
        offsets = as_offsets(positions, "")
        errors = self._administer(lambda admin: admin.alter_group_offsets(group, offsets))
        for place, error in errors.items():
            if error is not NoError:
                raise error(f"the position of {place.topic}/{place.partition} of group {group} was not committed")

    def is_at(self, ends: Positions) -> bool:
        """Say whether each partition is read to its end."""
        return not self._unread(ends)

    def seek(self, positions: Positions) -> None:
        """Read from these positions on, and only these partitions."""
        places = [TopicPartition(*place) for place in positions]
        self._reader.assign(places)
        for place in places:
            self._reader.seek(place, positions[tuple(place)])

    def positions(self) -> dict[Place, int]:
        """Return where each partition is read on."""
        return {tuple(place): int(self._reader.position(place)) for place in self._reader.assignment()}

    def poll(self, *, timeout_ms: int = 200) -> Mapping[Place, Sequence[Any]]:
        """Return what has come, each partition in order."""
        return self._reader.poll(timeout_ms=timeout_ms, max_records=5_000)  # type: ignore[no-any-return]

    def read_to(self, ends: Positions) -> Iterator[Sequence[Any]]:
        """Yield records of the partitions sought until each is read to its end; some may lie beyond it.

        Raises:
            HiddenByTransaction: nothing came for longer than a worker's transaction may take.
        """
        patience_s = self._timing.transaction_timeout_ms / 1000 + _SCAN_S
        give_up = time.monotonic() + patience_s
        while unread := self._unread(ends):
            polled = self.poll()
            yield from polled.values()
            if polled:
                give_up = time.monotonic() + patience_s
            elif time.monotonic() > give_up:
                names = ", ".join(f"{topic}/{partition}" for topic, partition in unread)
                raise HiddenByTransaction(
                    f"an open transaction hides the end of {names} for {patience_s:.0f} s; `penstock doctor` finds "
                    "hanging transactions"
                )

    def read_between(self, begin: Positions, ends: Positions) -> Iterator[Sequence[Any]]:
        """Yield the records of some partitions from positions to ends, those beyond the ends left out."""
        self.seek(begin)
        for rows in self.read_to(ends):
            end = ends[rows[0].topic, rows[0].partition]
            within = rows if rows[-1].offset < end else [row for row in rows if row.offset < end]
            if within:
                yield within

    def close(self) -> None:
        """Let go of the clients."""
        close_consumer(self._reader)
        close_consumer(self._log)

    def _ask(
        self, offsets: Callable[[list[TopicPartition]], Mapping[Any, int]], places: Sequence[Place]
    ) -> dict[Place, int]:
        """Ask until each partition is answered: the client leaves out one whose leader it does not know yet."""
        wanted = [TopicPartition(*place) for place in places]
        give_up = time.monotonic() + self._timing.bootstrap_timeout_ms / 1000
        while True:
            try:
                found = ask_offsets(offsets, wanted)
                return {(place.topic, place.partition): offset for place, offset in found.items()}
            except LeaderNotAvailableError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.05)

    def _administer(self, ask: Callable[[Any], Any]) -> Any:
        """Ask an admin client; a coordinator that moves, or is only being made, is waited for."""
        give_up = time.monotonic() + self._timing.bootstrap_timeout_ms / 1000
        admin = open_admin(self._connection, timing=self._timing)
        try:
            while True:
                try:
                    return ask(admin)
                except RetriableError:
                    if time.monotonic() > give_up:
                        raise
                    time.sleep(0.1)
        finally:
            admin.close()

    def _unread(self, ends: Positions) -> list[Place]:
        found = self.positions()
        return [place for place, end in ends.items() if found[place] < end]


@contextmanager
def reading(connection: Connection, *, timing: Timing) -> Iterator[TopicReader]:
    """Open a reader for a while.

    Raises:
        UnableToReachBrokers: the brokers do not answer, or refuse, then or while it is used.
    """
    with reaching(connection):
        reader = TopicReader(connection, timing=timing)
        try:
            yield reader
        finally:
            reader.close()


def find_domains(topics: set[str], *, prefix: str, last: str, named: Sequence[str] = ()) -> list[str]:
    """Return the domains that have a topic under a prefix, or those that were named.

    Raises:
        TopicsMissing: there is none, or a named one has no such topic.

    >>> find_domains({"p.shop.requests", "p.shop.decisions", "q.shop.requests"}, prefix="p", last="requests")
    ['shop']
    """
    head, tail = f"{prefix}.", f".{last}"
    found = sorted(t[len(head) : -len(tail)] for t in topics if t.startswith(head) and t.endswith(tail))
    wanted = list(named) or found
    missing = [topic_name(prefix, domain, last) for domain in wanted if domain not in found]
    if missing or not wanted:
        raise TopicsMissing(
            f"expected the topics {', '.join(missing) or topic_name(prefix, 'DOMAIN', last)}, found none of them at "
            "these brokers; look at --brokers, --prefix and --domain, and whether this user may describe them"
        )
    return wanted
