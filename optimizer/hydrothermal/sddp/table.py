"""The table of a training, in the manner of SDDP.jl: the problem, its numbers, iterations, how it ended."""

from collections.abc import Sequence
from math import log10
from typing import Final

from optimizer.hydrothermal.sddp.numerical import LARGE, SMALL, Range
from optimizer.hydrothermal.sddp.run import Run
from optimizer.hydrothermal.sddp.train import Iteration, Trainer

_RULE: Final = "-" * 70
_SHOWN_EACH: Final = 10  # the first iterations are all shown, then every tenth, then every hundredth


def head_lines(trainer: Trainer, *, ranges: Sequence[Range]) -> list[str]:
    """Return what is solved: statistics of the problem, how it is solved, and the numerical report."""
    program, risk = trainer.arrays.program, trainer.training.risk
    choices = [one.probability.size for one in trainer.noise.stages]
    states = "volumes and inflows" if trainer.noise.has_memory else "volumes"
    measure = "expectation" if risk.is_neutral else _measure(risk.expectation_weight, risk.tail_share)
    return [
        _RULE,
        "problem",
        f"  stages          : {trainer.stages}",
        f"  state variables : {trainer.dimension} ({states})",
        f"  noises          : {min(choices)} to {max(choices)} of a stage, 10^{sum(map(log10, choices)):.1f} paths",
        f"  stage program   : {program.cost.size + 1} columns, {program.row_lower.size} rows, "
        f"{program.matrix.data.size} nonzeros",
        "options",
        f"  risk measure    : {measure}",
        f"  forward paths   : {trainer.training.paths} of an iteration, seed {trainer.training.seed}",
        "  cuts            : single cut, Level-1 selection",
        "numerical stability report",
        *(_range_line(one) for one in ranges),
    ]


def iteration_lines(rows: Sequence[Iteration]) -> list[str]:
    """Return the rows of the iterations that are shown."""
    return [
        _RULE,
        f"{'iteration':>10}{'simulation':>15}{'bound':>15}{'time (s)':>13}{'solves':>11}{'pid':>5}",
        _RULE,
        *(
            f"{row.number:>10}{row.simulation:>15.6e}{row.bound:>15.6e}{row.cpu_s:>13.4e}{row.solves:>11}{1:>5}"
            for row in rows
            if _is_shown(row.number) or row is rows[-1]
        ),
    ]


def foot_lines(
    run: Run,
    trainer: Trainer,
    *,
    ranges: Sequence[Range],
    simulation: str,
    choices: str | None = None,
    foresight: str | None = None,
) -> list[str]:
    """Return how a training ended; `simulation` and `foresight` say what is to be paid on other paths.

    `choices` says what is to be paid where inflows are those that training reduced the case's law to.
    """
    recoveries = ", ".join(f"{name} {count}" for name, count in sorted(trainer.recoveries.items()))
    label = "best bound" if trainer.training.risk.is_neutral else "best bound, risk-adjusted"
    lines = [
        _RULE,
        f"status         : {run.status}",
        f"CPU time (s)   : {run.rows[-1].cpu_s:.4e}",
        f"solves         : {run.rows[-1].solves}",
        f"cuts held      : {trainer.cuts_held}",
        f"{label:<15}: {run.bound:.8e}",
        f"simulation     : {simulation}",
        *([] if choices is None else [f"reduced law    : {choices}"]),
        *([] if foresight is None else [f"foresight      : {foresight}"]),
        f"numeric issues : {sum(one.is_issue for one in ranges)}",
        f"recoveries     : {recoveries or 'none'}",
    ]
    if not trainer.training.risk.is_neutral:
        lines.append("The bound is of the nested risk measure: it does not bound the simulated mean.")
    return [*lines, _RULE]


def _measure(expectation_weight: float, tail_share: float) -> str:
    return (
        f"{expectation_weight:g} E + {1 - expectation_weight:g} AVaR({tail_share:g}), nested, from the first stage on"
    )


def _range_line(one: Range) -> str:
    mark = f"   OUTSIDE [{SMALL:.0e}, {LARGE:.0e}]" if one.is_issue else ""
    return f"  {one.what:<16}[{one.least:.0e}, {one.most:.0e}]  {one.least_at} .. {one.most_at}{mark}"


def _is_shown(number: int) -> bool:
    return number <= _SHOWN_EACH or number % (_SHOWN_EACH if number <= _SHOWN_EACH**2 else _SHOWN_EACH**2) == 0
