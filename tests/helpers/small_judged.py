"""SDDP's cuts for the small case, made once, and what policies are judged on."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.hydrothermal.case import Floats
from optimizer.hydrothermal.judge.judged import Judged
from optimizer.hydrothermal.judge.scenarios import judged_inflow
from optimizer.hydrothermal.recourse import stage_recourse
from optimizer.hydrothermal.sddp.cuts import CostToGo
from optimizer.hydrothermal.sddp.noise import table_noise
from optimizer.hydrothermal.sddp.train import Trainer
from optimizer.hydrothermal.spec import policy_spec
from optimizer.training.progress import SilentProgress
from policies.artifact import Artifact, Manifest
from policies.recourse.linear import LinearRecourse
from policies.spec import PolicySpec
from tests.helpers.small_case import small_case, small_stage, table_of

STAGES = 8
REPORTED = 5


@cache
def small_cuts(iterations: int = 15) -> tuple[CostToGo, ...]:
    trainer = Trainer(small_stage(), noise=table_noise(table_of(small_case()), stages=STAGES))
    for _ in range(iterations):
        trainer.iterate()
    return trainer.costs_to_go()


def judged_small(*, reported: int = REPORTED, scenarios: int = 12, seed: int = 3) -> Judged:
    return Judged(
        arrays=small_stage(),
        inflow=judged_inflow(small_case(), stages=reported, count=scenarios, seed=seed),
        horizon=STAGES,
        credit=small_cuts()[reported - 1],
        progress=SilentProgress(),
    )


class KeptShare:
    """Proposes a share of each largest volume, whatever it is asked; shares beyond reach are for recourse to mend."""

    identity = "0" * 64

    def __init__(self, spec: PolicySpec, *, share: float) -> None:
        self.spec, self.share = spec, share
        self.asked: list[dict[str, NDArray[Any]]] = []

    def propose(self, arrays: Mapping[str, NDArray[Any]], mask: NDArray[np.bool_]) -> Floats:
        self.asked.append(dict(arrays))
        volumes: Floats = np.full((len(mask), 1), self.share) * np.array(self.spec.actions.upper)
        return volumes


def artifact_keeping(share: float, *, stages: int = STAGES, history: int = 3) -> Artifact:
    """Return an artifact with the real spec and recourse of the small case, whose policy keeps a share of each lake."""
    spec = policy_spec(small_case(), stages=stages, history=history)
    policy: Any = KeptShare(spec, share=share)
    return Artifact(
        folder=Path(),
        manifest=Manifest(schema="", spec=spec, files={}, opset=20, training={}),
        identity=policy.identity,
        spec=spec,
        policy=policy,
        recourse=LinearRecourse(stage_recourse(small_stage()), spec=spec),
    )
