"""Tables of a run, as Markdown: the medians of repeated runs, and all that was lost or doubled in any of them."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final

from bench.serving.contenders import Contender
from bench.serving.figures import CatchUp, Latency

LOAD: Final = "load before, other work's cores"


def catch_up_table(runs: Sequence[CatchUp], contenders: Sequence[Contender], *, ceiling: Mapping[str, float]) -> str:
    """Return what a decision costs each contender that catches up; its own start is not in it.

    `ceiling` is the µs of codec and graph alone by the size of the batch; all are compared with the cheapest.
    """
    head = (
        "",
        "guarantee",
        "µs CPU per decision",
        "ratio to ceiling",
        "decisions per CPU-s",
        "per s, start included",
        "answer B",
    )
    ceiling_us = min(ceiling.values())
    rows = [
        [f"ceiling, batches of {size}", "codec and graph alone", *_cost([us], ceiling_us), *[""] * 5]
        for size, us in ceiling.items()
    ]
    for contender in contenders:
        own = [run for run in runs if run.contender == contender.name]
        if not own:
            continue
        us = [run.us_per_decision for run in own]
        rows.append(
            [
                contender.name,
                contender.guarantee,
                *_cost(us, ceiling_us),
                _count(median(run.requests / run.wall_s for run in own)),
                _count(median(run.answer_bytes for run in own)),
                *_judged(own),
            ]
        )
    return _table([*head, "missing", "double", LOAD], rows)


def latency_table(runs: Sequence[Latency], contenders: Sequence[Contender]) -> str:
    """Return how long each contender takes at each rate, what it takes for it, and how its memory went."""
    head = ("", "rate/s", "p50 ms", "p99 ms", "largest ms", "CPU, % of a core", "RSS MiB", "MiB/min")
    rows = []
    for contender in contenders:
        for rate in sorted({run.rate for run in runs}):
            own = [run for run in runs if (run.contender, run.rate) == (contender.name, rate)]
            if own:
                rows.append([contender.name, _count(rate), *_latency_cells(own), *_judged(own)])
    tail = ("generator late p99 ms", "generator, reader CPU %", "missing", "double", LOAD)
    return _table([*head, *tail], rows)


def notes(failed: Mapping[str, str], absent: Mapping[str, str]) -> str:
    """Return what did not run, and why."""
    lines = [f"- {name} did not take part: {reason}" for name, reason in absent.items()]
    return "\n".join([*lines, *(f"- {name} failed: {reason}" for name, reason in failed.items())])


def _cost(us: Sequence[float], ceiling_us: float) -> list[str]:
    """Return the cost of a decision, its ratio to the ceiling, and decisions per CPU-second."""
    return [_middle(us, _number), _number(median(us) / ceiling_us), _count(1e6 / median(us))]


def _latency_cells(own: Sequence[Latency]) -> list[str]:
    late = max(run.lag_p99_ms for run in own)
    return [
        _middle([run.p50_ms for run in own], _number),
        _middle([run.p99_ms for run in own], _number),
        _number(max(run.max_ms for run in own)),
        _number(100 * median(run.cpu_share for run in own)),
        _number(median(run.rss_mib for run in own)),
        _number(median(run.rss_mib_per_min for run in own)),
        _number(late) if all(run.is_on_time for run in own) else f"**{_number(late)}**: behind",
        " ".join(
            _number(100 * median(share))
            for share in ([run.generator_cpu_share for run in own], [run.reader_cpu_share for run in own])
        ),
    ]


def _judged(own: Sequence[CatchUp] | Sequence[Latency]) -> list[str]:
    """Return what was lost and doubled in all runs, in bold where it is not nothing; and the busiest of them."""
    lost = [f"**{count}**" if count else "0" for count in (sum(r.missing for r in own), sum(r.double for r in own))]
    loads = [run.load for run in own]
    before, others = max(load.before for load in loads), max(load.other_cores for load in loads)
    return [*lost, f"{before:.1f}, {others:.2f}"]


def _middle(values: Sequence[float], write: Callable[[float], str]) -> str:
    """Return the median, and the range of repeated runs."""
    if len(values) == 1:
        return write(values[0])
    return f"{write(median(values))} ({write(min(values))} to {write(max(values))})"


def _number(value: float) -> str:
    """Write three digits that count.

    >>> [_number(value) for value in (0.123, 1.234, 12.34, 123.4, 12345.6)]
    ['0.12', '1.23', '12.3', '123', '12,346']
    """
    if abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
