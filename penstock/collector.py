"""The cycle collector of our own process: records hold no cycles, so it need not look for them often."""

import gc
from typing import Final

THRESHOLDS: Final = (50_000, 20, 100)
"""Collections after so many new containers, and so many times rarer for the older ones. Python's own, 700, 10 and 10,
cost a tenth to a fifth of a decision (`python -m bench.decide` with and without)."""


def calm_collector() -> None:
    """Collect rarely from now on; for the entry of a process of ours, never for a library's caller."""
    gc.set_threshold(*THRESHOLDS)
