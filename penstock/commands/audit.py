"""`penstock audit`: does each committed request have exactly one result?"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from penstock.arguments import add_brokers, add_following
from policies.errors import ContentRefused

if TYPE_CHECKING:
    from penstock.output import Report
    from serving.audit import Audited

HELP = "check that each committed request has exactly one result"
DESCRIPTION = """\
Read the positions that a group of workers has committed, then the decisions and dead letters, as a client of its own,
and map each committed request to its results by source. Exit 3 where one is missing or double; the first are named."""
EXAMPLE = "penstock audit --brokers localhost:9092 --prefix penstock --group penstock"

EXIT_UNCLEAN = ContentRefused.exit_code
_ROUND_S = 5.0


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add where to read and how long."""
    add_brokers(parser)
    add_following(parser)


def run(arguments: argparse.Namespace) -> "Report":
    """Audit and report."""
    from penstock.brokers import broker_settings, connect, watched
    from serving.audit import audit
    from serving.transport.kafka_books import KafkaBooks
    from serving.transport.kafka_clients import Timing
    from serving.transport.kafka_reader import find_domains, reading

    settings = broker_settings(arguments)
    connection = connect(settings, verb="audit")
    with watched(arguments, settings) as watch, reading(connection, timing=Timing()) as reader:
        domains = find_domains(reader.topics(), prefix=settings.prefix, last="requests", named=arguments.domain)
        audited = audit(
            KafkaBooks(reader, prefix=settings.prefix, domains=domains, group=settings.group),
            wait=partial(watch.stop.wait, _ROUND_S) if arguments.follow else None,
            metrics=watch.metrics,
            note=watch.progress.come_round,
        )
    return _report(audited)


def _report(audited: "Audited") -> "Report":
    import msgspec

    from penstock.output import Report

    text = [
        f"{audited.requests} committed requests, {audited.results} results: {audited.missing} missing, "
        f"{audited.double} double ({audited.lag} offsets not committed yet)"
    ]
    for what, sources in (("missing", audited.first_missing), ("double", audited.first_double)):
        text += [f"{what}: {source.topic} partition {source.partition} offset {source.offset}" for source in sources]
    code = 0 if audited.is_clean else EXIT_UNCLEAN
    return Report(result=msgspec.to_builtins(audited), text=text, exit_code=code)
