"""Policies of the small hydrothermal case, random and untrained, and the states that they lead to."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from optimizer.hydrothermal.case import Case, Floats
from optimizer.hydrothermal.data import load_case
from optimizer.hydrothermal.encoder import Encoder, RecurrentEncoder, WindowEncoder
from optimizer.hydrothermal.network import TargetNetwork
from optimizer.hydrothermal.problem import HydrothermalProblem
from optimizer.hydrothermal.stage import StageArrays, compile_stage
from tests.helpers.small_case import small_case, small_stage

STAGES = 12


ENCODERS: dict[str, Callable[[Case, int], Encoder | None]] = {
    "none": lambda case, stages: None,
    "window": lambda case, stages: WindowEncoder(case, stages=stages, history=3),
    "recurrent": lambda case, stages: RecurrentEncoder(case, stages=stages, width=6, steps=stages),
    "recurrent_5": lambda case, stages: RecurrentEncoder(case, stages=stages, width=6, steps=5),
}
"""What tells a random network of inflows; the last one sees less than the horizon."""


def random_network(
    *, seed: int, encoder: str = "none", case: Case | None = None, stages: int = STAGES
) -> TargetNetwork:
    """Return a float64 network whose last layer is not flat, so that its targets differ from state to state."""
    case = case or small_case()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = ENCODERS[encoder](case, stages)
        network = TargetNetwork(case, stages=stages, width=16, encoder=made).double()
        with torch.no_grad():
            network.to_score.normal_(0.0, 0.6)
    return network


@cache
def small_problem() -> HydrothermalProblem:
    """Return a float64 problem whose cache has been filled along random policies."""
    problem = HydrothermalProblem(small_stage(), stages=STAGES, dtype=torch.float64)
    problem.seed_vertices(paths=4, seed=0)
    return problem


def with_history(volumes: Tensor, arrays: StageArrays) -> Floats:
    """Return targets [B, T, R] with the case's first volumes before them, float64 [B, T + 1, R]."""
    targets = volumes.detach().double().numpy()
    first = np.broadcast_to(arrays.case.volume_initial, (len(targets), 1, targets.shape[2]))
    return np.concatenate([first, targets], axis=1)


@cache
def bolivia(folder: Path, *, load_scale: float, initial_storage: float) -> StageArrays:
    """Return Bolivia's case, compiled."""
    case = load_case(
        folder / "hydrothermal" / "bolivia",
        stage_hours=168.0,
        load_scale=load_scale,
        initial_storage=initial_storage,
    )
    return compile_stage(case)
