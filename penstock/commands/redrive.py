"""`penstock redrive`: send dead letters back to the requests they were."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.arguments import add_brokers, existing, split_names
from policies.errors import UsageProblem

if TYPE_CHECKING:
    from penstock.output import Report
    from policies.events import Reason
    from serving.redrive import Letters, Redriven
    from serving.settings import ServeSettings
    from serving.transport.kafka_clients import Connection
    from serving.transport.kafka_reader import TopicReader
    from serving.transport.kafka_redrive import Requests

HELP = "send dead letters back to be decided"
DESCRIPTION = """\
Send the original bytes of dead letters back to the topic of requests, once each over any number of runs; the header
penstock-redriven counts their returns. Cut originals and letters of the join stay. With --from, the letters of a
dead-letters.jsonl; a file keeps no positions, so that each run sends all of it."""
EXAMPLE = "penstock redrive --brokers localhost:9092 --reason unknown_domain --dry-run"


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add which letters and from where."""
    add_brokers(parser)
    parser.add_argument("--reason", metavar="R,...", type=split_names, default=[], help="reasons (default: all)")
    parser.add_argument("--from", metavar="FILE", dest="file", type=Path, help="dead letters as JSON lines")
    parser.add_argument("--again", action="store_true", help="those that were redriven before, too")
    parser.add_argument("--dry-run", action="store_true", help="only count")


def run(arguments: argparse.Namespace) -> "Report":
    """Redrive and report."""
    from penstock.brokers import broker_settings, connect
    from serving.redrive import redrive
    from serving.transport.kafka_clients import Timing
    from serving.transport.kafka_reader import reading

    reasons = _reasons(arguments.reason)
    settings = broker_settings(arguments)
    connection = connect(settings, verb="redrive")
    with reading(connection, timing=Timing()) as reader:
        requests = None if arguments.dry_run else _requests(arguments, reader, settings, connection)
        try:
            letters = _letters(arguments, reader, settings, requests)
            redriven = redrive(letters, reasons=reasons, is_dry=arguments.dry_run)
        finally:
            if requests is not None:
                requests.close()
    return _report(redriven, is_dry=arguments.dry_run)


def _reasons(names: Sequence[str]) -> "list[Reason]":
    from serving.transport.kafka_redrive import REASONS

    unknown = [name for name in names if name not in REASONS]
    if unknown:
        raise UsageProblem(f"--reason: there is no reason {unknown[0]!r}; there are {', '.join(REASONS)}")
    return [reason for reason in REASONS if reason in names]


def _requests(
    arguments: argparse.Namespace, reader: "TopicReader", settings: "ServeSettings", connection: "Connection"
) -> "Requests":
    from serving.transport.kafka_reader import find_domains
    from serving.transport.kafka_redrive import Requests
    from serving.transport.kafka_topics import topic_name

    domains = find_domains(reader.topics(), prefix=settings.prefix, last="requests", named=arguments.domain)
    topics = [topic_name(settings.prefix, domain, "requests") for domain in domains]
    partitions = {topic: len(reader.places(topic)) for topic in topics}
    return Requests(connection, prefix=settings.prefix, group=settings.group, partitions=partitions)


def _letters(
    arguments: argparse.Namespace, reader: "TopicReader", settings: "ServeSettings", requests: "Requests | None"
) -> "Letters":
    from serving.redrive import LettersOfLines
    from serving.transport.kafka_reader import find_domains
    from serving.transport.kafka_redrive import KafkaLetters
    from serving.transport.kafka_topics import topic_name
    from serving.verify import read_lines

    if arguments.file is not None:
        path = existing(arguments.file, what="dead letters")
        deliver = None if requests is None else partial(requests.deliver, positions={}, group=settings.group)
        return LettersOfLines(partial(read_lines, path), deliver=deliver)
    domains = find_domains(reader.topics(), prefix=settings.prefix, last="dead-letters", named=arguments.domain)
    places = [
        place for domain in domains for place in reader.places(topic_name(settings.prefix, domain, "dead-letters"))
    ]
    return KafkaLetters(reader, places=places, group=settings.group, requests=requests, again=arguments.again)


def _report(redriven: "Redriven", *, is_dry: bool) -> "Report":
    from penstock.output import Report, Table

    fates = redriven.fates
    sent = "would go back" if is_dry else "went back"
    text: list[str | Table] = [
        f"{fates['redriven']} dead letters {sent}, {fates['cut']} are cut, {fates['no_request']} answer no request"
    ]
    if redriven.by_reason:
        rows = [(reason, str(count)) for reason, count in sorted(redriven.by_reason.items())]
        text.append(Table(columns=("reason", "letters"), rows=rows, numbers=frozenset({"letters"})))
    result = {
        "redriven": fates["redriven"], "cut": fates["cut"], "no_request": fates["no_request"],
        "by_reason": dict(redriven.by_reason), "dry_run": is_dry,
    }  # fmt: skip
    return Report(result=result, text=text)
