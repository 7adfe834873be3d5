"""A worker is paused for longer than its transaction may last, as a virtual machine is; nothing else is done to it."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.transport_suite import requests
from tests.helpers.kafka_broker import KafkaBroker
from tests.helpers.kafka_guarded import wait_until
from tests.helpers.kafka_judge import judge, open_transactions
from tests.helpers.kafka_pausable import COUNT
from tests.helpers.kafka_topics import Topics
from tests.helpers.kafka_versions import transaction_version

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("kafka")]

ROOT = Path(__file__).parent.parent.parent.parent


@contextlib.contextmanager
def paused(kind: str, topics: Topics) -> Iterator[Any]:
    """Start a worker and stop it in the midst of its transaction."""
    topics.feed(requests(COUNT))
    command = [sys.executable, "-m", "tests.helpers.kafka_pausable", kind, topics.bootstrap, topics.prefix]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "sent\n"
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_h2_a_pause_is_survived_and_the_naive_loop_loses_what_it_had_sent(
    broker: KafkaBroker, record_property: Callable[[str, object], None]
) -> None:
    """The broker ends the transactions of both while they are paused; it looks for such every ten seconds.

    Before `transaction.version` 2 it refuses the client's new epoch, so that the naive loop is told.
    """
    guarded, naive = Topics(broker.bootstrap), Topics(broker.bootstrap)
    with paused("naive", naive) as loop, paused("guarded", guarded) as worker:
        wait_until(lambda: not open_transactions(broker.bootstrap), timeout_s=40.0)
        for process in (loop, worker):
            process.send_signal(signal.SIGCONT)
        said = loop.stdout.readline().strip()
        assert loop.wait(timeout=30) == 0
        assert worker.wait(timeout=60) == 0
    assert said == ("committed" if transaction_version() == 2 else "raised ProducerFencedError")
    assert judge(naive).missing == COUNT
    assert judge(guarded).is_clean
    record_property("seen", f"naive loop: {said}, 4 of 4 missing; guarded: 0 missing, 0 double")
