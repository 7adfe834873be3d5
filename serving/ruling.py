"""What deciding works on and what it comes to: a part of a batch, and a ruling for each of its requests."""

from typing import NamedTuple

import msgspec

from policies.encode import Bucket
from policies.events import AppliedRecourse, Choice, DecisionRequest, FallbackReason
from policies.spec import PolicySpec


class Ruling(msgspec.Struct, frozen=True, gc=False):
    """Hold what was chosen for one request, before it is written down."""

    choices: tuple[Choice, ...]
    recourse: AppliedRecourse | None
    fallback: FallbackReason | None


class Part(NamedTuple):
    """Hold the requests of one bucket beside what they encode to, in the bucket's order."""

    spec: PolicySpec
    bucket: Bucket
    requests: list[DecisionRequest]

    def slot_names(self, place: int) -> list[str]:
        """Return the slots of one request in canonical order; a request without slots has one, without a name."""
        return [""] if self.bucket.slot_ids is None else self.bucket.slot_ids[place]

    def action_ids(self, place: int) -> tuple[str, ...] | list[str]:
        """Return the actions of one request in canonical order, eligible or not."""
        own = self.bucket.action_ids
        return (self.spec.actions.ids or ()) if own is None else own[place]
