"""How often 95 % intervals hold the truth, and how wide they are: ours, obp's bootstrap and the normal interval.

First a grid of four bandits of 40 contexts and 20 actions (overlap good or poor, rewards common or rare), logs of 1,000
rows, ours with the largest possible weight as its bound; dr's predictions are mean rewards by context and action in a
log of its own. The intervals are those before the verdict; what would be refused stands beside. Then labelled sets
turned into bandits, through `penstock evaluate` (bench/relogged.py); there a refused interval is all of [0, 1].

    python -m bench.coverage [--repetitions R] [--relogged R] [--resamples B] [--skip-peers] [--json]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.children import run_child
from bench.estimates import find_peer
from bench.relogged import CASES, ask, draw_log, labelled_sets, population, target_of
from policies.errors import Unable
from policies.evaluation.bounds import RewardBounds
from policies.evaluation.estimators import error_of_ratio, estimate
from policies.evaluation.intervals import Interval, corrected_interval, weighted_interval
from policies.evaluation.scored import Scored
from policies.evaluation.sums import Sums
from tests.helpers.bandit_logs import ACTIONS, CONTEXTS, GRID, World

LOG_ROWS: Final = 1_000
NORMAL_QUANTILE: Final = 1.959964
_PRIOR_ROWS: Final = 2
REWARD: Final = RewardBounds(0.0, 1.0)
LABELS: Final = {
    "ours ips, snips": "ours: ips, clipped ips, snips",
    "ours dm, dr": "ours: dm, dr",
    "obp ips": "obp bootstrap: ips",
    "obp snips": "obp bootstrap: snips",
    "obp dr": "obp bootstrap: dr",
    "normal ips": "normal: ips",
    "normal snips": "normal: snips (delta method)",
    "normal dr": "normal: dr",
}

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Logs:
    """Hold R logs of N rows: context and action int64, reward float64 [R, N]; the model's rewards [R, C, A]."""

    context: NDArray[np.int64]
    action: NDArray[np.int64]
    reward: Array
    model: Array


def draw_logs(world: World, repetitions: int, *, seed: int) -> Logs:
    """Draw logs, each with a model fitted on another log."""
    generator = np.random.default_rng(seed)
    logs = [_draw(world, generator) for _ in range(repetitions)]
    models = [_cell_means(*_draw(world, generator)) for _ in range(repetitions)]
    context, action, reward = (np.array(column) for column in zip(*logs, strict=True))
    return Logs(context=context, action=action, reward=reward, model=np.array(models))


def _draw(world: World, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    context = generator.integers(CONTEXTS, size=LOG_ROWS)
    below = world.logging.cumsum(axis=1)[context] <= generator.random(LOG_ROWS)[:, None]
    action = below.sum(axis=1).clip(max=ACTIONS - 1)
    return context, action, (generator.random(LOG_ROWS) < world.reward[context, action]).astype(np.float64)


def _cell_means(context: NDArray[np.int64], action: NDArray[np.int64], reward: Array) -> Array:
    """Return mean rewards [C, A], drawn by _PRIOR_ROWS to those of the action, which are drawn to the overall mean."""
    cell, shape = context * ACTIONS + action, (CONTEXTS, ACTIONS)
    counts = np.bincount(cell, minlength=CONTEXTS * ACTIONS).reshape(shape)
    totals = np.bincount(cell, reward, CONTEXTS * ACTIONS).reshape(shape)
    by_action = (totals.sum(axis=0) + _PRIOR_ROWS * reward.mean()) / (counts.sum(axis=0) + _PRIOR_ROWS)
    result: Array = (totals + _PRIOR_ROWS * by_action) / (counts + _PRIOR_ROWS)
    return result


def own_intervals(world: World, logs: Logs) -> tuple[dict[str, list[Interval]], dict[str, list[str]]]:
    """Return ours and the normal ones by label, and the verdicts of both groups of ours."""
    found: dict[str, list[Interval]] = {label: [] for label in LABELS if not label.startswith("obp")}
    verdicts: dict[str, list[str]] = {"ours ips, snips": [], "ours dm, dr": []}
    for scored in _scored(world, logs):
        sums, bound = Sums.empty().add(scored), world.weight_bound
        group = {"confidence": 0.95, "weight_bound": bound}
        found["ours ips, snips"].append(weighted_interval(sums, reward=REWARD, **group))
        found["ours dm, dr"].append(corrected_interval(sums, reward=REWARD, **group))
        judged = estimate(sums, reward_low=0.0, reward_high=1.0, estimators=["ips", "dr"], weight_bound=bound)
        verdicts["ours ips, snips"].append(judged["ips"].verdict)
        verdicts["ours dm, dr"].append(judged["dr"].verdict)
        for name, interval in _normal(scored).items():
            found[f"normal {name}"].append(interval)
    return found, verdicts


def _scored(world: World, logs: Logs) -> Iterable[Scored]:
    for context, action, reward, model in zip(logs.context, logs.action, logs.reward, logs.model, strict=True):
        yield Scored(
            reward=reward,
            propensity=world.logging[context, action],
            target=world.target[context, action],
            q_logged=model[context, action],
            q_target=(world.target * model).sum(axis=1)[context],
        )


def _normal(scored: Scored) -> dict[str, Interval]:
    assert scored.q_logged is not None
    assert scored.q_target is not None
    weight, ones = scored.weight, np.ones(len(scored))
    corrected = scored.q_target + weight * (scored.reward - scored.q_logged)
    pairs = {"ips": (weight * scored.reward, ones), "snips": (weight * scored.reward, weight), "dr": (corrected, ones)}
    return {name: _around_ratio(y, x) for name, (y, x) in pairs.items()}


def _around_ratio(y: Array, x: Array) -> Interval:
    error = error_of_ratio(len(y), y=y.sum(), x=x.sum(), yy=float(y @ y), xy=float(x @ y), xx=float(x @ x))
    assert error is not None
    value = float(y.sum() / x.sum())
    return Interval(value - NORMAL_QUANTILE * error, value + NORMAL_QUANTILE * error)


def peer_intervals(world: World, logs: Logs, *, peer: Path, resamples: int) -> dict[str, list[Interval]]:
    """Return obp's by label."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "logs.npz"
        columns = {name: getattr(logs, name) for name in ("context", "action", "reward", "model")}
        np.savez(file, logging=world.logging, target=world.target, **columns)
        words = ["-W", "ignore", "-m", "bench.peers.obp_coverage", str(file), "--resamples", str(resamples)]
        document = run_child([peer, *words]).document
    return {f"obp {name}": [Interval(*ends) for ends in found] for name, found in document.items()}


def summarize(intervals: Sequence[Interval], *, truth: float, verdicts: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the share that holds the truth, its standard error, and the mean width."""
    low, high = np.array(intervals).T
    held = (low <= truth) & (truth <= high)
    summary: dict[str, Any] = {
        "coverage": float(held.mean()),
        "coverage_error": float(np.sqrt(max(held.mean() * (1 - held.mean()), 1 / len(held) ** 2) / len(held))),
        "width": float((high - low).mean()),
    }
    if verdicts is not None:
        kept = np.array(verdicts) != "refuse"
        summary["refused"] = float(1 - kept.mean())
        summary["coverage_of_kept"] = float(held[kept].mean()) if kept.any() else None
    return summary


def measure_grid(*, repetitions: int, peer: Path | None, resamples: int, seed: int = 0) -> list[dict[str, Any]]:
    """Measure the grid: one row per bandit."""
    rows = []
    for place, (name, world) in enumerate(GRID.items()):
        logs = draw_logs(world, repetitions, seed=seed + place)
        found, verdicts = own_intervals(world, logs)
        if peer is not None:
            found |= peer_intervals(world, logs, peer=peer, resamples=resamples)
        summaries = {
            label: summarize(found[label], truth=world.value, verdicts=verdicts.get(label))
            for label in LABELS
            if label in found
        }
        rows.append({"bandit": name, "value": world.value, "weight_bound": world.weight_bound, "intervals": summaries})
    return rows


def measure_relogged(*, repetitions: int, seed: int = 0) -> list[dict[str, Any]]:
    """Measure labelled sets through the command: one row per set and case."""
    rows = []
    for name, features, labels in labelled_sets(seed):
        people = population(features, labels, generator=np.random.default_rng(seed))
        for place, case in enumerate(CASES):
            # The two cases of units ask about the same logs.
            generator = np.random.default_rng([seed, min(place, CASES.index("units"))])
            told = [
                ask(draw_log(people, case, generator=generator), weight_bound=people.weight_bound)
                for _ in range(repetitions)
            ]
            truth = people.truth(target_of(case))
            rows.append({"set": name, "case": case, "value": truth, **_relogged_summary(told, truth)})
    return rows


def _relogged_summary(told: list[dict[str, dict[str, Any]]], truth: float) -> dict[str, Any]:
    summaries: dict[str, Any] = {"effective_units": float(np.mean([one["ips"]["effective_units"] for one in told]))}
    for label, name in (("ours ips, snips", "ips"), ("ours dm, dr", "dr")):
        ends = [Interval(one[name]["low"], one[name]["high"]) for one in told]
        summaries[label] = summarize(ends, truth=truth, verdicts=[one[name]["verdict"] for one in told])
    return summaries


def show(document: dict[str, Any]) -> None:
    """Print both tables."""
    _show_grid(document["grid"], document["repetitions"])
    _show_relogged(document["relogged"], document["relogged_repetitions"])


def _show_grid(rows: list[dict[str, Any]], repetitions: int) -> None:
    print(f"95 % intervals: coverage % (mean width as a multiple of the value), {repetitions} logs of 1,000 rows each")
    print(f"{'':<30}" + "".join(f"{name:>17}" for name in (*list(GRID)[:3], "both")))
    print(f"{'value':<30}" + "".join(f"{row['value']:>17.4f}" for row in rows))
    print(f"{'largest possible weight':<30}" + "".join(f"{row['weight_bound']:>17.1f}" for row in rows))
    for label in rows[0]["intervals"]:
        shown = [(row["intervals"][label], row["value"]) for row in rows]
        texts = [f"{100 * one['coverage']:.1f} ({one['width'] / value:.2f})" for one, value in shown]
        print(f"{LABELS[label]:<30}" + "".join(f"{text:>17}" for text in texts))
    refused = [100 * row["intervals"]["ours ips, snips"]["refused"] for row in rows]
    print(f"{'ours: refused by the verdict':<30}" + "".join(f"{share:>15.1f} %" for share in refused))


def _show_relogged(rows: list[dict[str, Any]], repetitions: int) -> None:
    print(f"\nthrough penstock evaluate: coverage % (mean width in [0, 1]), {repetitions} logs of 1,000 rows each")
    print(f"{'set':<11}{'target':<15}{'value':>7}{'eff. units':>12}{'refused':>10}{'ips, snips':>17}{'dm, dr':>17}")
    for row in rows:
        pair = [row["ours ips, snips"], row["ours dm, dr"]]
        texts = [f"{100 * one['coverage']:.1f} ({one['width']:.3f})" for one in pair]
        print(
            f"{row['set']:<11}{row['case']:<15}{row['value']:>7.3f}{row['effective_units']:>12.0f}"
            f"{100 * pair[0]['refused']:>8.1f} %" + "".join(f"{text:>17}" for text in texts)
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=300, help="logs per bandit of the grid (default: 300)")
    parser.add_argument("--relogged", type=int, default=200, help="logs per case of the labelled sets (default: 200)")
    parser.add_argument("--resamples", type=int, default=1000, help="of obp's bootstrap (default: 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-peers", action="store_true", help="measure ours and the normal interval only")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    start, peer = time.perf_counter(), find_peer(skip=options.skip_peers)
    try:
        grid = measure_grid(repetitions=options.repetitions, peer=peer, resamples=options.resamples, seed=options.seed)
    except Unable as problem:
        print(f"bench.coverage: {problem}", file=sys.stderr)
        return problem.exit_code
    document = {
        "command": "python -m bench.coverage",
        "repetitions": options.repetitions,
        "relogged_repetitions": options.relogged,
        "grid": grid,
        "relogged": measure_relogged(repetitions=options.relogged, seed=options.seed),
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return 0
    show(document)
    print(f"{time.perf_counter() - start:.0f} s; python -m bench.coverage")
    return 0


if __name__ == "__main__":
    sys.exit(main())
