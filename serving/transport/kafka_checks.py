"""Checks of the doctor that ask brokers more than where topics are: rights, clocks, transactions.

None changes anything: the rights to a group and a transactional id are asked in the name of nobody (`kafka_rights`).
"""

from collections.abc import Sequence
from typing import Any, Final

from kafka import TopicPartition
from kafka.errors import AuthorizationError, ClusterAuthorizationFailedError, TopicAuthorizationFailedError

from serving.doctor import Finding, fine, unknown, wrong
from serving.transport.kafka_patient import Patient
from serving.transport.kafka_rights import granting, may_join, may_transact

_OPERATIONS: Final = {"requests": ("DESCRIBE", "READ"), "decisions": ("DESCRIBE", "READ", "WRITE")}
_WRITTEN: Final = ("DESCRIBE", "WRITE")
"""A worker reads its decisions back at a start, to tell requests that come again."""

_CLOCKS_APART_S: Final = 5.0
_HANGING_S: Final = 60.0
"""A worker's transaction ends after 10 s, and the broker looks for such every 10 s."""

_POSITIONS: Final = "__consumer_offsets"
_UNDER_WAY: Final = ("Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence")


def check_permissions(patient: Patient) -> list[Finding]:
    """Look whether this user may read requests, write results, join the group and write in transactions."""
    findings = [_lacking(name, ["DESCRIBE"]) for name in patient.hidden]
    for name in patient.own():
        operations = _OPERATIONS.get(name.rpartition(".")[2], _WRITTEN)
        allowed = patient.topics[name].get("authorized_operations")
        if allowed is None:
            findings.append(unknown("permissions", f"{name}: the brokers do not tell what is allowed"))
        elif lacking := [one for one in operations if one not in allowed and "ALL" not in allowed]:
            findings.append(_lacking(name, lacking))
    if not may_join(patient.admin, patient.group):
        remedy = f"{granting('Read', 'group', [patient.group])} (add --resource-pattern-type prefixed for the verbs)"
        findings.append(wrong("permissions", f"group {patient.group}: READ not allowed", remedy=remedy))
    if not may_transact(patient.admin, patient.transactional_id):
        names = [f"{patient.group}-"]
        remedy = f"{granting('Write', 'transactional-id', names)} --resource-pattern-type prefixed"
        detail = f"transactional id {patient.transactional_id}: WRITE not allowed"
        findings.append(wrong("permissions", detail, remedy=remedy))
    return findings or [fine("permissions", "this user may read requests, write results, and join the group")]


def _lacking(name: str, operations: Sequence[str]) -> Finding:
    remedy = " ".join([granting(operations[0].title(), "topic", [name]), *_more(operations[1:])])
    return wrong("permissions", f"{name}: {', '.join(operations)} not allowed", remedy=remedy)


def _more(operations: Sequence[str]) -> list[str]:
    return [f"--operation {operation.title()}" for operation in operations]


def check_clock(patient: Patient) -> list[Finding]:
    """Compare this machine's clock with the controller's, both ways, and with the newest records', one way."""
    findings: list[Finding] = []
    try:
        ahead_s, within_s = _controller_ahead(patient)
    except ClusterAuthorizationFailedError:
        detail = "this user may not ask the controller for its time (DESCRIBE on the cluster)"
        findings.append(unknown("clock", detail))
    else:
        words = f"the controller's clock is {abs(ahead_s):.2f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"
        told = f"{words}, within {within_s:.2f} s"
        is_apart = abs(ahead_s) - within_s > _CLOCKS_APART_S
        findings.append(wrong("clock", told, remedy=_ONE_TIME) if is_apart else fine("clock", told))
    return findings + _check_records(patient)


_ONE_TIME: Final = "let this machine, producers and brokers take their time from one source (NTP): deadlines rest on it"


def _controller_ahead(patient: Patient) -> tuple[float, float]:
    """Return how far the controller's clock is ahead of ours, and how wrong that may be, in seconds.

    The leader of the metadata's quorum states the present as the time that it was last read by itself. The answer was
    made at some moment between question and receipt.

    Source: KIP-836, and LeaderState.describeReplicaState of Apache Kafka 4.3.
    """
    asked_s = patient.seconds()
    quorum = patient.admin.describe_metadata_quorum()["topics"][0]["partitions"][0]
    got_s = patient.seconds()
    leader = next(one for one in quorum["current_voters"] if one["replica_id"] == quorum["leader_id"])
    return leader["last_fetch_timestamp"] / 1000 - (asked_s + got_s) / 2, (got_s - asked_s) / 2


def _check_records(patient: Patient) -> list[Finding]:
    """A record from the time to come tells that its producer's or broker's clock is ahead; one behind shows nothing."""
    newest_s = -1.0
    places = patient.places("requests") + patient.places("decisions")
    begins = patient.reader.begins(places)
    for place, end in patient.reader.stable_ends(places).items():
        begin = max(begins[place], end - 2)  # the last may be a transaction's marker
        for rows in patient.reader.read_between({place: begin}, {place: end}):
            newest_s = max(newest_s, *(row.timestamp / 1000 for row in rows))
    if newest_s < 0:
        return [unknown("clock", "there is no record to compare with")]
    ahead_s = newest_s - patient.seconds()
    if ahead_s <= _CLOCKS_APART_S:
        return [fine("clock", "no record is from the time to come")]
    return [wrong("clock", f"the newest record is {ahead_s:.0f} s ahead of this machine's clock", remedy=_ONE_TIME)]


def check_transactions(patient: Patient) -> list[Finding]:
    """Look for transactions that stay open, in our topics and among the committed positions.

    One that its coordinator holds to be over hangs: it hides what comes after it for ever.
    """
    findings: list[Finding] = []
    unseen = []
    under_way = _under_way(patient.admin)
    for name in [*patient.own(), _POSITIONS]:
        try:
            findings += _check_open(patient, _partitions(patient, name), under_way)
        except AuthorizationError:
            unseen.append(name)
    if unseen:
        detail = f"this user may not look into {', '.join(unseen)} (READ): let an administrator run the doctor"
        findings.append(unknown("transactions", detail))
    return findings or [fine("transactions", "none hangs")]


def _under_way(admin: Any) -> dict[int, str]:
    """Return the producers whose transaction is not over, with their transactional ids."""
    listed = [row for rows in admin.list_transactions().values() for row in rows]
    return {row.producer_id: row.transactional_id for row in listed if row.state.value in _UNDER_WAY}


def _partitions(patient: Patient, name: str) -> list[TopicPartition]:
    """Return the partitions of a topic; a topic that this user may not see is named only when asked for."""
    if name not in patient.topics:
        (found,) = patient.admin.describe_topics([name])
        if found["error_code"] == TopicAuthorizationFailedError.errno:
            raise TopicAuthorizationFailedError({name})
        return []
    return [TopicPartition(name, part["partition_index"]) for part in patient.parts(name)]


def _check_open(patient: Patient, places: Sequence[TopicPartition], under_way: dict[int, str]) -> list[Finding]:
    findings = []
    for place, state in patient.admin.describe_producers(places).items():
        for producer in state.active_producers:
            age_s = patient.seconds() - producer.last_timestamp / 1000
            if producer.current_transaction_start_offset >= 0 and age_s > _HANGING_S:
                findings.append(_open_finding(place, producer, age_s, under_way.get(producer.producer_id)))
    return findings


def _open_finding(place: Any, producer: Any, age_s: float, transactional_id: str | None) -> Finding:
    start = producer.current_transaction_start_offset
    where = (
        f"{place.topic}/{place.partition} from offset {start}, producer {producer.producer_id} epoch "
        f"{producer.producer_epoch}, {age_s:.0f} s old"
    )
    if transactional_id is not None:
        remedy = "look at the process that writes under this transactional id; the broker ends it at its timeout"
        return wrong("transactions", f"open: {where}, transactional id {transactional_id}", remedy=remedy)
    remedy = (
        "its coordinator holds it to be over, so nothing will end it, and it hides what comes after it: "
        f"kafka-transactions.sh --bootstrap-server HOST:PORT abort --topic {place.topic} --partition "
        f"{place.partition} --start-offset {start}"
    )
    return wrong("transactions", f"hangs: {where}", remedy=remedy)
