"""What a simulation reports: each policy on common scenarios, beside a reference and a bound."""

from typing import Any

import msgspec


class SimulatedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Say how one policy did. Costs are minimized; figures are means over the scenarios unless they say otherwise.

    Attributes:
        name: ts_ddr, sddp, foresight, …
        mean: cost of the reported stages, without the credit.
        standard_error: of `mean`.
        terminal_credit: expected cost of what comes after the reported stages, by one value function for all policies.
            It is added to a cost before policies are compared, so that none gains by using up what later stages need.
        mean_with_credit: mean + terminal_credit.
        paired_difference, paired_low, paired_high: of the cost with credit to the reference's, on the same scenarios;
            below 0 is cheaper. None where there is no reference.
        paired_percent, paired_percent_low, paired_percent_high: the same in percent of the reference's
            mean_with_credit.
        unpaired_low, unpaired_high: interval of the same difference as if the scenarios had not been common.
        gap_percent: mean_with_credit above the lower bound, in percent of the bound.
        deficit: what was not served.
        violations: by the name of a soft bound, with its unit: how much it was missed by.
        stage_costs: of each reported stage.
        fallbacks: decisions over all scenarios that were not the policy's own.
        recoveries: solves over all scenarios that ended in an optimum on a later rung only, by rung.
        residual: largest error of any equation or bound over all stages and scenarios, as a share of its terms.
        cpu_s: processor time that the simulation of this policy took.
        details: what a domain says beside these; plain values.
    """

    name: str
    mean: float
    standard_error: float | None
    terminal_credit: float
    mean_with_credit: float
    paired_difference: float | None = None
    paired_low: float | None = None
    paired_high: float | None = None
    paired_percent: float | None = None
    paired_percent_low: float | None = None
    paired_percent_high: float | None = None
    unpaired_low: float | None = None
    unpaired_high: float | None = None
    gap_percent: float | None = None
    deficit: float = 0.0
    violations: dict[str, float] = {}
    stage_costs: tuple[float, ...] = ()
    fallbacks: int = 0
    recoveries: dict[str, int] = {}
    residual: float = 0.0
    cpu_s: float = 0.0
    details: dict[str, Any] = {}


class SimulationReport(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the result of a domain's simulation; what does not apply is None.

    Attributes:
        domain: of which domain.
        stages: of the horizon. report_stages: of these, the first ones that are simulated and counted.
        scenarios: number of common scenarios.
        cost_units, deficit_units: of every cost and every deficit below.
        confidence: of every interval.
        reference: name of the policy that the others are compared with.
        lower_bound: no policy's cost with credit has a smaller expectation.
        lower_bound_source: what that bound rests on.
        policies: in the order they were asked for, the reference among them.
        details: what a domain says beside these; plain values.
    """

    domain: str
    stages: int
    report_stages: int
    scenarios: int
    cost_units: str
    deficit_units: str
    confidence: float
    reference: str | None
    lower_bound: float | None = None
    lower_bound_source: str | None = None
    policies: tuple[SimulatedPolicy, ...] = ()
    details: dict[str, Any] = {}
