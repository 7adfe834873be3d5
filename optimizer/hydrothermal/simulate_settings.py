"""What can be set for the simulation of hydrothermal dispatch; apart, so that its help does not wait for Pyomo."""

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say which policies are simulated, and on what.

    Attributes:
        cuts: file of SDDP's cuts, as `penstock baseline --cuts-out` writes it: the policy that others are compared
            with, and the value of the water left that is credited to all.
        case: folder of the case, of HydroPowerModels or of msppy.
        stages: stages of the horizon, of which the last asks for the final volumes.
        stage_hours: hours of a stage; never guessed, and it must agree with what the case's files say.
        artifact: folder of a trained policy; none: SDDP and perfect foresight alone.
        load_scale: what every load is multiplied by.
        initial_storage: fraction of the largest volume that every reservoir starts with, in [0, 1]; none: as the files
            say.
        report_stages: how many of the first stages are simulated and counted, before the water left is credited; none:
            all.
        scenario_indices: CSV of scenario numbers without a header, counted from 1, rows are stages and columns are
            scenarios; none: drawn.
        scenario_inflows: CSV of the scenarios' inflows themselves, for any case: no header, rows are stages, a block of
            columns for each plant with a column for each scenario, in the case's unit of flow; not with
            `scenario_indices`.
        scenarios: number of scenarios that are drawn where no table is given.
        seed: of that draw.
        other_cuts: further SDDP policies beside the reference, as NAME=FILE.
        greedy: whether a policy that never looks ahead is simulated too.
        confidence: mass of every interval, in (0, 1).
        report: file of a report with charts, HTML in one file; none: no report.
        requests_out: file for the requests that the first scenario makes, JSON lines for `penstock decide`; none: no
            requests.
    """

    cuts: str
    case: str
    stages: int
    stage_hours: float
    artifact: str | None = None
    load_scale: float = 1.0
    initial_storage: float | None = None
    report_stages: int | None = None
    scenario_indices: str | None = None
    scenario_inflows: str | None = None
    scenarios: int = 100
    seed: int = 0
    other_cuts: tuple[str, ...] = ()
    greedy: bool = False
    confidence: float = 0.95
    report: str | None = None
    requests_out: str | None = None

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise ValueError(f"stages must be at least 1, found {self.stages}")
        if self.report_stages is not None and not 1 <= self.report_stages <= self.stages:
            raise ValueError(f"report_stages must lie in 1 to {self.stages}, found {self.report_stages}")
        if self.scenario_indices is not None and self.scenario_inflows is not None:
            raise ValueError("scenario_indices and scenario_inflows are two tables of the same scenarios: give one")
        if self.scenarios < 1:
            raise ValueError(f"scenarios must be at least 1, found {self.scenarios}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie in (0, 1), found {self.confidence}")
        if self.requests_out is not None and self.artifact is None:
            raise ValueError("requests_out needs an artifact: requests are made for its spec")

    @property
    def reported(self) -> int:
        """Return the number of stages that are simulated and counted."""
        return self.stages if self.report_stages is None else self.report_stages
