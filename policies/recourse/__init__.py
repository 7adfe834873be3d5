"""The step from a proposed action to the nearest feasible one; `contract.py` is the page to read first."""
