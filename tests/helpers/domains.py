"""One realistic request shape for each of the five domains: the proof that the records fit them all.

The numbers are generated; the shapes are those of the field: a hydrothermal state with an inflow sequence of vectors
and target volumes through a linear recourse, a store's stock, a feed fetch, a payment attempt with its own actions, a
batch of tasks against 64 candidate nodes.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.events import DecisionRequest, Outcome
from policies.spec import ActionSet, Field, PolicySpec, RecourseSpec, Reward
from tests.helpers.hydrothermal_stage import draw_stage, stage_program, stage_spec

HOUR_US = 3_600_000_000
NODE_COUNT = 64


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A spec, a maker of its requests' contents, and the constant proposal or None for a uniform policy."""

    spec: PolicySpec
    fill: Callable[[random.Random], dict[str, Any]]
    quantities: tuple[float, ...] | None = None
    recourse: dict[str, NDArray[Any]] | None = None

    def request(self, number: int) -> DecisionRequest:
        """Make the request of that number; the same number gives the same request."""
        source = random.Random(f"{self.spec.domain}-{number}")
        return DecisionRequest(
            request_id=f"{self.spec.domain}-{number:08d}",
            domain=self.spec.domain,
            time=1_780_000_000_000_000 + number * 1_000,
            unit=f"unit-{number % 997}",
            **self.fill(source),
        )

    def messages(self, count: int) -> list[bytes]:
        """Make that many requests as the bytes that a producer sends: without what it has nothing to say about."""
        return [_lean(self.request(number)) for number in range(count)]

    def outcome(self, request: DecisionRequest, slot: str = "") -> Outcome:
        """Make an outcome for a request that names every reward of the spec."""
        rewards: dict[str, float | None] = {r.name: 0.5 * ((r.lower or 0) + (r.upper or 1)) for r in self.spec.rewards}
        moment = request.time
        assert isinstance(moment, int)
        return Outcome(
            request_id=request.request_id,
            slot=slot,
            domain=self.spec.domain,
            time=moment + HOUR_US,
            rewards=rewards,
            final=True,
        )

    def export(self, folder: Path) -> str:
        """Write the constant or uniform artifact of this workload."""
        from optimizer.export import export_constant, export_uniform

        if self.quantities is None:
            return export_uniform(self.spec, folder=folder)
        return export_constant(self.spec, folder=folder, quantities=self.quantities, recourse=self.recourse)


def _lean(request: DecisionRequest) -> bytes:
    said = {name: value for name, value in msgspec.structs.asdict(request).items() if value is not None}
    return msgspec.json.encode(said)


def ad_load() -> Workload:
    """Make the workload of ads in one feed fetch."""
    spec = PolicySpec(
        domain="ad_load",
        fields=(
            Field(name="position", units="fetches", lower=0, upper=200),
            Field(name="hour_sin", lower=-1, upper=1),
            Field(name="hour_cos", lower=-1, upper=1),
            Field(name="scroll_depth", units="screens", lower=0, upper=500, outside="clip"),
            Field(name="segment", vocabulary=("new", "casual", "regular", "heavy")),
        ),
        actions=ActionSet(kind="choice", ids=("0", "1", "2", "3", "4", "5"), fallback="0"),
        rewards=(
            Reward(name="revenue", units="USD", lower=0, upper=2, default=0, horizon_s=3600),
            Reward(name="stayed", lower=0, upper=1, default=0, horizon_s=86_400),
        ),
        floor=0.05,
    )

    def fill(source: random.Random) -> dict[str, Any]:
        fields = {
            "position": source.randrange(40),
            "hour_sin": round(source.uniform(-1, 1), 3),
            "hour_cos": round(source.uniform(-1, 1), 3),
            "scroll_depth": round(source.uniform(0, 90), 1),
            "segment": source.choice(["new", "casual", "regular", "heavy"]),
        }
        return {"fields": fields}

    return Workload(spec=spec, fill=fill)


def payments() -> Workload:
    """Make the workload of one payment attempt with its own routes."""
    spec = PolicySpec(
        domain="payments",
        fields=(
            Field(name="amount", units="EUR", lower=0, upper=10_000, outside="clip"),
            Field(name="hour_sin", lower=-1, upper=1),
            Field(name="hour_cos", lower=-1, upper=1),
            Field(name="attempt", lower=1, upper=10),
            Field(name="brand", vocabulary=("amex", "mastercard", "visa")),
            Field(name="country", vocabulary=("DE", "ES", "FR", "IT", "NL")),
            Field(name="fee", axis="action", units="EUR", lower=0, upper=10),
            Field(name="success_rate", axis="action", lower=0, upper=1),
            Field(name="latency", axis="action", units="ms", lower=0, upper=10_000, outside="clip"),
            Field(name="method", axis="action", vocabulary=("3ds", "exempt", "plain")),
        ),
        actions=ActionSet(kind="choice", fallback="first"),
        rewards=(Reward(name="net", units="EUR", lower=-1, upper=1, horizon_s=60 * 86_400),),
        floor=0.1,
    )

    def fill(source: random.Random) -> dict[str, Any]:
        count = source.randint(2, 8)
        fields = {
            "amount": round(source.lognormvariate(3.5, 1), 2),
            "hour_sin": round(source.uniform(-1, 1), 3),
            "hour_cos": round(source.uniform(-1, 1), 3),
            "attempt": source.randint(1, 3),
            "brand": source.choice(["amex", "mastercard", "visa"]),
            "country": source.choice(["DE", "ES", "FR", "IT", "NL", "PT"]),
        }
        actions = {
            "id": [f"route-{n}" for n in range(count)],
            "fee": [round(source.uniform(0.05, 0.9), 3) for _ in range(count)],
            "success_rate": [round(source.uniform(0.6, 0.98), 4) for _ in range(count)],
            "latency": [source.randint(80, 900) for _ in range(count)],
            "method": [source.choice(["3ds", "exempt", "plain"]) for _ in range(count)],
        }
        return {"fields": fields, "actions": actions}

    return Workload(spec=spec, fill=fill)


def iot_scheduling() -> Workload:
    """Make the workload of one to five tasks against 64 candidate nodes."""
    spec = PolicySpec(
        domain="iot_scheduling",
        fields=(Field(name="load", lower=0, upper=2, outside="clip"),),
        actions=ActionSet(kind="assignment", fallback="first"),
        rewards=(Reward(name="on_time", lower=0, upper=1, default=0, horizon_s=60),),
        floor=0.05,
    )
    node_fields = (("mips", "MIPS", 12_000.0), ("backlog", "ms", 60_000.0), ("rtt", "ms", 500.0))
    task_fields = (("work", "MI", 50_000.0), ("size", "kB", 20_000.0), ("slack", "ms", 60_000.0), ("priority", "", 4.0))
    fields = (
        *spec.fields,
        *(Field(name=n, axis="action", units=u, lower=0, upper=top, outside="clip") for n, u, top in node_fields),
        *(Field(name=n, axis="slot", units=u, lower=0, upper=top, outside="clip") for n, u, top in task_fields),
    )
    spec = PolicySpec(domain=spec.domain, fields=fields, actions=spec.actions, rewards=spec.rewards, floor=spec.floor)

    def fill(source: random.Random) -> dict[str, Any]:
        count = source.randint(1, 5)
        nodes = {
            "id": [f"node-{n:02d}" for n in range(NODE_COUNT)],
            "mips": [source.choice([1000, 2800, 11_200]) for _ in range(NODE_COUNT)],
            "backlog": [source.randrange(4000) for _ in range(NODE_COUNT)],
            "rtt": [source.choice([4, 12, 76]) for _ in range(NODE_COUNT)],
        }
        tasks = {
            "id": [f"task-{n}" for n in range(count)],
            "work": [round(source.lognormvariate(5.5, 0.8), 1) for _ in range(count)],
            "size": [round(source.lognormvariate(4, 1), 1) for _ in range(count)],
            "slack": [source.randint(100, 6000) for _ in range(count)],
            "priority": [source.choice([1, 2, 4]) for _ in range(count)],
        }
        return {"fields": {"load": round(source.uniform(0.2, 1.1), 3)}, "actions": nodes, "slots": tasks}

    return Workload(spec=spec, fill=fill)


def inventory() -> Workload:
    """Make the workload of a store's stock of three products, ordered in whole cases."""
    names = ("milk", "bread", "eggs")
    spec = PolicySpec(
        domain="inventory",
        fields=(
            Field(name="on_hand", units="units", width=3, lower=0, upper=500),
            Field(name="pipeline", units="units", width=6, lower=0, upper=500),
            Field(name="weekday_sin", lower=-1, upper=1),
            Field(name="weekday_cos", lower=-1, upper=1),
            Field(name="demand", units="units/day", steps=16, width=3, lower=0, upper=200, outside="clip"),
        ),
        actions=ActionSet(
            kind="quantity",
            names=names,
            units=("units",) * 3,
            lower=(0.0,) * 3,
            upper=(240.0,) * 3,
            fallback=(0.0, 0.0, 0.0),
        ),
        rewards=(Reward(name="profit", units="EUR", lower=-1000, upper=1000),),
        recourse=RecourseSpec(kind="rounding"),
    )

    def fill(source: random.Random) -> dict[str, Any]:
        return {
            "fields": {
                "on_hand": [source.randrange(120) for _ in range(3)],
                "pipeline": [source.choice([0, 0, 12, 24, 48]) for _ in range(6)],
                "weekday_sin": round(source.uniform(-1, 1), 3),
                "weekday_cos": round(source.uniform(-1, 1), 3),
                "demand": [[source.randrange(30) for _ in range(3)] for _ in range(16)],
            }
        }

    return Workload(spec=spec, fill=fill, quantities=(13.4, 7.2, 30.0), recourse=_whole_cases())


def _whole_cases() -> dict[str, NDArray[Any]]:
    """Order in cases of 12, 6 and 30 units."""
    from policies.recourse.rounding import rounding_arrays

    return rounding_arrays(multiple=np.array([12.0, 6.0, 30.0]), lower=np.zeros(3), upper=np.full(3, 240.0))


def hydrothermal() -> Workload:
    """Make the workload of one week of eleven reservoirs: volumes, 26 weeks of inflows, target volumes, a stage LP."""
    stage = draw_stage(7)
    spec = stage_spec(stage)
    inflow_mean, storage = stage.inflow_mean_m3s, stage.storage_max_hm3

    def fill(source: random.Random) -> dict[str, Any]:
        rng = np.random.default_rng(source.randrange(2**32))
        inflows = inflow_mean * rng.lognormal(0.0, 0.5, (26, len(inflow_mean)))
        inflows = np.minimum(inflows, spec.sequence_fields[0].uppers)
        volumes = storage * rng.uniform(0.1, 0.9, len(storage))
        return {"fields": {"volume": np.round(volumes, 3).tolist(), "inflow": np.round(inflows, 2).tolist()}}

    targets = tuple(np.round(storage * 0.5, 3).tolist())
    recourse = stage_program(stage).to_arrays()
    return Workload(spec=spec, fill=fill, quantities=targets, recourse=recourse)


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "ad_load": ad_load,
    "payments": payments,
    "iot_scheduling": iot_scheduling,
    "inventory": inventory,
    "hydrothermal": hydrothermal,
}
