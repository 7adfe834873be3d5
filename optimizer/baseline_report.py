"""What a baseline reports: what it costs, what bounds it, and what of that is exact."""

from typing import Any

import msgspec


class BaselineReport(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the result of a domain's baseline; what does not apply is None.

    Attributes:
        domain, method: of which domain, and how it was found.
        stages: number of decisions that are counted.
        cost_units: of every cost below.
        objective: the least cost, where nature has one choice at every stage.
        lower_bound: no policy costs less in the mean.
        simulated_mean: mean cost of the baseline's own policy over simulated paths.
        standard_error: of that mean; 0 where it is exact.
        stage_costs: mean cost of each stage, of the same paths.
        details: what a domain says beside these; plain values.
        log: lines that tell how it was found, to be read before the figures.
    """

    domain: str
    method: str
    stages: int
    cost_units: str
    objective: float | None = None
    lower_bound: float | None = None
    simulated_mean: float | None = None
    standard_error: float | None = None
    stage_costs: tuple[float, ...] = ()
    details: dict[str, Any] = {}
    log: tuple[str, ...] = ()
