"""From the flags of the verbs around Kafka to settings, a connection, and the metrics of a long run."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.arguments import SECURITY

if TYPE_CHECKING:
    from serving.health import Progress
    from serving.metrics import Metrics
    from serving.settings import ServeSettings
    from serving.transport.kafka_clients import Connection

_FLAGS = ("brokers", "prefix", "group", *SECURITY)


def broker_settings(arguments: argparse.Namespace) -> "ServeSettings":
    """Return the settings that flags, file and environment come to, and set up logging.

    Raises:
        SettingsRefused: a setting is not what it must be, or no brokers are named.
    """
    from serving.log import set_up_logging
    from serving.settings import read_broker_settings

    flags = {name: getattr(arguments, name) for name in (*_FLAGS, "metrics_port") if hasattr(arguments, name)}
    settings = read_broker_settings(file=arguments.settings, environment=os.environ, flags=flags)
    set_up_logging(level=settings.log_level)
    return settings


def names_brokers(arguments: argparse.Namespace) -> bool:
    """Say whether brokers are named anywhere, for verbs that can do without."""
    return arguments.brokers is not None or arguments.settings is not None or "PENSTOCK_BROKERS" in os.environ


def connect(settings: "ServeSettings", *, verb: str) -> "Connection":
    """Return how the brokers are reached, under the verb's name."""
    from serving.transport.kafka_clients import connection_of

    return connection_of(settings, client_id=f"{settings.group}-{verb}")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Hold what a run is watched by: its stop, its metrics, and its progress, which must come round when it follows."""

    metrics: "Metrics"
    progress: "Progress"
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def watched(arguments: argparse.Namespace, settings: "ServeSettings") -> Iterator[Watch]:
    """Count in metrics, serve them where a port is named, and stop on SIGTERM and Ctrl-C when following.

    Raises:
        PortTaken: the port cannot be listened at.
    """
    from prometheus_client import CollectorRegistry

    from serving.health import HealthServer, Progress, Readiness
    from serving.metrics import Metrics
    from serving.service import stop_on_signals

    progress = Progress(arguments.command, clock=time.monotonic, stall_s=settings.stall_s)
    watch = Watch(metrics=Metrics(CollectorRegistry()), progress=progress)
    progress.begin()
    if arguments.follow:
        stop_on_signals(watch.stop)
    if settings.metrics_port is None:
        yield watch
        return
    server = HealthServer(
        port=settings.metrics_port,
        host=settings.metrics_host,
        loops=[progress],
        readiness=Readiness(()),
        registry=watch.metrics.registry,
    )
    stream = sys.stderr if arguments.json else sys.stdout
    print(f"metrics: http://{settings.metrics_host}:{server.port}/metrics", file=stream, flush=True)
    try:
        yield watch
    finally:
        server.close()
