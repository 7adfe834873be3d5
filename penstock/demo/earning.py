"""First story: a policy that earns its place. Full information, so the truth is known and can be held against it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from optimizer.logged_bandit.recipe import train
from optimizer.logged_bandit.settings import Settings
from optimizer.training.progress import Progress
from optimizer.training.report import TrainReport
from penstock.demo.stand import Stand
from penstock.demo.telling import interval, judge, pick, plain, table
from penstock.output import Table, short
from policies.artifact import load_artifact
from policies.evaluation.evaluate import Judged
from policies.events import to_bytes
from policies.feedback import write_feedback
from policies.importers.classification import LabelledSet, fit_logger, read_labelled, split_rows
from policies.importers.samples import labelled_sample
from policies.log import Places
from policies.spec import spec_to_bytes
from serving.catalogue import lineup_of
from serving.verify import verify

SHARES = (0.05, 0.35, 0.2, 0.4)
"""Rows that the logging policy was fitted on, that are learned from, that judge, and that are served."""

OBJECTIVES = ("ips", "dr")
FLOOR = 0.02
"""The exploration floor of what is learned: lower than the log's, for exploring costs what it is worth."""

ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Hold a story's text and what it says in JSON."""

    text: list[str | Table]
    result: dict[str, Any]


def tell(*, data: Path | None, folder: Path, seed: int, progress: Progress) -> Told:
    """Run the ring once: log, learn, judge, serve, join, judge again; leave its files in the folder."""
    labelled, source = _labelled(data, seed)
    fitted, learned_from, judged_on, served = split_rows(len(labelled), shares=SHARES)
    logger = fit_logger(labelled, fitted)
    log, test = folder / "log.parquet", folder / "log.test.parquet"
    (folder / "log.spec.json").write_bytes(spec_to_bytes(labelled.spec))
    write_feedback(labelled.as_feedback(learned_from, logger), log)
    write_feedback(labelled.as_feedback(judged_on, logger), test)
    reports = {name: _train(name, log, folder, seed, progress) for name in OBJECTIVES}
    chosen = max(reports, key=lambda name: reports[name].held_out.low)
    _publish(folder / chosen, folder / "artifact")
    targets = {name: str(folder / name) for name in OBJECTIVES}
    answer = judge(test, {"uniform": "uniform", **targets}, spec=folder / "log.spec.json")
    predicted = pick(answer, chosen, "dr")
    names = {name: f"learned ({name})" for name in OBJECTIVES} | {"logged": "the log's own"}
    opening: list[str | Table] = [
        f"1. A policy that earns its place: {source}.",
        f"   A logging policy took {len(learned_from):,} decisions to learn from and {len(judged_on):,} to judge by.",
        table(answer, estimator="dr", names=names),
        f"   Chosen on held-out rows of the training log: learned ({chosen}). What it is worth, before it runs:",
        f"   predicted {short(predicted.estimate.value)} {interval(predicted)}, verdict {predicted.estimate.verdict}"
        f"{', better than the log' if predicted.better_than_log else ''}.",
    ]
    served_story = _serve(labelled, served, folder)
    closing, again = _close_the_ring(labelled, served, folder, predicted)
    result = {
        "source": source,
        "chosen": chosen,
        "before": plain(answer, ["ips", "snips", "dr"]),
        "predicted": msgspec.structs.asdict(predicted.estimate),
        **served_story.result,
        **again,
    }
    return Told(text=[*opening, *served_story.text, *closing], result=result)


def _labelled(data: Path | None, seed: int) -> tuple[LabelledSet, str]:
    path = None if data is None else data / "uci" / "pendigits.data"
    bound_share = SHARES[0] + SHARES[1]
    if path is None or not path.exists():
        return labelled_sample(seed=seed, bound_share=bound_share), "a generated sample (no shared data was found)"
    return read_labelled(path, seed=seed, bound_share=bound_share), "UCI pendigits as a bandit"


def _train(name: str, log: Path, folder: Path, seed: int, progress: Progress) -> TrainReport:
    settings = Settings(objective=name, seed=seed, floor=FLOOR)  # type: ignore[arg-type]
    return train(log, spec=None, out=folder / name, settings=settings, progress=progress)


def _publish(source: Path, target: Path) -> None:
    """Copy an artifact's files to the folder that the next commands name."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.iterdir():
        old.unlink()
    for path in sorted(source.iterdir()):
        (target / path.name).write_bytes(path.read_bytes())


def _serve(labelled: LabelledSet, rows: Places, folder: Path) -> Told:
    """Serve unseen requests through the pipeline, joining outcomes as they come."""
    artifact = load_artifact(folder / "artifact")
    stand = Stand(artifact, world=lambda decision: labelled.outcomes([decision])[0])
    lines: list[str | Table] = [
        f"   Served in memory through receive, decide, record, join; metrics at http://127.0.0.1:{stand.port}/metrics",
    ]
    try:
        for number, part in enumerate(np.array_split(rows, ROUNDS), start=1):
            running = stand.serve([to_bytes(request) for request in labelled.requests(part)])
            lines.append(_running(number, stand, running))
        samples = [line for line in stand.metrics().splitlines() if line.startswith("penstock_results_total{")]
        lines += [f"   metric {line}" for line in samples]
        stand.leave(folder)
        feedback = stand.feedback()
        write_feedback(feedback, folder / "feedback.parquet")
        (folder / "feedback.spec.json").write_bytes(spec_to_bytes(artifact.spec))
        decisions = (folder / "decisions.jsonl").read_bytes().splitlines()
        found = verify(decisions, lineups=[lineup_of(artifact)])
    finally:
        stand.close()
    lines.append(f"   verify: {found.bitwise:,} of {found.decisions:,} decisions recomputed bit for bit.")
    said = {"served": len(rows), "verified_bitwise": found.bitwise, "artifact": artifact.identity}
    return Told(text=lines, result=said)


def _running(number: int, stand: Stand, running: dict[str, Any] | None) -> str:
    count = len(stand.decisions())
    if running is None or running["estimate"] is None:
        return f"   round {number}: {count:,} decisions, no estimate yet"
    found = running["estimate"]
    value, low, high = short(found["value"]), short(found["low"]), short(found["high"])
    return f"   round {number}: {count:,} decisions, running estimate {value} [{low}, {high}]"


def _close_the_ring(
    labelled: LabelledSet, rows: Places, folder: Path, predicted: Judged
) -> tuple[list[str | Table], dict[str, Any]]:
    """Judge the log that serving has made: what was realized, and what the others would have earned on it."""
    targets = {"learned": str(folder / "artifact"), "uniform": "uniform"}
    answer = judge(folder / "feedback.parquet", targets)
    realized = pick(answer, "logged", "ips")
    truth = labelled.value(rows, load_artifact(folder / "artifact").policy)
    value, promised = realized.estimate.value, predicted.estimate
    holds = "inside" if value is not None and promised.low <= value <= promised.high else "outside"
    text: list[str | Table] = [
        Table(
            columns=("", "value", "95 % interval"),
            rows=[
                ("predicted before deployment", short(promised.value), interval(predicted)),
                ("realized after serving", short(value), interval(realized)),
                ("truth (full information)", short(truth), ""),
            ],
            numbers=frozenset({"value", "95 % interval"}),
        ),
        f"   The realized value lies {holds} the predicted interval. The new log is evaluated, and the ring closes:",
        table(answer, estimator="ips", names={"logged": "the log's own"}),
    ]
    result = {
        "realized": msgspec.structs.asdict(realized.estimate),
        "truth": truth,
        "realized_inside_predicted": holds == "inside",
        "after": plain(answer, ["ips", "snips"]),
    }
    return text, result
