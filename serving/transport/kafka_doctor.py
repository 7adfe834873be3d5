"""What the doctor finds at the brokers: reachable, permitted, topics as they must be, positions, clocks, transactions.

Nothing is written and no group is joined. Each check stands alone: one that fails by itself is a finding, too.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from policies.errors import PenstockError
from serving.contract import Place
from serving.doctor import Finding, fine, unknown, wrong
from serving.transport.kafka_clients import Connection, Timing, open_admin
from serving.transport.kafka_reader import TopicReader
from serving.transport.kafka_topics import INPUTS_OF, OUTPUTS_OF, topic_name

_NEEDED: Final = tuple(dict.fromkeys([*INPUTS_OF["decide"], *OUTPUTS_OF["decide"].values()]))
_JOINED: Final = INPUTS_OF["join"]
_CLOCKS_APART_S: Final = 5.0
_HANGING_S: Final = 60.0
"""A worker's transaction ends after 10 s, and the broker looks for such every 10 s."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Hold what the checks look at: clients, names, and what the brokers said about the topics."""

    admin: Any
    reader: TopicReader
    prefix: str
    domains: Sequence[str]
    group: str
    topics: Mapping[str, Any]
    now_s: float

    def places(self, last: str) -> list[Place]:
        """Return the partitions of one topic of each domain."""
        names = [topic_name(self.prefix, domain, last) for domain in self.domains]
        return [(name, part["partition_index"]) for name in names if name in self.topics for part in _parts(self, name)]


def check_brokers(
    connection: Connection, *, prefix: str, domains: Sequence[str], group: str, timing: Timing, now_s: float
) -> list[Finding]:
    """Look at the brokers, and at the topics of some domains, or of all that have requests.

    Args:
        connection: how brokers are reached.
        prefix: first part of the topics' names.
        domains: their second part; none looks for them.
        group: of the workers.
        timing: of the clients.
        now_s: seconds since 1970 in UTC.
    """
    silent = [broker for broker in connection.brokers if not _listens(broker)]
    remedy = "start the broker, or correct --brokers; a firewall or another network may be between"
    findings = [wrong("brokers", f"{broker} takes no connection", remedy=remedy) for broker in silent]
    if len(silent) == len(connection.brokers):
        return findings
    try:
        admin = open_admin(connection, timing=timing)
        reader = TopicReader(connection, timing=timing)
    except (KafkaError, OSError) as error:
        detail = f"the brokers do not answer: {type(error).__name__}: {error}"
        return [*findings, wrong("brokers", detail, remedy="look at security_protocol, sasl_* and ssl_* settings")]
    try:
        return findings + _look(admin, reader, prefix, domains, group, now_s)
    finally:
        admin.close()
        reader.close()


def _look(
    admin: Any, reader: TopicReader, prefix: str, domains: Sequence[str], group: str, now_s: float
) -> list[Finding]:
    cluster = admin.describe_cluster()
    findings = [fine("brokers", f"cluster {cluster['cluster_id']} answers with {len(cluster['brokers'])} brokers")]
    topics = {topic["name"]: topic for topic in admin.describe_topics()}
    head = f"{prefix}."
    own = domains or sorted({name[len(head) :].rpartition(".")[0] for name in topics if _is_requests(name, head)})
    if not own:
        remedy = "start a worker with --create-topics, or correct --prefix"
        return [*findings, wrong("topics", f"there is no topic {prefix}.DOMAIN.requests", remedy=remedy)]
    patient = Patient(admin=admin, reader=reader, prefix=prefix, domains=own, group=group, topics=topics, now_s=now_s)
    return findings + look_with(CHECKS, patient)


def look_with(checks: Mapping[str, Callable[[Patient], list[Finding]]], patient: Patient) -> list[Finding]:
    """Return what some checks find; what the brokers do not tell one of them is unknown."""
    findings: list[Finding] = []
    for name, check in checks.items():
        try:
            findings += check(patient)
        except (KafkaError, PenstockError) as error:
            findings.append(unknown(name, f"the brokers do not tell: {type(error).__name__}: {error}"))
    return findings


def _check_topics(patient: Patient) -> list[Finding]:
    findings = []
    for domain in patient.domains:
        names = [topic_name(patient.prefix, domain, last) for last in _NEEDED]
        missing = [name for name in names if name not in patient.topics]
        if missing:
            remedy = "create them, or start a worker with --create-topics"
            findings.append(wrong("topics", f"missing: {', '.join(missing)}", remedy=remedy))
        counts = {
            name: len(_parts(patient, name))
            for last in _JOINED
            if (name := topic_name(patient.prefix, domain, last)) in patient.topics
        }
        if len(set(counts.values())) > 1:
            remedy = "make them anew with one number of partitions: the join reads a decision beside its outcomes"
            findings.append(wrong("topics", f"not co-partitioned: {_counts(counts)}", remedy=remedy))
        if not missing:
            present = {name: len(_parts(patient, name)) for name in names}
            findings.append(fine("topics", f"{domain}: {_counts(present)} partitions"))
    return findings


def _check_leaders(patient: Patient) -> list[Finding]:
    parts = [(name, part) for name in _own(patient) for part in _parts(patient, name)]
    lame = [f"{name}/{part['partition_index']}" for name, part in parts if part["error_code"] or part["leader_id"] < 0]
    behind = [f"{n}/{p['partition_index']}" for n, p in parts if len(p["isr_nodes"]) < len(p["replica_nodes"])]
    findings = []
    if lame:
        findings.append(wrong("leaders", f"without a leader: {', '.join(lame)}", remedy="bring their brokers back"))
    if behind:
        remedy = "look at the brokers that hold the replicas; another loss may stop the partition"
        findings.append(wrong("leaders", f"replicas behind: {', '.join(behind)}", remedy=remedy))
    return findings or [fine("leaders", f"all {len(parts)} partitions have a leader and all their replicas")]


def _check_permissions(patient: Patient) -> list[Finding]:
    wanted = {name: {"DESCRIBE", "READ" if name.endswith(".requests") else "WRITE"} for name in _own(patient)}
    findings = []
    for name, operations in wanted.items():
        allowed = patient.topics[name].get("authorized_operations")
        if allowed is None:
            return [unknown("permissions", "the brokers do not tell what is allowed")]
        lacking = sorted(operations - {str(one).upper() for one in allowed} if "ALL" not in allowed else ())
        if lacking:
            remedy = "grant them to the workers' user (kafka-acls --add)"
            findings.append(wrong("permissions", f"{name}: {', '.join(lacking)} not allowed", remedy=remedy))
    return findings or [fine("permissions", "this user may read the requests and write the results")]


def _check_cleanup(patient: Patient) -> list[Finding]:
    names = _own(patient)
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found = patient.admin.describe_configs(resources)
    policies = {name: config.get("cleanup.policy", {}) for kind in found.values() for name, config in kind.items()}
    compacted = [name for name, policy in policies.items() if "compact" in str(policy.get("value", ""))]
    if not compacted:
        return [fine("cleanup", "no topic is compacted: every record is kept until its retention is over")]
    remedy = "set cleanup.policy=delete: compaction removes requests before they are decided, and results"
    return [wrong("cleanup", f"compacted: {', '.join(compacted)}", remedy=remedy)]


def _check_positions(patient: Patient) -> list[Finding]:
    places = patient.places("requests")
    committed = patient.reader.committed(patient.group, places)
    if not committed:
        return [unknown("positions", f"the group {patient.group} has committed nothing yet")]
    begins, ends = patient.reader.begins(places), patient.reader.ends(places)
    lost = [f"{p[0]}/{p[1]} at {at}, the topic begins at {begins[p]}" for p, at in committed.items() if at < begins[p]]
    beyond = [f"{p[0]}/{p[1]} at {at}, the topic ends at {ends[p]}" for p, at in committed.items() if at > ends[p]]
    if lost or beyond:
        remedy = (
            "requests were deleted before they were decided, or the topic was made anew: reset the group's positions"
        )
        return [wrong("positions", f"group {patient.group}: {'; '.join(lost + beyond)}", remedy=remedy)]
    lag = sum(ends[place] - committed.get(place, begins[place]) for place in places)
    return [fine("positions", f"group {patient.group} is {lag} offsets behind the end")]


def _check_clock(patient: Patient) -> list[Finding]:
    """Compare this machine's clock with the newest records': a time to come tells clocks that are apart."""
    newest_s = -1.0
    places = patient.places("requests") + patient.places("decisions")
    begins = patient.reader.begins(places)
    for place, end in patient.reader.stable_ends(places).items():
        begin = max(begins[place], end - 2)  # the last may be a transaction's marker
        for rows in patient.reader.read_between({place: begin}, {place: end}):
            newest_s = max(newest_s, *(row.timestamp / 1000 for row in rows))
    if newest_s < 0:
        return [unknown("clock", "there is no record to compare with")]
    ahead_s = newest_s - patient.now_s
    if ahead_s <= _CLOCKS_APART_S:
        return [fine("clock", "no record is from the time to come")]
    remedy = "let this machine, producers and brokers take their time from one source (NTP): deadlines rest on it"
    return [wrong("clock", f"the newest record is {ahead_s:.0f} s ahead of this machine's clock", remedy=remedy)]


def _check_transactions(patient: Patient) -> list[Finding]:
    places = [TopicPartition(n, part["partition_index"]) for n in _own(patient) for part in _parts(patient, n)]
    hanging = []
    for place, state in patient.admin.describe_producers(places).items():
        for producer in state.active_producers:
            age_s = patient.now_s - producer.last_timestamp / 1000
            if producer.current_transaction_start_offset >= 0 and age_s > _HANGING_S:
                hanging.append(
                    f"{place.topic}/{place.partition} from offset {producer.current_transaction_start_offset}, "
                    f"producer {producer.producer_id} epoch {producer.producer_epoch}, {age_s:.0f} s old"
                )
    if not hanging:
        return [fine("transactions", "none hangs")]
    remedy = "they hide what comes after them: kafka-transactions.sh abort, for each topic, partition and start offset"
    return [wrong("transactions", "; ".join(hanging), remedy=remedy)]


CHECKS: Final[Mapping[str, Callable[[Patient], list[Finding]]]] = {
    "topics": _check_topics,
    "leaders": _check_leaders,
    "permissions": _check_permissions,
    "cleanup": _check_cleanup,
    "positions": _check_positions,
    "clock": _check_clock,
    "transactions": _check_transactions,
}


def _own(patient: Patient) -> list[str]:
    names = [topic_name(patient.prefix, domain, last) for domain in patient.domains for last in _NEEDED]
    return [name for name in names if name in patient.topics]


def _parts(patient: Patient, name: str) -> Sequence[Any]:
    found: Sequence[Any] = patient.topics[name]["partitions"]
    return found


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _is_requests(name: str, head: str) -> bool:
    return name.startswith(head) and name.endswith(".requests")


def _listens(broker: str) -> bool:
    host, _, port = broker.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
    except (OSError, ValueError):
        return False
    return True
