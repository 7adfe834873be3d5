"""Which `transaction.version` the brokers of the tests are formatted with; several controls rest on it."""

import os
from typing import Final

NEWEST: Final = 2
"""What Apache Kafka 4.3.1 formats by default."""


def transaction_version() -> int:
    """Return the version of our brokers: the newest, or the one that the environment asks for."""
    return int(os.environ.get("PENSTOCK_TEST_TRANSACTION_VERSION") or NEWEST)


def features() -> list[str]:
    """Return what a broker's folder is formatted with."""
    version = transaction_version()
    return [] if version == NEWEST else ["--feature", f"transaction.version={version}"]
