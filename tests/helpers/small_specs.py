"""Small specs of each shape that a request can have, and requests that fit them.

`FEED` has fixed ids with features of their own, `PAYMENT` own actions, `TASKS` slots and own actions, `STORE` a
quantity with a vector and a sequence of vectors.
"""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.encode import Bucket, Encoded, Encoder
from policies.events import DecisionRequest, Fault
from policies.spec import ActionSet, Field, PolicySpec, Reward

FEED = PolicySpec(
    domain="feed",
    fields=(
        Field(name="hour", units="h", lower=0, upper=24),
        Field(name="taste", width=2, lower=(0.0, -1.0), upper=(10.0, 1.0), outside="clip", missing=0.0),
        Field(name="device", vocabulary=("phone", "tablet"), missing="unknown"),
        Field(name="length", axis="action", units="s", lower=0, upper=60),
        Field(name="brand", axis="action", vocabulary=("red", "blue")),
    ),
    actions=ActionSet(
        kind="choice",
        ids=("none", "short", "long"),
        features={"length": (0.0, 15.0, 60.0), "brand": ("red", "red", "blue")},
        fallback="none",
    ),
    rewards=(Reward(name="click", lower=0.0, upper=1.0, default=0.0, horizon_s=3600.0),),
    floor=0.1,
)
PAYMENT = PolicySpec(
    domain="payments",
    fields=(
        Field(name="amount", units="EUR", lower=0, upper=1000),
        Field(name="country", vocabulary=("bo", "br")),
        Field(name="fee", axis="action", units="EUR", lower=0, upper=5),
        Field(name="risk", axis="action", lower=0, upper=1, missing=0.5),
    ),
    actions=ActionSet(kind="choice", fallback="first"),
    rewards=(Reward(name="approved", lower=0.0, upper=1.0),),
)
TASKS = PolicySpec(
    domain="tasks",
    fields=(
        Field(name="cost", axis="action", lower=0, upper=100),
        Field(name="size", axis="slot", units="GB", lower=0, upper=10),
    ),
    actions=ActionSet(kind="assignment"),
)
STORE = PolicySpec(
    domain="store",
    fields=(
        Field(name="stock", units="pieces", width=3, lower=0, upper=50),
        Field(name="sales", units="pieces/day", width=2, steps=4, lower=0, upper=9),
    ),
    actions=ActionSet(
        kind="quantity",
        names=("milk", "bread"),
        units=("pieces", "pieces"),
        lower=(0.0, 0.0),
        upper=(9.0, 9.0),
        fallback=(1.0, 2.0),
    ),
)
SPECS = (FEED, PAYMENT, TASKS, STORE)
ENCODERS = {spec.domain: Encoder(spec) for spec in SPECS}


def request_of(spec: PolicySpec, number: int = 0, **changes: Any) -> DecisionRequest:
    """Make a sound request of one of the specs here; the same number gives the same request."""
    source = random.Random(f"{spec.domain}-{number}")
    content = {"feed": _feed, "payments": _payment, "tasks": _tasks, "store": _store}[spec.domain](source)
    named = {"request_id": f"{spec.domain}-{number}", "domain": spec.domain, "time": number, "unit": f"u{number % 3}"}
    return DecisionRequest(**{**named, **content, **changes})


def bits_of(encoded: Encoded) -> dict[int, tuple[object, ...]]:
    """Return, by row, everything that a request was encoded to, bit by bit."""
    bits: dict[int, tuple[object, ...]] = {}
    for bucket in encoded.buckets:
        for place, row in enumerate(bucket.rows.tolist()):
            arrays = tuple((name, _bits(array[place])) for name, array in sorted(bucket.arrays.items()))
            actions = None if bucket.action_ids is None else tuple(bucket.action_ids[place])
            slots = None if bucket.slot_ids is None else tuple(bucket.slot_ids[place])
            bits[row] = (arrays, _bits(bucket.mask[place]), actions, slots)
    return bits


def fault_of(spec: PolicySpec, **changes: Any) -> Fault:
    """Return what is wrong with a request, and hold that its neighbors are encoded as if it were not there."""
    left, right = request_of(spec, 1), request_of(spec, 2)
    broken = request_of(spec, 0, **changes)
    encoded = ENCODERS[spec.domain].encode_requests([left, broken, right])
    alone = ENCODERS[spec.domain].encode_requests([left, right])
    assert list(encoded.faults) == [1]
    assert {0: bits_of(encoded)[0], 1: bits_of(encoded)[2]} == bits_of(alone)
    assert (encoded.clipped, encoded.filled) == (alone.clipped, alone.filled)
    return encoded.faults[1]


def only_bucket(spec: PolicySpec, *requests: DecisionRequest) -> Bucket:
    """Encode requests that share a padded size."""
    encoded = Encoder(spec).encode_requests(requests)
    assert encoded.faults == {}
    (bucket,) = encoded.buckets
    return bucket


def permuted(table: dict[str, list[Any]], order: Sequence[int]) -> dict[str, list[Any]]:
    """Return a table's rows in another order; the eligible matrix stays as it is."""
    return {name: col if name == "eligible" else [col[place] for place in order] for name, col in table.items()}


def _bits(array: NDArray[Any]) -> tuple[object, ...]:
    return array.shape, str(array.dtype), np.ascontiguousarray(array).tobytes()


def _feed(source: random.Random) -> dict[str, Any]:
    fields: dict[str, Any] = {"hour": source.uniform(0, 24), "device": source.choice(["phone", "tablet", "watch"])}
    fields["taste"] = source.choice([None, [source.uniform(-5, 15), source.uniform(-2, 2)]])
    ids = source.sample(["none", "short", "long"], source.randint(1, 3))
    tables: list[dict[str, list[Any]] | None] = [
        None,
        {"id": ids},
        {"id": ids, "length": [source.choice([None, source.uniform(0, 60)]) for _ in ids]},
    ]
    return {"fields": fields, "actions": source.choice(tables)}


def _payment(source: random.Random) -> dict[str, Any]:
    ids = source.sample([f"route-{n}" for n in range(9)], source.randint(2, 8))
    actions: dict[str, list[Any]] = {"id": ids, "fee": [source.uniform(0, 5) for _ in ids]}
    if source.random() < 0.5:
        actions["risk"] = [source.choice([None, source.random()]) for _ in ids]
    if source.random() < 0.5:
        actions["eligible"] = [[place == 0 or source.random() < 0.5 for place in range(len(ids))]]
    return {
        "fields": {"amount": source.uniform(0, 1000), "country": source.choice(["bo", "br", "cl"])},
        "actions": actions,
    }


def _tasks(source: random.Random) -> dict[str, Any]:
    nodes = source.sample([f"node-{n}" for n in range(12)], source.randint(1, 9))
    jobs = source.sample([f"job-{n}" for n in range(9)], source.randint(1, 5))
    actions: dict[str, list[Any]] = {"id": nodes, "cost": [source.uniform(0, 100) for _ in nodes]}
    if source.random() < 0.5:
        actions["eligible"] = [[place == 0 or source.random() < 0.5 for place in range(len(nodes))] for _ in jobs]
    return {"actions": actions, "slots": {"id": jobs, "size": [source.randint(0, 10) for _ in jobs]}}


def _store(source: random.Random) -> dict[str, Any]:
    sales = [[source.uniform(0, 9), source.randint(0, 9)] for _ in range(source.randint(0, 7))]
    return {"fields": {"stock": [source.randint(0, 50) for _ in range(3)], "sales": sales}}
