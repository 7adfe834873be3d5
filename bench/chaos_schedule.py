"""What befalls the workers of one chaos run, drawn from its seed: the same seed gives the same schedule."""

import random
from dataclasses import dataclass
from typing import Final, Literal

Event = Literal["kill", "pause", "cut", "faults", "calm", "join", "leave", "kill_broker"]

WORKERS: Final = ("a", "b", "c")
GUEST: Final = "d"
"""A worker that comes and goes, so that the group rebalances."""


@dataclass(frozen=True, kw_only=True, order=True)
class Step:
    """One event, so many seconds after requests begin to come."""

    at_s: float
    event: Event
    worker: str = ""
    seconds: float = 0.0
    share: float = 0.0


def draw(seed: int, *, span_s: float, kills: int = 3, pauses: int = 2, broker_kills: int = 1) -> list[Step]:
    """Draw the events of a run, earliest first.

    Args:
        seed: of the draw.
        span_s: over how many seconds requests come; all events fall into it.
        kills: SIGKILLs of workers.
        pauses: SIGSTOPs of workers, shorter and longer than a session and a transaction may last.
        broker_kills: SIGKILLs of the broker.
    """
    source = random.Random(seed)

    def moment() -> float:
        return round(source.uniform(0.05, 0.95) * span_s, 2)

    steps = [Step(at_s=moment(), event="kill", worker=source.choice(WORKERS)) for _ in range(kills)]
    steps += [
        Step(at_s=moment(), event="pause", worker=source.choice(WORKERS), seconds=round(source.uniform(1.0, 14.0), 1))
        for _ in range(pauses)
    ]
    steps += [Step(at_s=moment(), event="kill_broker") for _ in range(broker_kills)]
    steps += [Step(at_s=moment(), event="cut") for _ in range(2)]
    steps += _window(moment(), moment(), Step(at_s=0, event="join", worker=GUEST), "leave")
    for _ in range(2):
        begin = moment()
        faults = Step(at_s=0, event="faults", share=round(source.uniform(0.01, 0.06), 4))
        steps += _window(begin, begin + 0.25 * span_s, faults, "calm")
    return sorted(steps)


def _window(one: float, other: float, begin: Step, end: Event) -> list[Step]:
    first, last = sorted((one, other))
    return [
        Step(at_s=first, event=begin.event, worker=begin.worker, share=begin.share),
        Step(at_s=last, event=end, worker=begin.worker),
    ]
