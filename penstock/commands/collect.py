"""`penstock collect`: decisions and outcomes as Parquet files, each record once, and joined to feedback."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.arguments import add_brokers, add_following, existing, whole_number
from policies.errors import UsageProblem

if TYPE_CHECKING:
    from penstock.output import Report
    from policies.spec import PolicySpec
    from serving.collect import Collected, Joined

HELP = "keep decisions and outcomes as Parquet files, join them to feedback"
DESCRIPTION = """\
Write the records of decisions and outcomes to OUT/TOPIC/PARTITION/FIRST-OFFSET.parquet, each record once over crashes.
Its positions are those of the group G-collect. --join folds all that was collected into one log of feedback; without
--brokers it joins what is there. --compact merges the files of each hour that is over; with --follow this is done every
hour, and partitions that are added are collected, too."""
EXAMPLE = "penstock collect --brokers localhost:9092 --out collected --join feedback.parquet --artifact demo/artifact"

_INPUTS = ("decisions", "outcomes")


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add where to read, where to write, and what to make of it."""
    add_brokers(parser)
    add_following(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder of the files")
    parser.add_argument("--rows-per-file", metavar="N", default="50000", help="rows of a file at most (default: 50000)")
    parser.add_argument("--compact", action="store_true", help="at the end, merge files that begin in the same hour")
    parser.add_argument("--join", metavar="LOG.parquet", type=Path, help="at the end, join all to a log of feedback")
    parser.add_argument("--artifact", metavar="DIR", type=Path, help="whose spec --join reads with")
    parser.add_argument("--spec", metavar="FILE", type=Path, help="the spec, in the place of --artifact")


def run(arguments: argparse.Namespace) -> "Report":
    """Collect, compact and join, as far as each was asked for."""
    import time

    from penstock.brokers import names_brokers
    from penstock.output import Report
    from serving.collect import compact, locked

    spec = None if arguments.join is None else _spec(arguments)
    if not (has_brokers := names_brokers(arguments)) and spec is None and not arguments.compact:
        raise UsageProblem("there is nothing to do: name --brokers to collect from, or --join or --compact")
    result: dict[str, Any] = {}
    text: list[str] = []
    with locked(arguments.out):
        if has_brokers:
            collected = _collect(arguments)
            result |= {"records": dict(collected.records), "files": collected.files}
            if arguments.follow:
                result["merged_files"] = collected.merged
            text.append(f"{collected.records.total()} records in {collected.files} files at {arguments.out}")
        if arguments.compact:
            merged = compact(arguments.out, now=time.time_ns() // 1000)
            result["merged_files"] = result.get("merged_files", 0) + merged
            text.append(f"{result['merged_files']} files merged into others")
        if spec is not None:
            _join(arguments, spec, result, text)
    return Report(result=result, text=text)


def _collect(arguments: argparse.Namespace) -> "Collected":
    import time

    from penstock.brokers import broker_settings, connect, watched
    from serving.collect import Collector, Compaction, Limits
    from serving.transport.kafka_clients import Timing
    from serving.transport.kafka_reader import find_domains, reading
    from serving.transport.kafka_stream import KafkaStream
    from serving.transport.kafka_topics import topic_name

    limits = Limits(rows=whole_number(arguments.rows_per_file, flag="--rows-per-file", least=1))
    settings = broker_settings(arguments)
    connection = connect(settings, verb="collect")
    with watched(arguments, settings) as watch, reading(connection, timing=Timing()) as reader:
        domains = find_domains(reader.topics(), prefix=settings.prefix, last="decisions", named=arguments.domain)
        topics = [topic_name(settings.prefix, domain, last) for domain in domains for last in _INPUTS]
        stream = KafkaStream(reader, topics=topics, group=f"{settings.group}-collect")
        collector = Collector(stream, arguments.out, limits=limits, seconds=time.monotonic, metrics=watch.metrics)
        return collector.run(
            follow=arguments.follow,
            is_stopped=watch.stop.is_set,
            note=watch.progress.come_round,
            tend=Compaction(arguments.out, now=lambda: time.time_ns() // 1000, seconds=time.monotonic).step,
        )


def _spec(arguments: argparse.Namespace) -> "PolicySpec":
    from policies.artifact import load_artifact
    from policies.spec import read_spec

    if (arguments.spec is None) == (arguments.artifact is None):
        raise UsageProblem("--join needs the spec of its domain: --artifact DIR or --spec FILE")
    if arguments.spec is not None:
        return read_spec(arguments.spec)
    return load_artifact(existing(arguments.artifact, what="an artifact")).spec


def _join(arguments: argparse.Namespace, spec: "PolicySpec", result: dict[str, Any], text: list[str]) -> None:
    import os
    import time

    from policies.parquet import write_feedback
    from policies.spec import spec_path_of, spec_to_bytes
    from serving.collect import join

    prefix = arguments.prefix or os.environ.get("PENSTOCK_PREFIX") or "penstock"
    joined = join(arguments.out, stem=f"{prefix}.{spec.domain}", spec=spec, as_of=time.time_ns() // 1000)
    write_feedback(joined.folded.feedback, arguments.join)
    spec_path_of(arguments.join).write_bytes(spec_to_bytes(spec))
    result["join"] = _counts(joined) | {"log": str(arguments.join)}
    text.append(
        f"{len(joined.folded.feedback)} rows of feedback: {arguments.join} ({joined.unreadable} records unreadable)"
    )


def _counts(joined: "Joined") -> dict[str, int]:
    folded = joined.folded
    names = ("late", "conflicts", "duplicates", "decision_conflicts", "orphans", "unnamed", "foreign")
    counts = {name: int(getattr(folded, name)) for name in names}
    return {"rows": len(folded.feedback), "unreadable": joined.unreadable, **counts}
