"""Rights at the brokers: which one a refusal is about, and whether a group and a transactional id may be used.

A broker refuses by a code that names a resource at best. What is missing is said here as an administrator grants it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from kafka.errors import (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)
from kafka.protocol.consumer import HeartbeatRequest
from kafka.protocol.metadata import CoordinatorType
from kafka.protocol.producer import EndTxnRequest

Operation = Literal["Read", "Write", "Describe", "Create"]

_GROUP_REFUSED: Final = GroupAuthorizationFailedError.errno
_TRANSACTIONS_REFUSED: Final = TransactionalIdAuthorizationFailedError.errno
_PATIENCE_S: Final = 5.0
_NOBODY: Final = -1
"""A producer's id and epoch, and a group's generation, that no client has."""


def why_refused(error: AuthorizationError, *, on_topics: Operation = "Read") -> str:
    """Say which right is missing, and how it is granted.

    Args:
        error: what the client raised.
        on_topics: what was tried, where the error is about topics.

    >>> why_refused(TopicAuthorizationFailedError({"p.shop.decisions"}), on_topics="Write")
    'Write on the topic p.shop.decisions is not allowed; grant it: kafka-acls.sh --add --allow-principal User:NAME \
--operation Write --topic p.shop.decisions'
    """
    named = error.args[0] if error.args else ()
    if isinstance(error, TopicAuthorizationFailedError):
        names = [named] if isinstance(named, str) else sorted(map(str, named))
        return missing(on_topics, "topic", names)
    if isinstance(error, GroupAuthorizationFailedError):
        return missing("Read", "group", [str(named or "of this worker")])
    if isinstance(error, TransactionalIdAuthorizationFailedError):
        return missing("Write", "transactional-id", ["of this worker"])
    if isinstance(error, ClusterAuthorizationFailedError):
        return missing("Describe", "cluster", ["as a whole"])
    return f"{type(error).__name__}: {error}"


def missing(operation: str, kind: str, names: Sequence[str]) -> str:
    """Return the words for a right that is missing.

    >>> missing("Read", "group", ["g"]).split(";")[0]
    'Read on the group g is not allowed'
    """
    return f"{operation} on the {kind} {', '.join(names)} is not allowed; {granting(operation, kind, names)}"


def granting(operation: str, kind: str, names: Sequence[str]) -> str:
    """Return how a right is granted.

    >>> granting("Write", "transactional-id", ["of this worker"])
    'grant it: kafka-acls.sh --add --allow-principal User:NAME --operation Write --transactional-id ID'
    """
    placeholders = {"transactional-id": "ID", "group": "GROUP"}
    shown = [placeholders.get(kind, name) if " " in name else name for name in names]
    where = "--cluster" if kind == "cluster" else " ".join(f"--{kind} {name}" for name in shown)
    return f"grant it: kafka-acls.sh --add --allow-principal User:NAME --operation {operation} {where}"


def may_join(admin: Any, group: str) -> bool:
    """Say whether this user may be a member of a group, by a sign of life of nobody, which changes nothing.

    Raises:
        KafkaError: the brokers do not answer.
    """
    request = HeartbeatRequest(group_id=group, generation_id=_NOBODY, member_id="nobody", max_version=3)
    return _may(admin, group, CoordinatorType.GROUP, request, refused=_GROUP_REFUSED)


def may_transact(admin: Any, transactional_id: str) -> bool:
    """Say whether this user may write under a transactional id, by ending a transaction of nobody.

    The broker looks at the right first, and then at the producer, which it does not know; so nothing is changed.

    Raises:
        KafkaError: the brokers do not answer.
    """
    request = EndTxnRequest(
        transactional_id=transactional_id, producer_id=_NOBODY, producer_epoch=_NOBODY, committed=False, max_version=3
    )
    return _may(admin, transactional_id, CoordinatorType.TRANSACTION, request, refused=_TRANSACTIONS_REFUSED)


def _may(admin: Any, key: str, kind: CoordinatorType, request: Any, *, refused: int) -> bool:
    run: Callable[..., Any] = admin._manager.run
    try:
        coordinator = _coordinator(admin, key, kind)
    except (GroupAuthorizationFailedError, TransactionalIdAuthorizationFailedError):
        return False
    answer = run(admin._manager.send, request, coordinator)
    return bool(answer.error_code != refused)


def _coordinator(admin: Any, key: str, kind: CoordinatorType) -> int:
    """Find who answers for a name; at the first question of all, the brokers have yet to make the topic it lies in."""
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            found: int = admin._manager.run(admin._find_coordinator_id, key, kind)
            return found
        except CoordinatorNotAvailableError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
