"""A trained policy as it is served: encoder, graph, grid and recourse of the artifact decide, HiGHS prices.

The path is that of serving, function by function: requests are encoded by the spec, the graph proposes, proposals come
onto their grid, recourse makes them feasible, and a row that it cannot make feasible takes the spec's fallback. The
volumes that are applied are then held in the stage's own program, which says what they cost.
"""

# B scenario, T stage, R reservoir, N component of the quantity

from typing import final

import numpy as np

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.judge.requests import stage_columns
from optimizer.training.progress import Progress
from policies.artifact import Artifact
from policies.columns import Columns, UnableToEncode
from policies.encode import Arrays, Encoded, Encoder
from policies.errors import Unable, UsageProblem
from policies.quantities import settle_quantities
from policies.recourse.contract import Applied, Recourse


class ArtifactOfAnother(UsageProblem):
    """The artifact was trained for another case or horizon."""


class UnableToDecide(Unable):
    """A request of the simulation has no decision: served, it would be a dead letter."""


@final
class ServedPolicy:
    """Decide the volumes of B scenarios at each stage, exactly as the artifact would be served.

    Attributes:
        spec: of the artifact.
        fallbacks: decisions that took the spec's fallback.
        recoveries: statuses of the recourse other than optimal, by word.
        largest_change: largest difference between a proposed volume on its grid and the applied one.
    """

    def __init__(self, artifact: Artifact, *, case: Case, stages: int) -> None:
        """Take an artifact that passed its gates.

        Raises:
            ArtifactOfAnother: its plants or its horizon are not those of the case.
        """
        check_artifact(artifact, case=case, stages=stages)
        self.fallbacks, self.largest_change = 0, 0.0
        self.recoveries: dict[str, int] = {}
        self.spec = artifact.spec
        self._artifact, self._case = artifact, case
        self._encoder = Encoder(artifact.spec)

    def volumes(self, stage: int, *, volume_BR: Floats, inflow_BTR: Floats) -> Floats:
        """Return the volumes at the end of a stage (from 0), float64 [B, R].

        volume_BR: float64 [B, R], before it. inflow_BTR: float64 [B, stage + 1, R], that of the stage last.

        Raises:
            UnableToDecide: a scenario has no decision, or its state is not within the bounds of the spec.
        """
        spec = self._artifact.spec
        columns = stage_columns(spec, self._case, stage=stage, volume_BR=volume_BR, inflow_BTR=inflow_BTR)
        (bucket,) = self._encode(columns, stage).buckets
        proposal = self._artifact.policy.propose(bucket.arrays, bucket.mask)
        quantities, is_sound = settle_quantities(proposal, spec=spec)
        if not is_sound.all():
            at = int(np.flatnonzero(~is_sound)[0])
            raise UnableToDecide(f"stage {stage + 1} of scenario {at + 1}: the graph's volumes are not finite")
        recourse = self._artifact.recourse
        applied = quantities if recourse is None else self._apply(recourse, quantities, bucket.arrays, stage)
        self.largest_change = max(self.largest_change, float(np.abs(applied - quantities).max(initial=0.0)))
        return applied.clip(0.0, self._case.volume_max)

    def _encode(self, columns: Columns, stage: int) -> Encoded:
        try:
            return self._encoder.encode(columns)
        except UnableToEncode as error:
            who = "a scenario" if error.row is None else f"scenario {error.row + 1}"
            raise UnableToDecide(
                f"stage {stage + 1} of {who}: {error.fault.detail}; served, it is a dead letter ({error.fault.reason})"
            ) from error

    def _apply(self, recourse: Recourse, quantities: Floats, arrays: Arrays, stage: int) -> Floats:
        applied = recourse.apply(quantities, parameters=arrays)
        for status in applied.status:
            if status != "optimal":
                self.recoveries[status] = self.recoveries.get(status, 0) + 1
        values = applied.values.copy()
        for row, detail in applied.faults.items():
            where = f"stage {stage + 1} of scenario {row + 1}: {detail}"
            values[row] = self._fall_back(recourse, row, arrays, where=where)
        return values

    def _fall_back(self, recourse: Recourse, row: int, arrays: Arrays, *, where: str) -> Floats:
        fallback = self._artifact.spec.actions.fallback
        if not isinstance(fallback, tuple):
            raise UnableToDecide(f"{where}; the spec names no fallback")
        own = {name: array[row : row + 1] for name, array in arrays.items()}
        applied: Applied = recourse.apply(np.array([fallback], dtype=np.float64), parameters=own)
        if applied.faults:
            raise UnableToDecide(f"{where}; the fallback is not feasible either: {applied.faults[0]}")
        self.fallbacks += 1
        values: Floats = applied.values[0]
        return values


def roll_out_served(policy: ServedPolicy, *, case: Case, inflow_BTR: Floats, name: str, progress: Progress) -> Floats:
    """Return the volumes before the first stage and after each one, float64 [B, T + 1, R], along inflows [B, T, R].

    Raises:
        UnableToDecide: a scenario has no decision.
    """
    count, stages, reservoirs = inflow_BTR.shape
    volume_BTR = np.empty((count, stages + 1, reservoirs))
    volume_BTR[:, 0] = case.volume_initial
    progress.start(name, total=stages)
    for stage in range(stages):
        seen_BTR = inflow_BTR[:, : stage + 1]
        volume_BTR[:, stage + 1] = policy.volumes(stage, volume_BR=volume_BTR[:, stage], inflow_BTR=seen_BTR)
        progress.advance(f"stage {stage + 1}")
    progress.finish(f"{count} scenarios over {stages} stages")
    return volume_BTR


def check_artifact(artifact: Artifact, *, case: Case, stages: int) -> None:
    """Refuse an artifact of other plants or of another horizon.

    Raises:
        ArtifactOfAnother: the message says what differs.
    """
    names = artifact.spec.actions.names
    if names != case.hydro_names:
        raise ArtifactOfAnother(
            f"expected an artifact for the plants {', '.join(case.hydro_names)}, found one for {', '.join(names)}"
        )
    horizon = next((field.uppers[0] for field in artifact.spec.fields if field.name == "stage"), None)
    if horizon != stages:
        raise ArtifactOfAnother(f"expected an artifact trained for {stages} stages, found {horizon:g} in its spec")
