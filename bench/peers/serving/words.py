"""The words that every peer's process takes, and how it is asked to end."""

import argparse
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

BATCH = 500
"""Requests in one transaction at most."""

BACKOFF_MS = 5
"""A transaction starts with an answer to try again shortly; at the clients' 100 ms, waiting would be most of it."""

TRANSACTION_TIMEOUT_MS = 10_000


@dataclass(frozen=True, kw_only=True)
class Words:
    """Say where requests come from, where answers go, under which names, by which graph; and how often to commit."""

    brokers: str
    requests: str
    decisions: str
    group: str
    model: Path
    commit_interval_s: float


def read_words() -> Words:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    for name in ("brokers", "requests", "decisions", "group"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--commit-interval-s", type=float, default=0.05, help="of a framework that has checkpoints")
    return Words(**vars(parser.parse_args()))


def stop_on_sigterm() -> threading.Event:
    """Return what is set when the process is asked to end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    return stop
