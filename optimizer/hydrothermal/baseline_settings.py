"""What can be set for the baseline of hydrothermal dispatch; apart, so that its help does not wait for Pyomo."""

from typing import Literal

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which case is solved, over which horizon, and how SDDP goes about it where nature has a choice.

    Attributes:
        case: folder of the case, of HydroPowerModels or of msppy.
        stages: stages of the horizon, of which the last asks for the final volumes.
        stage_hours: hours of a stage; never guessed, and it must agree with what the case's files say.
        load_scale: what every load is multiplied by.
        initial_storage: fraction of the largest volume that every reservoir starts with, in [0, 1]; none: as the files
            say.
        iterations: SDDP's iterations at most; it also ends when the bound stands still.
        cpu_minutes: no iteration begins after so many CPU minutes; none: no limit.
        stall_iterations: iterations over which the bound is compared with itself to see it stand still; 0: never.
        stall_change: share of the bound below which it stands still over those iterations.
        seed: of all draws, of training and of simulated paths.
        paths: paths going forward in an iteration.
        expectation_weight: weight of the mean in the risk measure, λ of λ E + (1 − λ) AVaR.
        tail_share: share of the worst outcomes that AVaR takes the mean of; 1 is the mean, 0 the worst case.
        inflow_model: of a case with an autoregression: its inflows as states, or each stage's law by itself.
        noises: equally likely choices that a stage's law of an autoregression is reduced to for training.
        simulations: fresh paths that the policy is simulated on.
        scenario_indices: CSV of scenario numbers to simulate: no header, from 1, rows are stages, columns are paths.
        scenario_inflows: CSV of inflows to simulate, for any case: no header, rows are stages, a block of columns for
            each plant with a column for each path, in the case's unit of flow; not with `scenario_indices`.
        report_stages: stages from the first on whose costs are reported; none: all.
        foresight: also report the mean cost with perfect foresight on the same paths.
        cuts: JSON file of cuts to go on from, in SDDP.jl's schema.
        cuts_out: JSON file that the cuts are written to.
        checkpoint: file that the training is kept in as it goes, and resumed from when it is there.
    """

    case: str
    stages: int
    stage_hours: float
    load_scale: float = 1.0
    initial_storage: float | None = None
    iterations: int = 1000
    cpu_minutes: float | None = None
    stall_iterations: int = 100
    stall_change: float = 1e-4
    seed: int = 0
    paths: int = 1
    expectation_weight: float = 1.0
    tail_share: float = 1.0
    inflow_model: Literal["autoregressive", "independent"] = "autoregressive"
    noises: int = 30
    simulations: int = 500
    scenario_indices: str | None = None
    scenario_inflows: str | None = None
    report_stages: int | None = None
    foresight: bool = False
    cuts: str | None = None
    cuts_out: str | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        for name in ("stages", "iterations", "paths", "noises", "simulations"):
            _check_least(name, getattr(self, name), 1)
        for name in ("stall_iterations", "stall_change", "seed"):
            _check_least(name, getattr(self, name), 0)
        if self.cpu_minutes is not None and not self.cpu_minutes > 0:
            raise ValueError(f"cpu_minutes must be above 0, found {self.cpu_minutes:g}")
        for name in ("expectation_weight", "tail_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], found {getattr(self, name):g}")
        if self.scenario_indices is not None and self.scenario_inflows is not None:
            raise ValueError("scenario_indices and scenario_inflows are two tables of the same paths: give one")
        if self.report_stages is not None and not 1 <= self.report_stages <= self.stages:
            raise ValueError(f"report_stages must be from 1 to stages ({self.stages}), found {self.report_stages}")


def _check_least(name: str, value: float, least: int) -> None:
    if not value >= least:
        raise ValueError(f"{name} must be at least {least}, found {value:g}")
