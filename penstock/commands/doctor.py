"""`penstock doctor`: what is wrong here and at the brokers, each finding with its remedy."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.arguments import add_brokers, add_serving
from policies.errors import Unable

if TYPE_CHECKING:
    from penstock.output import Report
    from serving.doctor import Finding

HELP = "find what is wrong here and at the brokers, with the remedy"
DESCRIPTION = """\
Look at this installation, at the artifact or catalogue that is named, and with --brokers at brokers, topics,
permissions, positions, clocks and transactions. Nothing is changed. Exit 4 when something is wrong."""
EXAMPLE = "penstock doctor --artifact demo/artifact --brokers localhost:9092"

EXIT_WRONG = Unable.exit_code


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add what to look at."""
    add_brokers(parser)
    parser.add_argument("--artifact", metavar="DIR", type=Path, help="the artifact that decides")
    add_serving(parser)


def run(arguments: argparse.Namespace) -> "Report":
    """Look at everything and report."""
    import os
    from importlib.metadata import packages_distributions

    from penstock.brokers import names_brokers
    from serving.catalogue import read_salt
    from serving.doctor import check_checksums, check_packages, check_policies, check_telemetry, roots_here

    findings = [
        *check_packages(roots_here(), claims=packages_distributions()),
        check_checksums(),
        check_telemetry(os.environ),
    ]
    salt = read_salt(arguments.salt_file)
    loaded, specs = check_policies(arguments.artifact, arguments.catalogue, salt=salt)
    findings += loaded
    if names_brokers(arguments):
        findings += _at_brokers(arguments, arguments.domain or [spec.domain for spec in specs])
    return _report(findings)


def _at_brokers(arguments: argparse.Namespace, domains: Sequence[str]) -> "list[Finding]":
    import time

    from penstock.brokers import broker_settings, connect
    from serving.transport.kafka_doctor import Names, check_brokers
    from serving.transport.kafka_open import worker_settings

    settings = broker_settings(arguments)
    worker = worker_settings(settings, loop="decide", domains=domains)
    names = Names(prefix=settings.prefix, domains=domains, group=worker.group, transactional_id=worker.transactional_id)
    return check_brokers(connect(settings, verb="doctor"), names, seconds=time.time)


def _report(findings: "Sequence[Finding]") -> "Report":
    import msgspec

    from penstock.output import Report

    text = []
    for finding in findings:
        text.append(f"{finding.state:7}  {finding.check}: {finding.detail}")
        if finding.remedy is not None:
            text.append(f"         remedy: {finding.remedy}")
    count = sum(finding.state == "wrong" for finding in findings)
    text.append(f"{count} wrong of {len(findings)}" if count else "nothing is wrong")
    result = {"findings": msgspec.to_builtins(findings), "wrong": count}
    return Report(result=result, text=text, exit_code=EXIT_WRONG if count else 0)
