"""Rows per second of IPS + SNIPS + DR with interval, beside obp 0.5.7 on the same arrays in one run.

obp's points and its bootstrap of 1,000 are timed apart. Above 1e6 rows fewer resamples are timed and their time is
scaled to 1,000, which the table says: each resample costs the same. Times are CPU-seconds of one thread without reading
the arrays, the best of three runs (the bootstrap and the command: one run; the command reads its file within
its time); memory is the whole process's peak, arrays and imports included.

    python -m bench.estimates [--rows N ...] [--resamples B] [--skip-peers] [--json]
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.children import ROOT, run_child
from bench.peers.environment import PeerUnavailable, obp_python
from policies.errors import Unable

ROWS: Final = (1_000_000, 10_000_000)
RESAMPLES: Final = 1_000
RESAMPLED_ROWS: Final = 1_000_000_000
"""So many rows are drawn again at most per bootstrap unless --resamples is given: 1,000 resamples of 1e6 rows."""

SAME: Final = 1e-12
LABELS: Final = {
    "columns": "ours, a log's flat columns",
    "dense": "ours, obp's dense arrays",
    "units": "ours, 10 rows per unit, unsorted",
}
COMMAND: Final = (
    "evaluate", "log.npz", "--format", "npz", "--target", "t=columns", "--weight-bound", "20", "--json",
)  # fmt: skip


class PointsDiffer(Unable):
    """Two contenders answer the same question differently, so that their times mean nothing."""


def measure(rows: int, *, peer: Path | None, resamples: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Measure every contender on one log of so many rows.

    Raises:
        ChildFailed: a measurement ended with an error.
        PointsDiffer: the estimates differ by more than 1e-12.
    """
    scratch = ROOT / ".bench"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        run_child([sys.executable, "-m", "bench.bandit_arrays", folder, "--rows", str(rows), "--seed", str(seed)])
        own = {form: _own(folder, form) for form in LABELS}
        command = _command(folder)
        found = None if peer is None else _peer(folder, peer, resamples or _affordable(rows), seed=seed)
    _compare({**own, "command": command} | ({} if found is None else {"obp": found}))
    return {"rows": rows, "seed": seed, "own": own, "command": command, "obp": found}


def _affordable(rows: int) -> int:
    return min(RESAMPLES, max(1, RESAMPLED_ROWS // rows))


def _own(folder: Path, form: str) -> dict[str, Any]:
    child = run_child([sys.executable, "-m", "bench.own_estimates", folder, "--form", form])
    values = {name: one["value"] for name, one in child.document["estimates"].items()}
    return {**child.document, "values": values, "peak_mb": child.peak_mb}


def _command(folder: Path) -> dict[str, Any]:
    """Run `penstock evaluate` from a shell's view: start, imports, reading and checks of the file are in its time."""
    words = [str(folder / word) if word.endswith(".npz") else word for word in COMMAND]
    child = run_child([sys.executable, "-m", "penstock", *words])
    told = [one for one in child.document["result"]["estimates"] if one["target"] == "t"]
    values = {one["estimator"]: one["value"] for one in told if one["estimator"] in ("ips", "snips", "dr")}
    return {"values": values, "cpu_s": child.cpu_s, "wall_s": child.wall_s, "peak_mb": child.peak_mb}


def _peer(folder: Path, python: Path, resamples: int, *, seed: int) -> dict[str, Any]:
    words = ["-W", "ignore", "-m", "bench.peers.obp_estimates", str(folder), "--resamples", str(resamples)]
    child = run_child([python, *words, "--seed", str(seed)])
    document: dict[str, Any] = child.document
    timed = sum(document["bootstrap_cpu_s"].values())
    scaled = timed * RESAMPLES / resamples
    return {**document, "bootstrap_cpu_s_per_1000": scaled, "peak_mb": child.peak_mb}


def _compare(contenders: dict[str, dict[str, Any]]) -> None:
    reference = contenders["columns"]["values"]
    for name, contender in contenders.items():
        for estimator, value in contender["values"].items():
            if not abs(value - reference[estimator]) <= SAME:
                raise PointsDiffer(f"{estimator}: {name} says {value!r}, our columns say {reference[estimator]!r}")


def show(found: dict[str, Any]) -> None:
    """Print one log's table and ratios."""
    rows, own, command, obp = found["rows"], found["own"], found["command"], found["obp"]
    print(f"\n{rows:,} rows, 10 actions, float64: IPS + SNIPS + DR     CPU-s     Mrow/s    peak MB")
    for form, label in LABELS.items():
        _line(f"{label}, with interval", rows, own[form]["cpu_s"], own[form]["peak_mb"])
    _line("ours, penstock evaluate LOG.npz, from start to end", rows, command["cpu_s"], command["peak_mb"])
    if obp is None:
        return
    version, bootstrap = obp["versions"]["obp"], obp["bootstrap_cpu_s_per_1000"]
    timed = "" if obp["resamples"] == RESAMPLES else f" ({obp['resamples']} timed, scaled)"
    _line(f"obp {version}, points alone", rows, obp["points_cpu_s"], obp["points_mb"])
    _line(f"obp {version}, bootstraps of 1,000{timed}", rows, bootstrap, obp["peak_mb"])
    print(
        f"  all points agree to {SAME:g}; obp's imports: {obp['imports_cpu_s']:.1f} CPU-s, {obp['imports_mb']:,.0f} MB"
    )
    for form in ("columns", "dense"):
        ours = own[form]["cpu_s"]
        print(
            f"obp / {LABELS[form]} with interval: points alone {obp['points_cpu_s'] / ours:,.2f}, "
            f"points and intervals {(obp['points_cpu_s'] + bootstrap) / ours:,.0f}{timed}"
        )


def _line(label: str, rows: int, cpu_s: float, peak_mb: float) -> None:
    print(f"  {label:<52} {cpu_s:>9.3f} {rows / cpu_s / 1e6:>10.3f} {peak_mb:>10,.0f}")


def find_peer(*, skip: bool) -> Path | None:
    """Return obp's interpreter, or None after saying why there is nothing to compare with."""
    if skip:
        return None
    try:
        return obp_python()
    except PeerUnavailable as problem:
        print(f"obp is left out, its environment cannot be made: {problem}", file=sys.stderr)
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda word: int(float(word)), nargs="+", default=list(ROWS), help="1e6 1e7")
    parser.add_argument("--resamples", type=int, help="of obp's bootstrap (default: 1,000, fewer above 1e6 rows)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-peers", action="store_true", help="measure ours only")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    peer = find_peer(skip=options.skip_peers)
    try:
        logs = [measure(n, peer=peer, resamples=options.resamples, seed=options.seed) for n in options.rows]
    except Unable as problem:
        print(f"bench.estimates: {problem}", file=sys.stderr)
        return problem.exit_code
    if options.json:
        print(json.dumps({"command": "python -m bench.estimates", "logs": logs}, indent=2))
        return 0
    print("CPU-seconds of one thread; python -m bench.estimates")
    if peer is not None:
        print(", ".join(f"{name} {version}" for name, version in logs[0]["obp"]["versions"].items()))
    for found in logs:
        show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
