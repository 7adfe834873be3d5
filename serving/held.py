"""What the join holds of one request, how long it waits for outcomes, and when nothing more can come."""

from dataclasses import dataclass, field
from typing import Final, final

import msgspec

from policies.events import OLDEST_READABLE, SCHEMA_VERSION, Decision, Fault, Outcome, Source, UnableToDecode
from policies.faults import explain
from policies.spec import PolicySpec

_MICROSECONDS: Final = 1_000_000


class EchoedRequest(msgspec.Struct, gc=False):
    """Name the request that a decision answers."""

    request_id: str
    domain: str


_REQUEST: Final = msgspec.json.Decoder(EchoedRequest)


@final
@dataclass(slots=True)
class Held:
    """What is held of one request: its decisions (one, unless it was repeated) and its outcomes, with sources."""

    domain: str = ""
    decisions: list[tuple[Decision, Source]] = field(default_factory=list)
    outcomes: list[tuple[Outcome, Source]] = field(default_factory=list)
    final: set[tuple[str, str]] = field(default_factory=set)
    is_complete: bool = False
    left_before: int = 0

    def sources(self) -> list[Source]:
        """Return where all that is held was read."""
        return [source for _, source in (*self.decisions, *self.outcomes)]


def echoed_request(decision: Decision) -> EchoedRequest:
    """Return which request a decision echoes, without decoding the whole of it.

    Raises:
        UnableToDecode: the echo is not an object with a request_id and a domain.
    """
    raw = bytes(decision.request)
    try:
        return _REQUEST.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        found = explain(raw, error, readable=(OLDEST_READABLE, SCHEMA_VERSION))
        fault = Fault(found.fault.reason, f"in the request that the decision echoes: {found.fault.detail}")
        raise UnableToDecode(fault, request_id=found.request_id) from error


def horizon(spec: PolicySpec, *, longest: int) -> int:
    """Return how long a decision waits for outcomes, in microseconds: its longest horizon, at most `longest`."""
    horizons = [reward.horizon_s for reward in spec.rewards]
    known = [round(horizon_s * _MICROSECONDS) for horizon_s in horizons if horizon_s is not None]
    return min(longest, max(known)) if known and len(known) == len(horizons) else longest


def is_complete(held: Held, *, spec: PolicySpec) -> bool:
    """Say whether every reward of every choice, or of the request as a whole, is final."""
    slots = {choice.slot for decision, _ in held.decisions for choice in decision.choices}
    return all(
        ("", reward.name) in held.final or all((slot, reward.name) in held.final for slot in slots)
        for reward in spec.rewards
    )
