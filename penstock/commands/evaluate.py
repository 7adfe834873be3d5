"""`penstock evaluate`: say what policies would have earned, from a log of another one."""

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.arguments import bounds, existing, name_and_rest, number

if TYPE_CHECKING:
    from penstock.output import Report
    from policies.evaluation.evaluate import Answer, Judged
    from policies.evaluation.question import Question

HELP = "say what policies would have earned, from a log of another"
DESCRIPTION = """\
Say what policies would have earned, from a log with propensities: value, interval, support and a verdict. A log that
cannot tell is refused, with the reason; that is an answer, not a failure.

REF is an artifact's folder | uniform | logged | columns (p_eval in the log) | table:CSV (columns id, probability and at
most one request field) | table:CSV@FIELD (a matrix: rows are ids, columns FIELD's codes)."""
EXAMPLE = "penstock evaluate demo/feedback.parquet --target learned=demo/artifact --target uniform=uniform"
FORMATS = ("feedback", "obd", "npz", "table")


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the log, the targets and what is possible at most."""
    parser.add_argument("log", metavar="LOG", type=Path, help="the log to evaluate on")
    parser.add_argument("--format", choices=FORMATS, default="feedback", help="what LOG is (default: feedback)")
    parser.add_argument("--spec", metavar="SPEC", type=Path, help="the spec (default: LOG.spec.json beside the log)")
    parser.add_argument(
        "--target", metavar="NAME=REF", action="append", required=True, help="a policy in question; may be repeated"
    )
    parser.add_argument(
        "--reward", metavar="NAME[=WEIGHT]", action="append", default=[],
        help="a reward (repeated: one answer each); with a weight: their weighted sum (default: every reward)",
    )  # fmt: skip
    parser.add_argument("--confidence", metavar="C", default="0.95", help="of the intervals (default: 0.95)")
    parser.add_argument("--clip", metavar="W", default="100", help="where clipped_ips cuts weights (default: 100)")
    parser.add_argument(
        "--weight-bound", metavar="W", help="the largest possible weight (default: by the propensity floor, or the log)"
    )
    parser.add_argument(
        "--reward-bounds", metavar="LOW,HIGH", help="where the spec has none (default: 0,1 if all rewards lie there)"
    )
    parser.add_argument("--reward-model", metavar="FILE.onnx", type=Path, help="for dm and dr (default: ridge)")


def run(arguments: argparse.Namespace) -> "Report":
    """Evaluate and report."""
    from penstock.output import Report
    from policies.evaluation.evaluate import evaluate

    log = existing(arguments.log, what="a log")
    question = _question(arguments)
    answer = evaluate(log, format=arguments.format, spec=arguments.spec, question=question)
    result = {"log": str(log), "estimates": [_plain(one) for one in answer.estimates], "notes": list(answer.notes)}
    return Report(result=result, text=_text(answer))


def _question(arguments: argparse.Namespace) -> "Question":
    from policies.evaluation.question import Question
    from policies.evaluation.targets import Target, parse_reference

    pairs = [name_and_rest(text, flag="--target", form="NAME=REF") for text in arguments.target]
    bound, limits, model = arguments.weight_bound, arguments.reward_bounds, arguments.reward_model
    return Question(
        targets=[Target(name=name, reference=parse_reference(rest)) for name, rest in pairs],
        rewards=[_reward(text) for text in arguments.reward],
        confidence=number(arguments.confidence, flag="--confidence"),
        clip=number(arguments.clip, flag="--clip"),
        weight_bound=None if bound is None else number(bound, flag="--weight-bound"),
        reward_bounds=None if limits is None else bounds(limits, flag="--reward-bounds"),
        reward_model=None if model is None else existing(model, what="a reward model"),
    )


def _reward(text: str) -> tuple[str, float | None]:
    if "=" not in text:
        return text, None
    name, weight = name_and_rest(text, flag="--reward", form="NAME[=WEIGHT]")
    return name, number(weight, flag=f"--reward {name}")


def _plain(judged: "Judged") -> dict[str, Any]:
    import msgspec

    return {
        "target": judged.target,
        "estimator": judged.estimator,
        "reward": judged.reward,
        **msgspec.structs.asdict(judged.estimate),
        "weight_bound": judged.weight_bound.value,
        "weight_bound_source": judged.weight_bound.source,
        "reward_low": judged.reward_bounds.low,
        "reward_high": judged.reward_bounds.high,
        "better_than_log": judged.better_than_log,
    }


def _text(answer: "Answer") -> list[Any]:
    from penstock.output import Table

    rows: list[tuple[str, ...]] = []
    remarks: list[str] = []
    for (target, reward), group in groupby(answer.estimates, key=lambda one: (one.target, one.reward)):
        members = list(group)
        rows += _rows(members)
        remarks += _remarks(target, reward, members)
    numbers = frozenset({"value", "interval", "effective units", "largest weight"})
    columns = ("target", "reward", "estimator", "value", "interval", "effective units", "largest weight", "verdict")
    return [Table(columns=columns, rows=rows, numbers=numbers), *remarks, *answer.notes]


def _rows(members: Sequence["Judged"]) -> list[tuple[str, ...]]:
    """Return one row per estimator; what a group of them shares stands in its first row only."""
    from penstock.output import short

    rows: list[tuple[str, ...]] = []
    shown: set[tuple[float, float]] = set()
    for place, one in enumerate(members):
        found = one.estimate
        ends = (found.low, found.high)
        interval = "" if ends in shown else f"[{short(found.low)}, {short(found.high)}]"
        shown.add(ends)
        names = (one.target, one.reward) if place == 0 else ("", "")
        support = (short(found.effective_units), short(found.largest_weight), found.verdict)
        rows.append((*names, one.estimator, short(found.value), interval, *(support if place == 0 else ("", "", ""))))
    return rows


def _remarks(target: str, reward: str, members: Sequence["Judged"]) -> list[str]:
    first = members[0].estimate
    lines = [f"{target} ({reward}): {first.verdict}: {first.reason}"]
    if not members[0].is_log:
        better = [one.estimator for one in members if one.better_than_log]
        lines.append(
            f"{target} ({reward}): better than the log by {', '.join(better)}"
            if better
            else f"{target} ({reward}): not shown to be better than the log"
        )
    return lines
