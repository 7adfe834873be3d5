"""The cycle collector of a process that serves: records hold no cycles, so it need not look for them often."""

import gc

_THRESHOLDS = (50_000, 20, 100)
"""Collections after so many new containers, and so many times rarer for the older ones. Python's own, 700, 10 and 10,
cost a tenth to a fifth of a decision (bench/decide.py)."""


def calm_collector() -> None:
    """Set what was loaded aside for good, and collect rarely from now on; for the start of a process that serves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
