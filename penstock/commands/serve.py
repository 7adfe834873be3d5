"""`penstock serve`: decide requests as they come, and join decisions to their outcomes."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.arguments import SECURITY, add_security, add_serving

if TYPE_CHECKING:
    from penstock.output import Report
    from serving.service import Served
    from serving.settings import ServeSettings

HELP = "decide requests as they come, join decisions to outcomes"
DESCRIPTION = """\
Decide requests as they come and join decisions to their outcomes. A folder holds requests.jsonl and outcomes.jsonl;
decisions.jsonl, dead-letters.jsonl and feedback.jsonl appear beside them, each result exactly once over restarts. On
Kafka, topics PREFIX.DOMAIN.requests and .outcomes are read, and .decisions, .dead-letters, .shadow and .feedback
written, each result exactly once whatever dies; workers of one group share the partitions, each under its own name. It
goes on until SIGTERM or Ctrl-C, then ends after the batch in hand; --until-end stops where the inputs end now.

Settings come from defaults < --settings FILE < environment (PENSTOCK_...) < flags."""
EXAMPLE = "penstock serve --artifact demo/artifact --transport file --dir queue --loops decide,join --metrics-port 0"

_SETTINGS = (
    *("artifact", "catalogue", "salt_file", "transport", "dir", "loops", "metrics_port", "follow"),
    "latency_target_ms",
    *("brokers", "prefix", "group", "instance", "transaction_per_partition", "create_topics"),
    *SECURITY,
    "kafka_client",
)


def add_arguments(parser: argparse.ArgumentParser, *, words: Sequence[str]) -> None:
    """Add the settings that are flags; the others are set by file or environment."""
    parser.add_argument("--settings", metavar="FILE", type=Path, help="settings as .toml or .json")
    parser.add_argument("--artifact", metavar="DIR", type=Path, help="the artifact that decides")
    parser.add_argument(
        "--transport", choices=("file", "kafka"), help="where messages come from and go to (default: file)"
    )
    parser.add_argument("--dir", metavar="DIR", type=Path, help="the folder of the file transport")
    parser.add_argument("--loops", metavar="LOOP,...", type=_names, help="decide, join or both (default: decide)")
    parser.add_argument(
        "--metrics-port", metavar="N", help="serve /healthz, /readyz and /metrics there; 0 takes a free port, printed"
    )
    parser.add_argument(
        "--latency-target-ms",
        metavar="MS",
        help="age at its commit that 99 %% of requests are to stay below; larger batches cost less (default: 20)",
    )
    parser.add_argument(
        "--until-end", dest="follow", action="store_const", const=False, help="stop where the inputs end now"
    )
    _add_kafka(parser)
    add_serving(parser)


def _add_kafka(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--brokers", metavar="HOST:PORT,...", type=_names, help="brokers of the kafka transport")
    parser.add_argument("--prefix", metavar="P", help="first part of topic names (default: penstock)")
    parser.add_argument("--group", metavar="G", help="consumer group (default: penstock)")
    parser.add_argument("--instance", metavar="NAME", help="this worker's name in the group (default: the host's)")
    parser.add_argument(
        "--transaction-per-partition",
        action="store_const",
        const=True,
        help="fence by partition, not by worker: a transactional id and a transaction for each (not with the join)",
    )
    parser.add_argument(
        "--kafka-client",
        choices=("python", "librdkafka"),
        help="library to speak to Kafka by; librdkafka needs the extra of that name (default: python)",
    )
    parser.add_argument("--create-topics", action="store_const", const=True, help="create topics that are missing")
    add_security(parser)


def run(arguments: argparse.Namespace) -> "Report":
    """Serve until stopped, and say what came of it."""
    import threading

    from serving.log import set_up_logging
    from serving.service import Service, stop_on_signals
    from serving.settings import read_settings

    flags = {name: getattr(arguments, name) for name in _SETTINGS}
    settings = read_settings(file=arguments.settings, environment=os.environ, flags=flags)
    set_up_logging(level=settings.log_level)
    stop = threading.Event()
    stop_on_signals(stop)

    def announce(port: int) -> None:
        stream = sys.stderr if arguments.json else sys.stdout
        print(f"metrics: http://{settings.metrics_host}:{port}/metrics", file=stream, flush=True)

    return _report(Service(settings, stop=stop).run(announce=announce), settings)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _report(served: "Served", settings: "ServeSettings") -> "Report":
    from penstock.output import Report

    counts = _counts(served.results)
    text = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    result: dict[str, Any] = {**counts, "open_requests": served.open_count, "loops": list(settings.loops)}
    return Report(result=result, text=[f"served: {text}"])


def _counts(results: Mapping[tuple[str, str, str], int]) -> dict[str, int]:
    """Add up results by kind; a fallback is a decision too."""
    by_kind = {"decision": 0, "fallback": 0, "dead_letter": 0}
    for (_, kind, _), count in results.items():
        by_kind[kind] = by_kind.get(kind, 0) + count
    decisions = by_kind["decision"] + by_kind["fallback"]
    return {"decisions": decisions, "dead_letters": by_kind["dead_letter"], "fallbacks": by_kind["fallback"]}
