"""How the demo tells: rows of estimates that a person reads at a glance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.output import Table, short
from policies.evaluation.evaluate import Answer, Judged, evaluate
from policies.evaluation.question import Question
from policies.evaluation.targets import Target, parse_reference

COLUMNS = ("policy", "value", "95 % interval", "effective units", "largest weight", "verdict")


def judge(log: Path, targets: Mapping[str, str], *, spec: Path | None = None, file_format: Any = "feedback") -> Answer:
    """Evaluate named references on a log."""
    named = [Target(name=name, reference=parse_reference(reference)) for name, reference in targets.items()]
    return evaluate(log, format=file_format, spec=spec, question=Question(targets=named))


def pick(answer: Answer, target: str, estimator: str) -> Judged:
    """Return one estimate of an answer."""
    return next(one for one in answer.estimates if (one.target, one.estimator) == (target, estimator))


def table(answer: Answer, *, estimator: str, names: Mapping[str, str] | None = None) -> Table:
    """Return one row per policy, by one estimator; for the log's own policy, whose weights are one, IPS is the mean."""
    chosen = [one for one in answer.estimates if one.estimator == ("ips" if one.is_log else estimator)]
    rows = [_row(one, (names or {}).get(one.target, one.target)) for one in chosen]
    return Table(columns=COLUMNS, rows=rows, numbers=frozenset(COLUMNS[1:-1]))


def plain(answer: Answer, estimators: Sequence[str]) -> list[dict[str, Any]]:
    """Return estimates as JSON has them."""
    return [
        {"target": one.target, "estimator": one.estimator, **msgspec.structs.asdict(one.estimate)}
        for one in answer.estimates
        if one.estimator in estimators
    ]


def interval(judged: Judged) -> str:
    """Return an interval as text."""
    return f"[{short(judged.estimate.low)}, {short(judged.estimate.high)}]"


def _row(one: Judged, name: str) -> tuple[str, ...]:
    found = one.estimate
    support = (short(found.effective_units), short(found.largest_weight))
    return (name, short(found.value), interval(one), *support, found.verdict)
