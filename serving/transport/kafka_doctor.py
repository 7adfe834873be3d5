"""What the doctor finds at the brokers: reachable, permitted, topics as they must be, positions, clocks, transactions.

Nothing is written and no group is joined. Each check stands alone: one that fails by itself is a finding, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAuthorizationFailedError

from policies.errors import PenstockError
from serving.doctor import Finding, fine, unknown, wrong
from serving.transport.kafka_access import AccessRefused, ClosedEarly, enter
from serving.transport.kafka_checks import check_clock, check_permissions, check_transactions
from serving.transport.kafka_clients import Connection, Timing, open_admin
from serving.transport.kafka_patient import NEEDED, Patient
from serving.transport.kafka_reader import TopicReader
from serving.transport.kafka_topics import INPUTS_OF, topic_name

_JOINED: Final = INPUTS_OF["join"]

QUICK: Final = Timing(bootstrap_timeout_ms=3_000, request_timeout_ms=3_000, admin_timeout_ms=3_000)
"""A broker that hangs is a finding, not something to wait for."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """Say whose topics, group and transactional id are looked at; no domains means all that have requests."""

    prefix: str
    domains: Sequence[str]
    group: str
    transactional_id: str


def check_brokers(
    connection: Connection, names: Names, *, seconds: Callable[[], float], timing: Timing = QUICK
) -> list[Finding]:
    """Look at the brokers, and at the topics of some domains, or of all that have requests.

    Args:
        connection: how brokers are reached.
        names: what is looked at.
        seconds: the time of day, since 1970 in UTC.
        timing: of the clients.
    """
    findings, is_let_in = _check_entrances(connection)
    if not is_let_in:
        return findings
    try:
        admin = open_admin(connection, timing=timing)
        reader = TopicReader(connection, timing=timing)
    except (KafkaError, PenstockError, OSError) as error:
        detail = f"the brokers do not answer: {type(error).__name__}: {error}"
        return [*findings, wrong("brokers", detail, remedy="look at the brokers' own logs")]
    try:
        return findings + _look(admin, reader, names, seconds)
    except (KafkaError, OSError) as error:
        detail = f"the brokers stopped answering: {type(error).__name__}: {error}"
        return [*findings, wrong("brokers", detail, remedy="look at the brokers' own logs")]
    finally:
        admin.close()
        reader.close()


def _check_entrances(connection: Connection) -> tuple[list[Finding], bool]:
    """Come in at each broker that is named, and at each that these say there is; tell whether one lets us in."""
    findings: list[Finding] = []
    told: list[str] = []
    is_let_in = False
    for broker in connection.brokers:
        finding, others = _check_entrance(broker, connection)
        if finding is None:
            is_let_in = True
            told += others
        else:
            findings.append(finding)
    for broker in sorted(set(told) - set(connection.brokers)):
        finding, _ = _check_entrance(broker, connection)
        if finding is not None:
            remedy = f"{finding.remedy}; the brokers name themselves so by advertised.listeners"
            findings.append(wrong("brokers", finding.detail, remedy=remedy))
    return findings, is_let_in


def _check_entrance(broker: str, connection: Connection) -> tuple[Finding | None, list[str]]:
    try:
        return None, enter(broker, connection.security, client_id=connection.client_id)
    except AccessRefused as refusal:
        return wrong("brokers", refusal.detail, remedy=refusal.remedy), []
    except TimeoutError:
        remedy = "look at its log and its load; a process that was stopped takes connections but answers nothing"
        return wrong("brokers", f"{broker} does not answer", remedy=remedy), []
    except ClosedEarly as error:
        return wrong("brokers", str(error), remedy="correct security_protocol, or the port in --brokers"), []
    except (OSError, ValueError):
        remedy = "start the broker, or correct --brokers; a firewall or another network may be between"
        return wrong("brokers", f"{broker} takes no connection", remedy=remedy), []


def _look(admin: Any, reader: TopicReader, names: Names, seconds: Callable[[], float]) -> list[Finding]:
    cluster = admin.describe_cluster()
    findings = [fine("brokers", f"cluster {cluster['cluster_id']} answers with {len(cluster['brokers'])} brokers")]
    topics = {topic["name"]: topic for topic in admin.describe_topics()}
    prefix, head = names.prefix, f"{names.prefix}."
    own = names.domains or sorted({name[len(head) :].rpartition(".")[0] for name in topics if _is_requests(name, head)})
    if not own:
        remedy = (
            "start a worker with --create-topics, or correct --prefix; topics that this user may not describe do not "
            "show: name --domain, and each right is looked at"
        )
        return [*findings, wrong("topics", f"there is no topic {prefix}.DOMAIN.requests", remedy=remedy)]
    unseen = [name for domain in own for last in NEEDED if (name := topic_name(prefix, domain, last)) not in topics]
    asked = admin.describe_topics(unseen) if unseen else []
    hidden = [topic["name"] for topic in asked if topic["error_code"] == TopicAuthorizationFailedError.errno]
    patient = Patient(
        admin=admin, reader=reader, prefix=prefix, domains=own, group=names.group,
        transactional_id=names.transactional_id, topics=topics, hidden=hidden, seconds=seconds,
    )  # fmt: skip
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
        names = [topic_name(patient.prefix, domain, last) for last in NEEDED]
        missing = [name for name in names if name not in patient.topics and name not in patient.hidden]
        if missing:
            remedy = "create them, or start a worker with --create-topics"
            findings.append(wrong("topics", f"missing: {', '.join(missing)}", remedy=remedy))
        counts = {
            name: len(patient.parts(name))
            for last in _JOINED
            if (name := topic_name(patient.prefix, domain, last)) in patient.topics
        }
        if len(set(counts.values())) > 1:
            remedy = "make them anew with one number of partitions: the join reads a decision beside its outcomes"
            findings.append(wrong("topics", f"not co-partitioned: {_counts(counts)}", remedy=remedy))
        present = {name: len(patient.parts(name)) for name in names if name in patient.topics}
        if len(present) == len(names):
            findings.append(fine("topics", f"{domain}: {_counts(present)} partitions"))
    return findings


def _check_leaders(patient: Patient) -> list[Finding]:
    parts = [(name, part) for name in patient.own() for part in patient.parts(name)]
    lame = [f"{name}/{part['partition_index']}" for name, part in parts if part["error_code"] or part["leader_id"] < 0]
    behind = [f"{n}/{p['partition_index']}" for n, p in parts if len(p["isr_nodes"]) < len(p["replica_nodes"])]
    findings = []
    if lame:
        findings.append(wrong("leaders", f"without a leader: {', '.join(lame)}", remedy="bring their brokers back"))
    if behind:
        remedy = "look at the brokers that hold the replicas; another loss may stop the partition"
        findings.append(wrong("leaders", f"replicas behind: {', '.join(behind)}", remedy=remedy))
    return findings or [fine("leaders", f"all {len(parts)} partitions have a leader and all their replicas")]


def _check_cleanup(patient: Patient) -> list[Finding]:
    names = patient.own()
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


CHECKS: Final[Mapping[str, Callable[[Patient], list[Finding]]]] = {
    "topics": _check_topics,
    "leaders": _check_leaders,
    "permissions": check_permissions,
    "cleanup": _check_cleanup,
    "positions": _check_positions,
    "clock": check_clock,
    "transactions": check_transactions,
}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _is_requests(name: str, head: str) -> bool:
    return name.startswith(head) and name.endswith(".requests")
