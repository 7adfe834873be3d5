"""One worker as a process that says "sent" in the midst of a transaction, where a test stops it.

python -m tests.helpers.kafka_pausable (naive|guarded|librdkafka) HOST:PORT PREFIX
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from kafka.errors import KafkaError

from serving.transport.kafka_clients import Timing
from tests.contracts.transport_suite import settle_all
from tests.helpers.kafka_topics import Topics
from tests.helpers.naive_kafka_loop import NaiveLoop

TRANSACTION_TIMEOUT_MS: Final = 3_000
COUNT: Final = 4


def say(word: str) -> None:
    """Tell the test how far this process is."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def be_naive(topics: Topics) -> None:
    """Commit while results linger, so that they are still to be sent after the pause, and say what came of it.

    They linger for longer than any pause: else it is a race whether the sender meets the broker before the commit does.
    """
    producer = {"transaction_timeout_ms": TRANSACTION_TIMEOUT_MS, "linger_ms": 90_000, "batch_size": 100_000}
    loop = NaiveLoop(topics, brokers=topics.bootstrap, producer=producer, pause=partial(wait_at, "before_commit"))
    try:
        loop.decide(loop.poll(count=COUNT))
    except KafkaError as error:
        say(f"raised {type(error).__name__}")
    else:
        say("committed")
        loop.drain()
    loop.close()


def be_guarded(topics: Topics, *, client: str = "python") -> None:
    """Work to the end of the input."""
    transport = topics.open(
        client=client, timing=Timing(transaction_timeout_ms=TRANSACTION_TIMEOUT_MS), faults=partial(wait_at, "sent")
    )
    settle_all(transport)
    transport.close()


def wait_at(place: str, step: str) -> None:
    """Say where in the transaction this process is; the pause of the test begins somewhere in the wait."""
    if step == place:
        say("sent")
        time.sleep(0.5)


if __name__ == "__main__":
    ways: dict[str, Callable[[Topics], None]] = {
        "naive": be_naive,
        "guarded": be_guarded,
        "librdkafka": partial(be_guarded, client="librdkafka"),
    }
    ways[sys.argv[1]](Topics(sys.argv[2], prefix=sys.argv[3]))
