"""The work that all services do: requests of about 609 bytes, decided by one perceptron 32-64-64-16 with a softmax.

python -m bench.serving.workload FOLDER      writes FOLDER/artifact and FOLDER/requests.jsonl
"""

import json
import random
import sys
from pathlib import Path
from typing import Any, Final

from bench.peers.serving.answering import ACTION_COUNT
from bench.peers.serving.schedule import DOMAIN
from policies.spec import ActionSet, Field, PolicySpec, Reward
from tests.helpers.domains import Workload

WIDTH: Final = 32
BOUND: Final = 4.0
LINES: Final = 4096
"""Different contexts; requests repeat them under new ids."""

SEED: Final = 4


def spec() -> PolicySpec:
    """Return the spec: a bounded vector as context, sixteen fixed actions, an exploration floor."""
    return PolicySpec(
        domain=DOMAIN,
        fields=(Field(name="x", width=WIDTH, lower=-BOUND, upper=BOUND),),
        actions=ActionSet(kind="choice", ids=tuple(f"a{number:02d}" for number in range(ACTION_COUNT)), fallback="a00"),
        rewards=(Reward(name="value", lower=0, upper=1),),
        floor=0.05,
    )


def fill(source: random.Random) -> dict[str, Any]:
    """Draw a context."""
    values = [max(-BOUND, min(BOUND, source.gauss(0.0, 1.0))) for _ in range(WIDTH)]
    return {"fields": {"x": [round(value, 11 + place % 2) for place, value in enumerate(values)]}}


def requests(count: int) -> list[bytes]:
    """Return the first requests; the n-th has the id of that number."""
    return Workload(spec=spec(), fill=fill).messages(count)


def export(folder: Path) -> str:
    """Write the artifact of a perceptron with seeded weights, and return its identity."""
    import torch

    from optimizer.export import export_policy
    from optimizer.networks.default import default_network

    torch.manual_seed(SEED)
    network = default_network(spec(), width=64, depth=2)
    return export_policy(network, spec=spec(), folder=folder, provenance={"recipe": "bench.serving"})


def main() -> None:
    folder = Path(sys.argv[1])
    identity = export(folder / "artifact")
    (folder / "requests.jsonl").write_bytes(b"\n".join(requests(LINES)) + b"\n")
    print(json.dumps({"identity": identity}))


if __name__ == "__main__":
    main()
