"""Second story: honesty when the log cannot tell. A dozen clicks show nothing better; starved actions are refused."""

from pathlib import Path
from typing import Any

import numpy as np

from optimizer.logged_bandit.recipe import train
from optimizer.logged_bandit.settings import Settings
from optimizer.training.progress import Progress
from penstock.demo.earning import Told
from penstock.demo.telling import judge, pick, plain, table
from penstock.output import Table
from policies.feedback import Feedback, read_feedback
from policies.importers.importing import import_log, write_import
from policies.importers.samples import click_sample, starved_sample
from policies.spec import PolicySpec

TRAIN_SHARE = 0.8


def tell(*, data: Path | None, folder: Path, seed: int, progress: Progress) -> Told:
    """Learn on the first four fifths of a log of rare clicks, judge on the last; then show a refusal."""
    clicks, table_reference, rival, starved, source = _logs(data, folder, seed)
    written = write_import(clicks, out=folder / "clicks.parquet", train_share=TRAIN_SHARE)
    assert written.train is not None
    assert written.test is not None
    settings = Settings(seed=seed)
    train(written.train, spec=None, out=folder / "clicks-learned", settings=settings, progress=progress)
    targets = {"uniform": "uniform", "learned": str(folder / "clicks-learned"), "table": table_reference}
    answer = judge(written.test, targets)
    better = sorted({one.target for one in answer.estimates if one.better_than_log})
    refused = write_import(starved, out=folder / "starved.parquet")
    second = judge(refused.log, {"uniform": "uniform"})
    refusal = pick(second, "uniform", "snips").estimate
    said = f"shown to be better than the log: {', '.join(better)}" if better else "nothing is shown to be better"
    text: list[str | Table] = [
        f"2. Honesty when the log cannot tell: {source}.",
        f"   Learned on the first {written.train_row_count:,} rows by time, judged on the last "
        f"{written.test_row_count:,}, which hold {_clicks(written.test, spec=clicks.spec)} clicks:",
        table(answer, estimator="snips", names={"logged": "the log's own", "table": rival}),
        f"   By these clicks {said} than the policy that wrote the log." if not better else f"   {said}.",
        "   And where a log starves some actions, uniform is asked of it:",
        table(second, estimator="snips", names={"logged": "the log's own"}),
        f"   {refusal.verdict}: {refusal.reason}",
    ]
    result: dict[str, Any] = {
        "source": source,
        "estimates": plain(answer, ["ips", "snips", "dr"]),
        "better_than_log": better,
        "refusal": {"verdict": refusal.verdict, "reason": refusal.reason, "effective_units": refusal.effective_units},
    }
    return Told(text=text, result=result)


def _logs(data: Path | None, folder: Path, seed: int) -> tuple[Feedback, str, str, Feedback, str]:
    """Return the log of rare clicks, a greedier policy's table and name, the starved log, and their source."""
    root = None if data is None else data / "open_bandit"
    if root is None or not root.is_dir():
        sample = click_sample(seed=seed)
        path = folder / "greedy.csv"
        np.savetxt(path, sample.table.T, delimiter=",", header="p(item | position)")
        source = "generated samples (no shared data was found)"
        return sample.feedback, f"table:{path}@position", "a greedier one", starved_sample(seed=seed).feedback, source
    table_path = next(iter(sorted(root.glob("bts_action_dist_men_*.csv"))))
    clicks = import_log(root / "random" / "men", format="obd", train_share=TRAIN_SHARE)
    starved = import_log(root / "bts" / "women", format="obd")
    source = "Open Bandit sample, men (uniform log) and women (BernoulliTS log)"
    return clicks, f"table:{table_path}@position", "BernoulliTS", starved, source


def _clicks(log: Path, *, spec: PolicySpec) -> int:
    return int(np.nansum(read_feedback(log, spec=spec).rewards["click"]))
