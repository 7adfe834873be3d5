"""Run the command line in a process of its own: the console script `penstock`, and `python -m penstock`."""

import sys
from typing import NoReturn

from penstock.collector import calm_collector
from penstock.main import main


def enter() -> NoReturn:
    """Run one verb and leave with its exit code."""
    calm_collector()
    sys.exit(main())


if __name__ == "__main__":
    enter()
